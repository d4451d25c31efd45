"""Pass rates of prompts that are known from other models, with their source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from curri.errors import unknown_name
from curri.store import schema

if TYPE_CHECKING:
    from curri.store.connection import Connection
    from curri.types import Floats, Ints

IN_USE = "prior_model"
"""Key of ``meta`` under which the model stands whose priors are in use."""


@dataclass(frozen=True, slots=True)
class PriorSource:
    """What the store knows of one model's pass rates.

    Attributes:
        model: its name.
        prompts: how many of them have a rate.
        responses: how many the rates come from, in all.
        sources: files they were read from.
        in_use: whether they are the ``prior_rate`` of the pool.
    """

    model: str
    prompts: int
    responses: int
    sources: tuple[str, ...]
    in_use: bool


class PriorTable:
    """Priors of one store: one row a (prompt, model), apart from the store's own rollouts.

    Those of one model are in use: they are what ``PromptPool.prior_rate`` says.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def set(self, model: str, prompt_ids: Ints, rates: Floats, n: Ints, *, source: str) -> tuple[int, int]:
        """Set rates of a model, in place of others that it has of the same prompts; equal ones keep their source.

        Args:
            model: its name.
            prompt_ids: known ids, distinct, shape (n,).
            rates: in [0, 1], shape (n,).
            n: responses each comes from, at least 1, shape (n,).
            source: where they were read.

        Returns:
            how many had a rate of this model before, and how many of these another one than now.
        """
        self._make_table()
        rows = pa.table({"i": np.arange(prompt_ids.size), "id": prompt_ids, "new_rate": rates, "new_n": n})
        with self._connection.transaction():
            present = self._connection.arrow(
                """select i, rate != new_rate or n != new_n as differs
                   from asked join priors on prompt_id = id and model = ? order by i""",
                [model],
                asked=rows,
            )
            old = present.column("i").to_numpy()
            changed = old[np.array(present.column("differs").to_pylist(), dtype=np.bool_)]
            if changed.size:
                self._connection.execute(
                    "delete from priors where model = ? and prompt_id in (select unnest(?::bigint[]))",
                    [model, prompt_ids[changed].tolist()],
                )
            write = np.sort(np.concatenate([np.setdiff1d(np.arange(prompt_ids.size), old), changed]))
            columns = {
                "prompt_id": prompt_ids[write],
                "model": pa.array([model] * write.size, pa.string()),
                "rate": rates[write],
                "n": n[write],
                "source": pa.array([source] * write.size, pa.string()),
            }
            self._connection.insert("priors", pa.table(columns))
        return int(old.size), int(changed.size)

    def use(self, model: str) -> int:
        """Make a model's rates the ``prior_rate`` of the pool, in place of another model's; gives how many there are.

        A run that is open keeps the pool it has; it learns of them when it is opened again.

        Raises:
            UnknownName: the store has no priors of that model.
        """
        known = {entry.model for entry in self.sources()}
        if model not in known:
            raise unknown_name("model with priors", model, known, listing="curri priors list")
        before = self.in_use
        with self._connection.all_cores(), self._connection.transaction():
            if before not in (None, model):
                self._connection.execute(
                    """update prompts set prior_rate = null
                       where prompt_id in (select prompt_id from priors where model = ?)""",
                    [before],
                )
            self._connection.execute(
                """update prompts set prior_rate = p.rate from priors p
                   where p.prompt_id = prompts.prompt_id and p.model = ? and prior_rate is distinct from p.rate""",
                [model],
            )
            self._connection.execute("delete from meta where key = ?", [IN_USE])
            self._connection.execute("insert into meta values (?, ?)", [IN_USE, model])
        return int(self._connection.value("select count(*) from priors where model = ?", [model]))

    @property
    def in_use(self) -> str | None:
        """The model whose rates are the pool's, or None."""
        found = self._connection.value("select value from meta where key = ?", [IN_USE])
        return None if found is None else str(found)

    def sources(self) -> list[PriorSource]:
        """What is known of each model, by name."""
        if not self._exists():
            return []
        in_use = self.in_use
        rows = self._connection.rows(
            """select model, count(*), sum(n), list_sort(list(distinct source)) from priors
               group by model order by model"""
        )
        return [
            PriorSource(str(model), int(count), int(n), tuple(sources), model == in_use)
            for model, count, n, sources in rows
        ]

    def by_arm(self, prompt_ids: Ints | None = None) -> pa.Table:
        """Every model's rates, arm by arm.

        Args:
            prompt_ids: count these prompts only; those that are not for training are left out.

        Returns:
            A row a model and arm, by name, with ``model``, ``arm``, ``prompts``, ``responses`` and ``pass_rate`` (over
            responses). The store must have priors.
        """
        wanted = "" if prompt_ids is None else "and prompt_id in (select id from asked)"
        asked = {} if prompt_ids is None else {"asked": pa.table({"id": prompt_ids})}
        return self._connection.arrow(
            f"""select model, a.name as arm, count(*) as prompts, sum(n)::bigint as responses,
                    sum(rate * n) / sum(n) as pass_rate
                from priors join prompts p using (prompt_id) join arms a using (arm_id)
                where (p.split is null or p.split = 'train') {wanted}
                group by model, a.name order by model, a.name""",  # noqa: S608  one of two constants
            **asked,
        )

    def of_prompts(self, model: str) -> pa.Table:
        """A model's rates by id: ``prompt_id``, ``rate``, ``n``, ``source``."""
        return self._connection.arrow(
            "select prompt_id, rate, n, source from priors where model = ? order by prompt_id", [model]
        )

    def _exists(self) -> bool:
        return "priors" in schema.tables(self._connection)

    def _make_table(self) -> None:
        """The table, in a store that was made before there was one."""
        if not self._exists():
            self._connection.execute(f"create table priors ({schema.PRIORS})")
            if not self._connection.in_transaction:
                self._connection.checkpoint()  # a change of tables is not left in the write-ahead log
