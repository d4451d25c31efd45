"""What a store holds on some prompts and one model, as arrays: aggregated by DuckDB, never row by row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from curri.reports.difficulty.question import Question
    from curri.store import PromptStore
    from curri.types import Bools, Floats, Ints

__all__ = ["Cells", "Evidence", "Groups", "Pool", "gather"]

_CELLS = """
    select r.prompt_id, r.source_id, s.run_id >= 0 as told, coalesce(r.round, -1) as round,
        coalesce(r.policy_version, -1) as version, r.reward, coalesce(r.solved, 'nan'::double) as solved,
        count(*) as n, sum(coalesce(r.tokens, 0))::bigint as tokens, count(r.tokens) as n_tokens,
        count(*) filter (r.truncated) as truncated
    from rollouts r join sources s using (source_id)
    where s.model = ? and not coalesce(r.probe, false) group by all order by 1, 2, 4, 5, 6, 7"""


@dataclass(frozen=True, eq=False)
class Pool:
    """The training prompts that a report is about, ids ascending; arrays have shape (_P,)."""

    ids: Ints
    arms: Ints
    arm_names: tuple[str, ...]
    active: Bools
    prior_rate: Floats

    def __len__(self) -> int:
        return int(self.ids.size)

    def by_arm(self, values: Any) -> Floats:
        """Sums over the prompts of each arm, shape (_A,)."""
        return np.bincount(self.arms, values, len(self.arm_names)).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Cells:
    """Responses of a prompt that are alike in source, round, version, reward and ``solved``; shape (cells,) each.

    Cells are in the order of prompt, source, round and version. ``solved`` is NaN where it is not known, ``round`` and
    ``version`` are -1 there.
    """

    rows: Ints
    source: Ints
    told: Bools
    round: Ints
    version: Ints
    reward: Floats
    solved: Floats
    n: Ints
    tokens: Ints
    n_tokens: Ints
    truncated: Ints

    @cached_property
    def group_starts(self) -> NDArray[np.intp]:
        """The first cell of each group.

        A group is what one prompt got in one round of a run; of imported rollouts, under one policy version.
        """
        if not self.rows.size:
            return np.empty(0, dtype=np.intp)
        apart = np.ones(self.rows.size, dtype=np.bool_)
        keys = [self.rows, self.source, self.round, np.where(self.told, 0, self.version)]
        apart[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
        return np.flatnonzero(apart)


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of responses, shape (groups,) each.

    Attributes:
        rows: prompts.
        order: policy version, or where none is known the round; -1 where neither is.
        n: responses.
        signal: whether the rewards differ.
        right, wrong: whether all responses are known to be solved, or to have failed.
        tokens: spent on it; n_tokens of its responses say how many.
    """

    rows: Ints
    version: Ints
    round: Ints
    n: Ints
    signal: Bools
    right: Bools
    wrong: Bools
    tokens: Ints
    n_tokens: Ints


@dataclass(frozen=True, eq=False)
class Evidence:
    """Prompts, and what is known of them; arrays have shape (_P,)."""

    pool: Pool
    cells: Cells
    responses: Ints
    reward_sum: Floats
    known: Ints
    solved_sum: Floats
    solved_squares: Floats
    tokens: Ints
    n_tokens: Ints
    truncated: Ints

    @cached_property
    def tried(self) -> Bools:
        """Which prompts have rollouts."""
        return self.responses > 0

    @cached_property
    def judged(self) -> Bools:
        """Which prompts were right or wrong in every response, without anything in between."""
        whole = np.abs(self.solved_squares - self.solved_sum) <= 1e-9 * np.maximum(self.solved_sum, 1.0)
        judged: Bools = self.tried & (self.known == self.responses) & whole
        return judged

    @cached_property
    def rate(self) -> Floats:
        """Share of solved responses, NaN where ``solved`` is not known."""
        return np.where(self.known > 0, self.solved_sum / np.maximum(self.known, 1), np.nan)

    @cached_property
    def mean_reward(self) -> Floats:
        """Mean reward, NaN without rollouts."""
        return np.where(self.tried, self.reward_sum / np.maximum(self.responses, 1), np.nan)

    @cached_property
    def groups(self) -> Groups:
        """The groups that the responses came in."""
        cells, starts = self.cells, self.cells.group_starts

        def total(values: Ints) -> Ints:
            return np.add.reduceat(values, starts) if starts.size else values[:0]

        def low(values: Any) -> Any:
            return np.minimum.reduceat(values, starts) if starts.size else values[:0]

        def high(values: Any) -> Any:
            return np.maximum.reduceat(values, starts) if starts.size else values[:0]

        return Groups(
            rows=cells.rows[starts],
            version=high(cells.version),
            round=cells.round[starts],
            n=total(cells.n),
            signal=low(cells.reward) < high(cells.reward),
            right=low(cells.solved) == 1.0,
            wrong=high(cells.solved) == 0.0,
            tokens=total(cells.tokens),
            n_tokens=total(cells.n_tokens),
        )


