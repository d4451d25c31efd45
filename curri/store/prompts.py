"""The prompts of a store: adding them, looking them up, making a pool of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from curri.errors import InvalidData, InvalidInput, InvalidParameter, UnknownPrompt, shown_some, unknown_name
from curri.pool import PromptPool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from curri.store.connection import Connection
    from curri.store.filters import Filter
    from curri.types import Ints, Prompt

TRAIN_SPLITS = (None, "train")
"""Prompts of any other split are never selected."""

_CHANGED_AT_ONCE = 50_000
"""Prompts of one UPDATE."""


@dataclass(frozen=True, slots=True)
class NewPrompt:
    """A prompt to add.

    Attributes:
        prompt: its text, or canonical JSON of its chat messages.
        is_chat: which of the two.
        answer: reference answer as text, or None.
        arm: name of its distribution.
        external_id: the user's own id, or None.
        metadata: JSON object of all other columns, or "".
        split: None or "train" for training; anything else is kept out of ``select``.
        prior_rate: pass rate known beforehand, or None.
        expected_tokens: expected response length, or None.
        parent_id: the prompt it was evolved from, or None.
        generation: 0 for an original, its parent's plus 1 for an evolved one.
    """

    prompt: str
    is_chat: bool
    answer: str | None
    arm: str
    external_id: str | None = None
    metadata: str = ""
    split: str | None = None
    prior_rate: float | None = None
    expected_tokens: float | None = None
    parent_id: int | None = None
    generation: int = 0

    def digest(self) -> tuple[int, int]:
        """Identity of the prompt: 128 bits of its form, text and answer."""
        hasher = hashlib.blake2b(b"chat" if self.is_chat else b"text", digest_size=16)
        for part in (self.prompt, self.answer):
            data = b"" if part is None else part.encode()
            hasher.update(b"\x00" if part is None else b"\x01" + len(data).to_bytes(8, "little") + data)
        digest = hasher.digest()
        return int.from_bytes(digest[:8], "little", signed=True), int.from_bytes(digest[8:], "little", signed=True)


@dataclass(frozen=True, slots=True)
class Added:
    """What became of prompts handed to ``PromptTable.add``.

    Attributes:
        prompt_ids: id of each, shape (n,); that of the present prompt where it was there already.
        is_new: which were added.
        other_arm: positions of those that are present under another arm; the first arm stays.
        other_split: positions of those that are present in another split; the first split stays.
    """

    prompt_ids: Ints
    is_new: NDArray[np.bool_]
    other_arm: Ints
    other_split: Ints


class Origin(NamedTuple):
    """Where a prompt comes from.

    Attributes:
        parent_id: the prompt it was evolved from, or None.
        generation: 0 for an original.
        split: as it was added.
    """

    parent_id: int | None
    generation: int
    split: str | None


class PromptTable:
    """Prompts of one store."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.version = 0
        """Grows with every change made through this object."""

    def __len__(self) -> int:
        return int(self._connection.value("select count(*) from prompts"))

    @property
    def last_id(self) -> int:
        """The highest prompt id; 0 when there are none."""
        return int(self._connection.value("select coalesce(max(prompt_id), 0) from prompts"))

    def add(self, prompts: Sequence[NewPrompt]) -> Added:
        """Add prompts in one transaction; those already there (same text and answer) stay as they are.

        Raises:
            InvalidData: an arm without a name.
            UnknownPrompt: a parent is not in the store.
        """
        digests = _digests(prompts)
        with self._connection.transaction():
            self._check_parents(prompts)
            first = self.last_id + 1
            present = self._ids_of(digests)
            ids, is_new = _numbered(digests, present, first)
            codes = self._arm_codes([prompt.arm for prompt in prompts])
            if is_new.any():
                self._insert(
                    [prompts[i] for i in np.flatnonzero(is_new).tolist()], digests[is_new], ids[is_new], codes[is_new]
                )
            other_arm, other_split = self._differing(ids, codes, [prompt.split for prompt in prompts])
        self.version += int(is_new.any())
        return Added(ids, is_new, other_arm, other_split)

    def _check_parents(self, prompts: Sequence[NewPrompt]) -> None:
        parents = [prompt.parent_id for prompt in prompts if prompt.parent_id is not None]
        if parents:
            self.refuse_unknown(np.array(parents, dtype=np.int64))
        if any(prompt.generation < 0 for prompt in prompts):
            raise InvalidData(f"a generation is an integer >= 0; got {min(p.generation for p in prompts)}")

    def ids_of(self, prompts: Sequence[NewPrompt]) -> Ints:
        """Ids of prompts by their identity, 0 where there is none, shape (n,)."""
        return self._ids_of(_digests(prompts))

    def _ids_of(self, digests: NDArray[np.int64]) -> Ints:
        """Ids of prompts with these digests, 0 where there is none, shape (n,)."""
        import pyarrow as pa

        asked = pa.table({"i": np.arange(len(digests)), "high": digests[:, 0], "low": digests[:, 1]})
        found = self._connection.arrow(
            "select i, prompt_id from asked join prompts on digest_high = high and digest_low = low", asked=asked
        )
        ids = np.zeros(len(digests), dtype=np.int64)
        ids[found.column("i").to_numpy()] = found.column("prompt_id").to_numpy()
        return ids

    def _arm_codes(self, names: Sequence[str]) -> Ints:
        import pyarrow as pa

        known = dict(self._connection.rows("select name, arm_id from arms"))
        new = [name for name in dict.fromkeys(names) if name not in known]
        for name in new:
            if "\0" in name or not name:
                raise InvalidData(f"an arm needs a name without NUL characters; got {name!r}")
            known[name] = len(known)
        if new:
            codes = np.array([known[name] for name in new], dtype=np.int32)
            self._connection.insert("arms", pa.table({"arm_id": codes, "name": pa.array(new, pa.string())}))
        return np.array([known[name] for name in names], dtype=np.int64)

    def _insert(self, prompts: Sequence[NewPrompt], digests: NDArray[np.int64], ids: Ints, codes: Ints) -> None:
        import pyarrow as pa

        text = pa.string()
        table = pa.table(
            {
                "prompt_id": ids,
                "digest_high": digests[:, 0],
                "digest_low": digests[:, 1],
                "arm_id": codes.astype(np.int32),
                "external_id": pa.array([p.external_id for p in prompts], text),
                "prompt": pa.array([p.prompt for p in prompts], text),
                "is_chat": np.array([p.is_chat for p in prompts]),
                "answer": pa.array([p.answer for p in prompts], text),
                "metadata": pa.array([p.metadata for p in prompts], text),
                "split": pa.array([p.split for p in prompts], text),
                "prior_rate": pa.array([p.prior_rate for p in prompts], pa.float64()),
                "expected_tokens": pa.array([p.expected_tokens for p in prompts], pa.float64()),
                "parent_id": pa.array([p.parent_id for p in prompts], pa.int64()),
                "generation": np.array([p.generation for p in prompts], dtype=np.int32),
                "retired": np.zeros(len(prompts), dtype=np.bool_),
            }
        )
        self._connection.insert("prompts", table)

    def _differing(self, ids: Ints, codes: Ints, splits: list[str | None]) -> tuple[Ints, Ints]:
        """Positions of prompts that are present under another arm, and in another split."""
        import pyarrow as pa

        columns = {"i": np.arange(ids.size), "id": ids, "code": codes, "part": pa.array(splits, pa.string())}
        found = self._connection.arrow(
            """select i, arm_id != code as other_arm, coalesce(split, 'train') != coalesce(part, 'train') as other_split
               from asked join prompts on prompt_id = id
               where arm_id != code or coalesce(split, 'train') != coalesce(part, 'train') order by i""",
            asked=pa.table(columns),
        )
        positions = found.column("i").to_numpy()
        names = ("other_arm", "other_split")
        masks = (found.column(name).to_numpy(zero_copy_only=False).astype(np.bool_) for name in names)
        by_arm, by_split = (positions[mask] for mask in masks)
        return by_arm, by_split

    def pool(self, *, fetch: Callable[[Ints], list[Prompt]] | None = None) -> PromptPool:
        """Every prompt for training, retired ones marked as not active.

        Args:
            fetch: gives the texts of prompt ids.
        """
        columns = self._connection.columns(
            """select prompt_id, arm_id, coalesce(retired, false) as retired, coalesce(generation, 0) as generation,
                      coalesce(prior_rate, 'nan') as prior_rate, coalesce(expected_tokens, 'nan') as expected_tokens
               from prompts
               where split is null or split = 'train'"""
        )  # the pool puts them in order, which takes no time for rows that are
        prior_rate, expected_tokens, generation = (
            columns[name] for name in ("prior_rate", "expected_tokens", "generation")
        )
        return PromptPool(
            columns["prompt_id"],
            columns["arm_id"],
            arm_names=[row[0] for row in self._connection.rows("select name from arms order by arm_id")],
            prior_rate=None if np.isnan(prior_rate).all() else prior_rate,
            expected_tokens=None if np.isnan(expected_tokens).all() else expected_tokens,
            active=~columns["retired"],
            generation=generation if generation.any() else None,
            fetch=fetch,
        )

    def ids_by_external_id(self, names: Sequence[str]) -> dict[str, int]:
        """Prompt ids of the user's own ids; those that are unknown or stand for several prompts are left out."""
        import pyarrow as pa

        asked = pa.table({"name": pa.array(list(dict.fromkeys(names)), pa.string())})
        found = self._connection.arrow(
            """select name, min(prompt_id) as prompt_id from asked join prompts on external_id = name
               group by name having count(*) = 1""",
            asked=asked,
        )
        return dict(zip(found.column("name").to_pylist(), found.column("prompt_id").to_pylist(), strict=True))

    def shared_external_ids(self, after: int) -> tuple[int, str | None]:
        """How many ids of the user's own stand for several prompts, and one of them.

        Args:
            after: only those of prompts with a higher id than this.
        """
        found = self._connection.rows(
            """select count(*), min(external_id) from (
                   select external_id from prompts where external_id in
                       (select external_id from prompts where prompt_id > ? and external_id is not null)
                   group by external_id having count(*) > 1)""",
            [after],
        )
        return int(found[0][0]), found[0][1]

    def ids_by_text(self, texts: Sequence[str]) -> dict[str, int]:
        """Prompt ids of canonical texts; those that are unknown or stand for several prompts are left out."""
        import pyarrow as pa

        asked = pa.table({"text": pa.array(list(dict.fromkeys(texts)), pa.string())})
        found = self._connection.arrow(
            """select text, min(prompt_id) as prompt_id from asked join prompts on prompt = text
               group by text having count(*) = 1""",
            asked=asked,
        )
        return dict(zip(found.column("text").to_pylist(), found.column("prompt_id").to_pylist(), strict=True))

    def texts_present(self, texts: Sequence[str]) -> set[str]:
        """Those canonical texts that some prompt has, whatever its answer."""
        import pyarrow as pa

        asked = pa.table({"text": pa.array(list(dict.fromkeys(texts)), pa.string())})
        found = self._connection.arrow("select distinct text from asked join prompts on prompt = text", asked=asked)
        return set(found.column("text").to_pylist())

    def origins(self, prompt_ids: Ints) -> list[Origin]:
        """Where prompts come from, in the order of ``prompt_ids``.

        Raises:
            UnknownPrompt: an id does not exist.
        """
        import pyarrow as pa

        self.refuse_unknown(prompt_ids)
        asked = pa.table({"i": np.arange(prompt_ids.size), "id": prompt_ids})
        found = self._connection.arrow(
            "select parent_id, generation, split from asked join prompts on prompt_id = id order by i", asked=asked
        )
        return [Origin(row["parent_id"], row["generation"], row["split"]) for row in found.to_pylist()]

    def ancestry(self, prompt_id: int) -> list[int]:
        """A prompt, its parent, and so on up to the original it was evolved from, as ids.

        Raises:
            UnknownPrompt: the id does not exist.
        """
        self.refuse_unknown(np.array([prompt_id]))
        found = self._connection.rows(
            """with recursive line as (
                   select prompt_id, parent_id, 0 as step from prompts where prompt_id = ?
                   union all
                   select p.prompt_id, p.parent_id, step + 1 from line join prompts p on p.prompt_id = line.parent_id
                   where p.prompt_id < line.prompt_id  -- a parent is always older, so a damaged line ends too
               )
               select prompt_id from line order by step""",
            [int(prompt_id)],
        )
        return [int(row[0]) for row in found]

    def evolved(self, creator: str, seed: int, roots: Ints) -> list[tuple[int, int, int]]:
        """Prompts that a creator made with a seed out of originals, as (prompt id, root, step), the oldest first."""
        import pyarrow as pa

        asked = pa.table({"wanted": roots})
        found = self._connection.arrow(
            """select prompt_id, root, step from (
                   select prompt_id, json_extract_string(metadata, '$.evolution.creator') as creator,
                          json_extract_string(metadata, '$.evolution.seed') as seed,
                          try_cast(json_extract_string(metadata, '$.evolution.root') as bigint) as root,
                          try_cast(json_extract_string(metadata, '$.evolution.step') as bigint) as step
                   from prompts where parent_id is not null and json_valid(metadata)
               ) where creator = ? and seed = ? and step is not null and root in (select wanted from asked)
               order by prompt_id""",
            [creator, str(seed)],
            asked=asked,
        )
        return [(row["prompt_id"], row["root"], row["step"]) for row in found.to_pylist()]

    def where(self, condition: str | Filter, *, model: str | None = None) -> Ints:
        """Ids of the prompts that a filter is true of, ascending; ``docs/filters.md`` describes the language.

        Args:
            condition: the filter, such as ``arm == "math" and pass_rate in 0.2..0.8``.
            model: whose rollouts it speaks of; by default the store's only one. Only asked for where it matters.

        Raises:
            FilterError: the filter cannot be read.
            UnknownName: no prompt has a key of the metadata that it names, or there is no such model.
            InvalidInput: the store has rollouts of several models, the filter speaks of them, and none was named.
        """
        from curri.store.filters import PROMPTS, ROLLED_OUT, Filter
        from curri.store.rollouts import RolloutTable

        wanted = Filter.parse(condition) if isinstance(condition, str) else condition
        self._refuse_unknown_keys(wanted.keys)
        clause, values = wanted.sql()
        parameters: list[Any] = [*values]
        source = PROMPTS
        if wanted.needs_rollouts or model is not None:
            parameters = [RolloutTable(self._connection).evidence_model(model), *values]
            source = f"{PROMPTS} {ROLLED_OUT}"
        query = f"select p.prompt_id from {source} where {clause} order by 1"  # noqa: S608  fixed parts, values bound
        with self._connection.all_cores():
            found: Ints = self._connection.arrow(query, parameters).column(0).to_numpy()
        return found

    def _refuse_unknown_keys(self, keys: Sequence[str]) -> None:
        for key in keys:
            if not self._connection.rows(
                """select 1 from prompts where list_contains(json_keys(nullif(metadata, '')), ?)
                   union all (select 1 where not exists (from prompts)) limit 1""",
                [key],
            ):
                known = self._connection.rows(
                    "select distinct unnest(json_keys(metadata)) as key from prompts where metadata != '' order by key"
                )
                raise unknown_name("key of the metadata", key, [str(row[0]) for row in known])

    def retire(self, prompt_ids: Ints) -> int:
        """Take prompts out of every later pick; gives how many were not retired before.

        They stay in the store with all that is known of them, and what is in flight may still be told. A run that is
        open in this process notices at its next round, any other when it is opened.

        Raises:
            UnknownPrompt: an id does not exist; nothing is changed.
        """
        return self._change("retired", prompt_ids, "not retired", value=True)

    def restore(self, prompt_ids: Ints) -> int:
        """Let retired prompts be picked again; gives how many were retired.

        Raises:
            UnknownPrompt: an id does not exist; nothing is changed.
        """
        return self._change("retired", prompt_ids, "retired", value=False)

    def set_split(self, prompt_ids: Ints, split: str) -> int:
        """Move prompts to a split ("train" is what is trained on); gives how many were in another.

        Raises:
            UnknownPrompt: an id does not exist; nothing is changed.
            InvalidParameter: no name for a split.
            InvalidInput: training prompts would leave, and the store has runs, whose states hold them.
        """
        self.check_split(prompt_ids, split)
        return self._change("split", prompt_ids, "coalesce(split, 'train') != ?", [split], value=split)

    def check_split(self, prompt_ids: Ints, split: str) -> None:
        """Refuse what ``set_split`` refuses, and change nothing.

        Raises:
            InvalidParameter, InvalidInput: as ``set_split``.
        """
        if not split or not split.isprintable() or split != split.strip():
            raise InvalidParameter(f'a split needs a name, such as "train" or "eval"; got {split!r}')
        if split in TRAIN_SPLITS or not self._connection.rows("select 1 from runs limit 1"):
            return
        inside = self._connection.arrow("select prompt_id from prompts where coalesce(split, 'train') = 'train'")
        leaving = np.intersect1d(inside.column(0).to_numpy(), prompt_ids)
        if leaving.size:
            raise InvalidInput(
                f'{leaving.size} prompts cannot leave training for "{split}": the store has runs, which hold them',
                hint="retire them, and they are picked no more: curri prompts retire --where …",
            )

    def _change(self, column: str, prompt_ids: Ints, where: str, parameters: Sequence[Any] = (), *, value: Any) -> int:
        """Set a column of those prompts for which it makes a difference; gives their number."""
        ids = np.unique(np.asarray(prompt_ids, dtype=np.int64))
        changed = 0
        with self._connection.transaction():
            self.refuse_unknown(ids)
            for first in range(0, ids.size, _CHANGED_AT_ONCE):
                found = self._connection.rows(
                    f"update prompts set {column} = ? "  # noqa: S608  our own words, values bound
                    f"where prompt_id in (select unnest(?::bigint[])) and {where} returning 1",
                    [value, ids[first : first + _CHANGED_AT_ONCE].tolist(), *parameters],
                )
                changed += len(found)
        self.version += int(changed > 0)
        return changed

    def known(self, prompt_ids: Ints) -> NDArray[np.bool_]:
        """Which ids exist; ids are dense from 1."""
        return (prompt_ids >= 1) & (prompt_ids <= len(self))

    def refuse_unknown(self, prompt_ids: Ints) -> None:
        """Raise :class:`UnknownPrompt` where an id does not exist."""
        missing = np.unique(prompt_ids[~self.known(prompt_ids)])
        if missing.size:
            raise UnknownPrompt(
                f"{missing.size} prompt ids are not in the store of {len(self)} prompts: {shown_some(missing)}",
                hint="`curri select` prints the ids; `curri ingest` adds prompts",
            )


def _digests(prompts: Sequence[NewPrompt]) -> NDArray[np.int64]:
    return np.array([prompt.digest() for prompt in prompts], dtype=np.int64).reshape(-1, 2)


def _numbered(digests: NDArray[np.int64], present: Ints, first: int) -> tuple[Ints, NDArray[np.bool_]]:
    """Ids for all: the present one, or a new one for the first of each unknown digest; and which are new."""
    _, firsts, inverse = np.unique(digests, axis=0, return_index=True, return_inverse=True)
    leader = firsts[inverse.reshape(-1)]
    is_new = (present == 0) & (leader == np.arange(len(digests)))
    ids = present.copy()
    ids[is_new] = first + np.arange(int(is_new.sum()))
    return ids[leader], is_new
