"""The most groups with signal that any choice of prompts could have had, knowing every pass rate, under coverage."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import MissingExtra

if TYPE_CHECKING:
    from curri.types import Floats

__all__ = ["Coverage", "best_live_share", "live_chance", "top_tenth"]

_BLOCKS = 100
"""The steps are taken together in at most this many blocks."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a choice has to keep to.

    Attributes:
        top: largest share of all visits that the tenth of the prompts with the most visits may have, in (0, 1].
        least: visits that every prompt has at least.
    """

    top: float = 1.0
    least: int = 0


def live_chance(rates: Floats, group_size: int) -> Floats:
    """The chance that a group has both right and wrong answers: 1 − p^n − (1 − p)^n, shape of ``rates``.

    >>> live_chance(np.array([0.0, 0.5, 1.0]), 2)
    array([0. , 0.5, 0. ])
    """
    return np.asarray(1.0 - rates**group_size - (1.0 - rates) ** group_size)


def top_tenth(prompts: int) -> int:
    """How many prompts are the tenth with the most visits."""
    return max(1, prompts // 10)


def best_live_share(rates: Floats, batch: int, group_size: int = 8, coverage: Coverage = Coverage()) -> float | None:
    """The largest expected share of live groups with every pass rate known, each step a batch of distinct prompts.

    Without constraints it is the mean of the best ``batch`` prompts of every step. With them it is a linear programme
    in how often each prompt is picked in each block of steps; visits may be fractions, which whole ones cannot beat.

    Args:
        rates: pass rates, a row a step, shape (_T, _P).
        batch: picks of a step, in [1, _P].
        group_size: rollouts of a pick.
        coverage: the constraints.

    Returns:
        in [0, 1]; None where nothing keeps to the constraints.

    Raises:
        MissingExtra: scipy is not installed, and there are constraints.

    Example:
        >>> best_live_share(np.array([[0.5, 0.0], [0.5, 0.0]]), 1, group_size=2)
        0.5
        >>> best_live_share(np.array([[0.5, 0.0], [0.5, 0.0]]), 1, 2, Coverage(least=1))  # doctest: +SKIP
        0.25

    """
    live = live_chance(rates, group_size)
    if coverage.top >= 1.0 and coverage.least <= 0:
        best = np.partition(live, live.shape[1] - batch, axis=1)[:, -batch:]
        return float(best.mean())
    return _by_programme(live, batch, coverage)


def _by_programme(live: Floats, batch: int, coverage: Coverage) -> float | None:
    """Variables: visits v of every block and prompt; θ and s ≥ 0 with v_i ≤ θ + s_i, so that k·θ + Σ s is the top's."""
    sparse, linprog = _scipy("sparse"), _scipy("optimize").linprog
    steps, prompts = live.shape
    parts = np.array_split(np.arange(steps), min(steps, _BLOCKS))
    lengths = np.array([part.size for part in parts])
    value = np.stack([live[part].mean(axis=0) for part in parts])
    blocks, visits = lengths.size, lengths.size * prompts
    gain = -np.concatenate([value.ravel(), np.zeros(1 + prompts)])
    each_block = sparse.hstack(
        [sparse.kron(sparse.eye(blocks), np.ones((1, prompts))), sparse.csr_matrix((blocks, 1 + prompts))]
    )
    per_prompt = sparse.kron(np.ones((1, blocks)), sparse.eye(prompts))
    ones = np.ones((prompts, 1))
    above = sparse.hstack([per_prompt, -ones, -sparse.eye(prompts)])
    top = sparse.hstack([sparse.csr_matrix((1, visits)), [[top_tenth(prompts)]], np.ones((1, prompts))])
    enough = sparse.hstack([-per_prompt, sparse.csr_matrix((prompts, 1 + prompts))])
    total = batch * steps
    limits = np.repeat(lengths, prompts)
    bounds = np.column_stack([np.zeros(visits + 1 + prompts), np.r_[limits, np.full(1 + prompts, np.inf)]])
    found: Any = linprog(
        gain,
        A_ub=sparse.vstack([above, top, enough]).tocsr(),
        b_ub=np.r_[np.zeros(prompts), coverage.top * total, np.full(prompts, -float(coverage.least))],
        A_eq=each_block.tocsr(),
        b_eq=batch * lengths,
        bounds=bounds,
        method="highs",
    )
    return float(-found.fun / total) if found.status == 0 else None


def _scipy(part: str) -> Any:
    try:
        return import_module(f"scipy.{part}")
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "the bound with coverage needs scipy, which is not installed", hint="pip install 'curri[mix]'"
        ) from error
