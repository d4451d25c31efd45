"""The rollouts of a store: one row a response, whoever generated it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidInput, unknown_name
from curri.types import Rollouts

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from curri.store.connection import Connection
    from curri.types import Bools, Floats, Ints, Kind, Strings

BULK = 20_000
"""From this many rows on, storing rollouts uses every core."""

RUN_MODEL = "run:"
"""Model names of rollouts told by a run begin with this."""

UNSCORED = "unscored:"
"""Model names of responses that a verifier gave no score begin with this; they are no evidence."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where rollouts come from.

    Attributes:
        model: name of the model.
        weight_version: of a changing model, or "".
        settings: canonical JSON of the sampling settings, or "".
        verifier: name and version of what scored them, or "".
        run_id: the run that told them, or -1.
    """

    model: str
    weight_version: str = ""
    settings: str = ""
    verifier: str = ""
    run_id: int = -1


class RolloutTable:
    """Rollouts of one store. The key of a response is (prompt, source, sample number)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __len__(self) -> int:
        return int(self._connection.value("select count(*) from rollouts"))

    def source_id(self, source: Source) -> int:
        """The id of a source, made on first use.

        It is looked up every time: one that was remembered could have been rolled back with its transaction.
        """
        values = [source.model, source.weight_version, source.settings, source.verifier, source.run_id]
        found = self._connection.value(
            """select source_id from sources where model = ? and weight_version = ? and settings = ?
               and verifier = ? and run_id = ?""",
            values,
        )
        if found is None:
            found = int(self._connection.value("select coalesce(max(source_id), -1) from sources")) + 1
            self._connection.execute("insert into sources values (?, ?, ?, ?, ?, ?)", [found, *values])
        return int(found)

    def add(self, source: Source, rows: pa.Table) -> int:
        """Add responses in one transaction; those whose key is there already are left out.

        Args:
            source: where they come from.
            rows: columns named like those of the table: ``prompt_id``, ``sample`` and ``reward`` at least, without
                ``source_id``. Keys must be distinct.

        Returns:
            how many were added.
        """
        with self._connection.transaction():
            return self.add_to(self.source_id(source), rows)

    def add_to(self, source_id: int, rows: pa.Table) -> int:
        """The same for a source that is known by its id."""
        cores = self._connection.all_cores() if rows.num_rows >= BULK else contextlib.nullcontext()
        with cores, self._connection.transaction():
            new = self._new(source_id, rows)
            self.append(source_id, new)
        return int(new.num_rows)

    def append(self, source_id: int, rows: pa.Table) -> None:
        """Append responses that are known to be new."""
        import pyarrow as pa

        column = pa.array(np.full(rows.num_rows, source_id, dtype=np.int32))
        self._connection.insert("rollouts", rows.append_column("source_id", column))

    def _new(self, source_id: int, rows: pa.Table) -> pa.Table:
        import pyarrow as pa

        if not self._connection.rows("select 1 from rollouts where source_id = ? limit 1", [source_id]):
            return rows
        keys = pa.table(
            {"i": np.arange(rows.num_rows), "prompt": rows.column("prompt_id"), "nth": rows.column("sample")}
        )
        repeated = self._connection.arrow(
            """select i from keys join rollouts on prompt_id = prompt and sample = nth where source_id = ?""",
            [source_id],
            keys=keys,
        )
        if not repeated.num_rows:
            return rows
        keep = np.ones(rows.num_rows, dtype=np.bool_)
        keep[repeated.column("i").to_numpy()] = False
        return rows.filter(pa.array(keep))

    def next_samples(self, source: Source) -> dict[int, int]:
        """The next free sample number of every prompt that has samples of this source."""
        rows = self._connection.rows(
            "select prompt_id, max(sample) + 1 from rollouts where source_id = ? group by prompt_id",
            [self.source_id(source)],
        )
        return {int(prompt): int(sample) for prompt, sample in rows}

    def counts(self, source_id: int, round_: int, prompt_ids: Ints) -> dict[int, int]:
        """How many responses of a source and round each prompt has; prompts without any are left out."""
        import pyarrow as pa

        if not prompt_ids.size:
            return {}
        table = self._connection.arrow(
            """select prompt_id, count(*) as n from rollouts join asked on prompt_id = asked_id
               where source_id = ? and round = ? group by prompt_id""",
            [source_id, round_],
            asked=pa.table({"asked_id": prompt_ids}),
        )
        return dict(zip(table.column("prompt_id").to_pylist(), table.column("n").to_pylist(), strict=True))

    def rewards_of(self, source_id: int, prompt_ids: Ints, rounds: Ints) -> list[Floats]:
        """For each prompt the rewards of a round."""
        import pyarrow as pa

        asked = pa.table({"place": np.arange(prompt_ids.size), "id": prompt_ids, "number": rounds})
        table = self._connection.arrow(
            """select place, reward from asked join rollouts on prompt_id = id and round = number
               where source_id = ? order by place""",
            [source_id],
            asked=asked,
        )
        bounds = np.searchsorted(table.column("place").to_numpy(), np.arange(1, prompt_ids.size))
        return np.split(table.column("reward").to_numpy(), bounds)

    def known_names(self, source_id: int, prompt_ids: Ints, names: Strings) -> Bools:
        """Which (prompt, rollout id) a source already has, shape of ``names``."""
        import pyarrow as pa

        asked = pa.table(
            {"i": np.arange(names.size), "asked_id": prompt_ids, "name": pa.array(names.tolist(), pa.string())}
        )
        found = self._connection.arrow(
            """select i from asked join rollouts on prompt_id = asked_id and rollout_id = name where source_id = ?""",
            [source_id],
            asked=asked,
        )
        known = np.zeros(names.size, dtype=np.bool_)
        known[found.column("i").to_numpy()] = True
        return known

    def models(self) -> dict[str, int]:
        """Models with scored rollouts that no run told, and how many each has."""
        return self._counted(f"run_id < 0 and not starts_with(model, '{UNSCORED}')")

    def all_models(self) -> dict[str, int]:
        """Models with rollouts, runs' own ("run:NAME") and unscored ones included, and how many each has."""
        return self._counted("true")

    def _counted(self, condition: str) -> dict[str, int]:
        rows = self._connection.rows(
            f"select model, count(*) from rollouts join sources using (source_id) where {condition} "  # noqa: S608
            "group by model order by model"
        )
        return {str(model): int(count) for model, count in rows}

    def evidence_model(self, name: str | None) -> str | None:
        """The model whose rollouts a new run starts from: the one named, or the store's only one, or None.

        Raises:
            UnknownName: there is no such model.
            InvalidInput: none was named and the store has several.
        """
        if name is not None:
            known = self.all_models()
            if name not in known:
                raise unknown_name("model", name, known, listing="curri estimate")
            return name
        models = self.models()
        if len(models) > 1:
            listed = ", ".join(f'"{model}" ({count} responses)' for model, count in models.items())
            raise InvalidInput(
                f"the store has rollouts of {len(models)} models: {listed}",
                hint="say which one to start from: --model NAME (in Python: model=NAME)",
            )
        return next(iter(models), None)

    def read(self, model: str, *, last_id: int, kind: Kind = "train", responses: bool = False) -> Rollouts:
        """All responses of a model and a kind on training prompts up to an id; with their texts where asked for."""
        columns = "r.prompt_id, r.reward, r.solved, r.advantage, r.tokens, r.truncated, r.policy_version"
        columns += ", r.response" if responses else ""
        with self._connection.all_cores():
            table = self._connection.arrow(
                f"""select {columns}
                   from rollouts r join sources s using (source_id) join prompts p using (prompt_id)
                   where s.model = ? and r.prompt_id <= ? and (p.split is null or p.split = 'train')
                     and coalesce(r.probe, false) = ?
                   order by r.prompt_id, r.source_id, r.round, r.sample""",  # noqa: S608  two constants, values bound
                [model, last_id, kind == "probe"],
            )
        return Rollouts(
            prompt_ids=table.column("prompt_id").to_numpy(),
            rewards=table.column("reward").to_numpy(),
            solved=_filled(table, "solved", np.nan),
            advantages=_filled(table, "advantage", np.nan),
            tokens=None if table.column("tokens").null_count else table.column("tokens").to_numpy(),
            truncated=_filled(table, "truncated", fill=False),
            policy_version=_filled(table, "policy_version", -1),
            responses=table.column("response").to_pylist() if responses else None,
            kind=kind,
        )


def occurrence(group: NDArray[np.intp]) -> Ints:
    """For each entry, how often its value came before, shape of ``group``: the numbers of samples of a prompt.

    >>> occurrence(np.array([4, 2, 4, 4]))
    array([0, 0, 1, 2])
    """
    order = np.argsort(group, kind="stable")
    first = np.ones(group.size, dtype=np.bool_)
    first[1:] = group[order][1:] != group[order][:-1]
    starts = np.flatnonzero(first)
    nth = np.empty(group.size, dtype=np.int64)
    nth[order] = np.arange(group.size) - np.repeat(starts, np.diff(starts, append=group.size))
    return nth


def _filled(table: pa.Table, name: str, fill: Any) -> Any:
    return table.column(name).fill_null(fill).to_numpy()