def gather(store: PromptStore, question: Question) -> Evidence:
    """Read what is known of the training prompts that a report is about, retired ones included."""
    pool = _pool(store, question.prompt_ids)
    cells = _cells(store, question.model, pool)
    size = len(pool)

    def total(values: Any) -> Floats:
        return np.bincount(cells.rows, values, size).astype(np.float64)

    def count(values: Ints) -> Ints:
        return total(values).astype(np.int64)

    known = ~np.isnan(cells.solved)
    solved = np.where(known, cells.solved, 0.0)
    return Evidence(
        pool=pool,
        cells=cells,
        responses=count(cells.n),
        reward_sum=total(cells.reward * cells.n),
        known=count(np.where(known, cells.n, 0)),
        solved_sum=total(solved * cells.n),
        solved_squares=total(np.square(solved) * cells.n),
        tokens=count(cells.tokens),
        n_tokens=count(cells.n_tokens),
        truncated=count(cells.truncated),
    )


def _pool(store: PromptStore, prompt_ids: Ints | None) -> Pool:
    found = store.connection.arrow(
        """select prompt_id, arm_id, retired, coalesce(prior_rate, 'nan'::double) as prior_rate from prompts
           where coalesce(split, 'train') = 'train' order by prompt_id"""
    )
    names = [str(row[0]) for row in store.connection.rows("select name from arms order by arm_id")]
    ids: Ints = found.column("prompt_id").to_numpy()
    keep = np.ones(ids.size, dtype=np.bool_) if prompt_ids is None else np.isin(ids, prompt_ids)
    codes = found.column("arm_id").to_numpy()[keep]
    held, arms = np.unique(codes, return_inverse=True)
    by_name = sorted(range(held.size), key=lambda place: names[held[place]])
    places = np.empty(held.size, dtype=np.int64)
    places[by_name] = np.arange(held.size)
    return Pool(
        ids=ids[keep],
        arms=places[arms].astype(np.int64),
        arm_names=tuple(names[held[place]] for place in by_name),
        active=~found.column("retired").to_numpy(zero_copy_only=False)[keep],
        prior_rate=found.column("prior_rate").to_numpy()[keep],
    )


def _cells(store: PromptStore, model: str | None, pool: Pool) -> Cells:
    with store.connection.all_cores():
        found = store.connection.arrow(_CELLS, [model])
    columns = {name: found.column(name).to_numpy(zero_copy_only=False) for name in found.column_names}
    ids = columns.pop("prompt_id")
    rows = np.searchsorted(pool.ids, ids)
    inside = rows < len(pool)
    inside[inside] = pool.ids[rows[inside]] == ids[inside]
    return Cells(
        rows=rows[inside].astype(np.int64),
        source=columns["source_id"][inside],
        **{name: columns[name][inside] for name in ("told", "round", "version", "reward", "solved")},
        **{name: columns[name][inside] for name in ("n", "tokens", "n_tokens", "truncated")},
    )
