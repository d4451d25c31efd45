"""How pass rates are spread over the prompts of an arm, as far as few responses a prompt can tell.

Each arm gets a Beta distribution of pass rates that is fitted to it (empirical Bayes), and each prompt the posterior
that follows from it and from its own responses. Counts of prompts are sums of posterior probabilities: a prompt with
one right answer of two counts a little everywhere, not wholly at 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from curri.estimators import arm_priors, beta_below, expected_rate_score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from curri.reports.difficulty.evidence import Evidence
    from curri.types import Bools, Floats, Ints

__all__ = ["Posteriors", "edge_of_signal", "fit", "least_signal", "live_share"]


def least_signal(group_size: int) -> float:
    """Half of the chance of signal that a prompt has which is solved half of the time: (1 - 2^(1-n)) / 2.

    >>> least_signal(8)
    0.49609375
    """
    return float((1.0 - 2.0 ** (1 - group_size)) / 2.0)


def edge_of_signal(group_size: int) -> float:
    """The pass rate p > 1/2 above which groups have signal less than half as often as at p = 1/2.

    It solves 1 - p^n - (1-p)^n = (1 - 2^(1-n)) / 2, the left side being the probability that n Bernoulli draws differ;
    below 1 - p it is the same.

    >>> round(edge_of_signal(8), 3), round(edge_of_signal(2), 3)
    (0.918, 0.854)
    """
    low, high, least = 0.5, 1.0, least_signal(group_size)
    for _ in range(60):
        middle = (low + high) / 2.0
        live = 1.0 - middle**group_size - (1.0 - middle) ** group_size
        low, high = (middle, high) if live > least else (low, middle)
    return (low + high) / 2.0


@dataclass(frozen=True, eq=False)
class Posteriors:
    """Beta(a, b) of the pass rate of each prompt, and of each arm's prior.

    Attributes:
        a, b: shape (_P,).
        prior_a, prior_b: shape (_A,).
    """

    a: Floats
    b: Floats
    prior_a: Floats
    prior_b: Floats

    @cached_property
    def distinct(self) -> tuple[Floats, Ints]:
        """Distinct (a, b), shape (k, 2), and which of them each prompt has, shape (_P,)."""
        pairs, place = np.unique(np.column_stack([self.a, self.b]), axis=0, return_inverse=True)
        return pairs, place.reshape(-1).astype(np.int64)

    @property
    def mean(self) -> Floats:
        """Of each prompt."""
        return np.asarray(self.a / (self.a + self.b))

    @property
    def std(self) -> Floats:
        """Of each prompt."""
        total = self.a + self.b
        return np.asarray(np.sqrt((self.a / total) * (self.b / total) / (total + 1.0)))

    def between(self, edges: Sequence[float], rows: Ints) -> Floats:
        """Probability that the pass rate lies between each two neighbours of ``edges``, shape (rows, edges - 1).

        Args:
            edges: ascending; the first is taken as 0 and the last as 1.
            rows: prompts.
        """
        pairs, place = self.distinct
        inner = [beta_below(pairs[:, 0], pairs[:, 1], edge) for edge in edges[1:-1]]
        below = np.column_stack([np.zeros(len(pairs)), *inner, np.ones(len(pairs))])
        return np.asarray(np.maximum(np.diff(below, axis=1), 0.0)[place[rows]])


def fit(evidence: Evidence) -> Posteriors:
    """Fit the spread of each arm as ``curri plan`` does, and update it by each prompt's responses.

    Partly right answers count as that part of a right one. An arm of which nothing is known is taken to be like all.
    """
    pool = evidence.pool
    priors = arm_priors(pool.arms.astype(np.int64), evidence.solved_sum, evidence.known, len(pool.arm_names))
    a = priors[pool.arms, 0] + evidence.solved_sum
    b = priors[pool.arms, 1] + np.maximum(evidence.known - evidence.solved_sum, 0.0)
    return Posteriors(a, b, priors[:, 0], priors[:, 1])


def live_share(posteriors: Posteriors, evidence: Evidence, group_size: int) -> Floats:
    """Probability that the next group of each prompt has signal, shape (_P,).

    Where every response was right or wrong: 1 - (B(a+n, b) + B(a, b+n)) / B(a, b). Elsewhere the rewards are what
    differs, and :func:`_reward_live` goes by their values.
    """
    pairs, place = posteriors.distinct
    live = expected_rate_score("live", pairs[:, 0], pairs[:, 1], n=group_size)[place]
    other = evidence.tried & ~evidence.judged
    if other.any():
        live[other] = _reward_live(evidence, other, group_size)
    return np.clip(live, 0.0, 1.0)


def _reward_live(evidence: Evidence, wanted: Bools, group_size: int) -> Floats:
    """The same from the values of the rewards, for the prompts that are wanted.

    A prompt's rewards are draws from a distribution whose prior is a Dirichlet of total weight 1 over the values its
    arm has seen, in their shares there. A group has no signal if all its draws are equal.
    """
    cells, pool = evidence.cells, evidence.pool
    mine = wanted[cells.rows]
    rows, reward, n = cells.rows[mine], cells.reward[mine], cells.n[mine]
    (arm_keys, arm_sums), (keys, sums) = _tally(pool.arms[rows], reward, n), _tally(rows, reward, n)
    shares = arm_sums / np.bincount(arm_keys[0], arm_sums)[arm_keys[0]]
    prior = shares[_places(arm_keys, (pool.arms[keys[0]], keys[1]))]
    total = evidence.responses[keys[0]].astype(np.float64)
    seen, before, unseen_all = np.ones_like(prior), np.ones_like(prior), np.ones_like(shares)
    for i in range(group_size):
        seen *= (sums + prior + i) / (total + 1.0 + i)
        before *= (prior + i) / (total + 1.0 + i)
        unseen_all *= (shares + i) / (1.0 + i)
    of_arm = np.bincount(arm_keys[0], unseen_all, len(pool.arm_names))
    scale = np.ones(len(pool))
    for i in range(group_size):
        scale *= (1.0 + i) / (evidence.responses + 1.0 + i)
    equal = np.bincount(keys[0], seen - before, len(pool)) + of_arm[pool.arms] * scale
    return np.asarray(1.0 - equal[wanted])


def _tally(owner: Ints, reward: Floats, n: Ints) -> tuple[tuple[Ints, Floats], Floats]:
    """Distinct (owner, reward), ascending, and how many responses each has."""
    order = np.lexsort((reward, owner))
    owner, reward = owner[order], reward[order]
    new = np.ones(owner.size, dtype=np.bool_)
    new[1:] = (owner[1:] != owner[:-1]) | (reward[1:] != reward[:-1])
    starts = np.flatnonzero(new)
    return (owner[starts], reward[starts]), np.add.reduceat(n[order], starts).astype(np.float64)


def _places(keys: tuple[Ints, Floats], wanted: tuple[Ints, Floats]) -> Ints:
    """Where pairs stand among ascending ones that hold all of them."""
    values = np.unique(keys[1])
    codes = keys[0] * values.size + np.searchsorted(values, keys[1])
    return np.searchsorted(codes, wanted[0] * values.size + np.searchsorted(values, wanted[1]))
