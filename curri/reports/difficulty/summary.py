"""How many prompts are too easy, too hard or worth keeping, arm by arm, and how their pass rates are spread."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.reports.difficulty.rates import Posteriors, edge_of_signal, fit, least_signal, live_share
from curri.reports.wording import WIDTH

if TYPE_CHECKING:
    from curri.reports.difficulty.evidence import Evidence
    from curri.types import Bools, Floats

__all__ = ["KINDS", "Summary"]

KINDS = ("hard", "keep", "easy", "flat")
"""Verdicts: "flat" is of prompts whose rewards hardly differ where nobody said what is right."""
EDGES = tuple(np.linspace(0.0, 1.0, 11).round(1).tolist())
SIZES = (2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, eq=False)
class Summary:
    """Everything that follows from the posteriors of the prompts."""

    evidence: Evidence
    group_size: int

    @cached_property
    def posteriors(self) -> Posteriors:
        """Of the pass rate of each prompt."""
        return fit(self.evidence)

    @cached_property
    def live(self) -> Floats:
        """Probability of signal in the next group of each prompt, shape (_P,)."""
        return live_share(self.posteriors, self.evidence, self.group_size)

    @property
    def counted(self) -> Bools:
        """Prompts that verdicts are about: those with rollouts that may still be picked."""
        return self.evidence.tried & self.evidence.pool.active

    @cached_property
    def verdicts(self) -> Floats:
        """Probability of each kind, shape (_P, 4); 0 for prompts without rollouts."""
        evidence = self.evidence
        found = np.zeros((len(evidence.pool), len(KINDS)))
        judged = np.flatnonzero(evidence.judged)
        edge = edge_of_signal(self.group_size)
        if judged.size:
            found[judged, :3] = self.posteriors.between((0.0, 1.0 - edge, edge, 1.0), judged)
        other = evidence.tried & ~evidence.judged
        live = self.live >= least_signal(self.group_size)
        solved = np.nan_to_num(evidence.rate, nan=-1.0)
        found[other & live, 1] = 1.0
        found[other & ~live & (solved >= 0.5), 2] = 1.0
        found[other & ~live & (solved >= 0.0) & (solved < 0.5), 0] = 1.0
        found[other & ~live & (solved < 0.0), 3] = 1.0
        return found

    def totals(self) -> dict[str, Any]:
        """How many prompts are of each kind, with the half-width of a 90 % interval."""
        mine = self.verdicts[self.counted]
        halves = WIDTH * np.sqrt((mine * (1.0 - mine)).sum(axis=0))
        return {
            kind: {"prompts": float(number), "half": float(half)}
            for kind, number, half in zip(KINDS, mine.sum(axis=0), halves, strict=True)
        }

    def arms(self) -> list[dict[str, Any]]:
        """A row an arm, by name."""
        evidence, pool, counted = self.evidence, self.evidence.pool, self.counted
        by_arm = pool.by_arm
        tried, n = by_arm(evidence.tried), by_arm(evidence.responses)
        known = evidence.known > 0
        counted_n = by_arm(counted)
        columns = {
            "prompts": by_arm(pool.active).astype(np.int64),
            "retired": by_arm(~pool.active).astype(np.int64),
            "tried": counted_n.astype(np.int64),
            "responses": n.astype(np.int64),
            "per_prompt": _ratio(n, tried),
            "pass_rate": _ratio(by_arm(evidence.solved_sum), by_arm(evidence.known)),
            "mean_reward": _ratio(by_arm(evidence.reward_sum), n),
            "estimate": _ratio(by_arm(np.where(known & counted, self.posteriors.mean, 0.0)), by_arm(known & counted)),
            "estimate_half": self._half_of_mean(known & counted),
            "live": _ratio(by_arm(np.where(counted, self.live, 0.0)), counted_n),
            "tokens": _ratio(by_arm(evidence.tokens), by_arm(evidence.n_tokens)),
            "truncated": _ratio(by_arm(evidence.truncated), n),
            "prior_alpha": self.posteriors.prior_a,
            "prior_beta": self.posteriors.prior_b,
        }
        for place, kind in enumerate(KINDS):
            columns[kind] = by_arm(np.where(counted, self.verdicts[:, place], 0.0))
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [
            {"arm": name, **dict(zip(columns, row, strict=True))}
            for name, row in zip(pool.arm_names, rows, strict=True)
        ]

    def _half_of_mean(self, wanted: Bools) -> Floats:
        """90 % half-width of the mean pass rate of an arm's prompts: what their own responses leave open."""
        pool = self.evidence.pool
        return _ratio(WIDTH * np.sqrt(pool.by_arm(np.where(wanted, self.posteriors.std**2, 0.0))), pool.by_arm(wanted))

    def histogram(self) -> dict[str, Any] | None:
        """Expected number of prompts in each tenth of the pass rate, in all and by arm; None where none is known."""
        evidence, pool = self.evidence, self.evidence.pool
        rows = np.flatnonzero(self.counted & (evidence.known > 0))
        if not rows.size:
            return None
        mass = self.posteriors.between(EDGES, rows)
        spread = mass * (1.0 - mass)
        arms, n_arms = pool.arms[rows], len(pool.arm_names)

        def summed(values: Floats) -> Floats:
            return np.column_stack([np.bincount(arms, column, n_arms) for column in values.T])

        means, halves = summed(mass), WIDTH * np.sqrt(summed(spread))
        held = np.flatnonzero(np.bincount(arms, minlength=n_arms)).tolist()
        raw, _ = np.histogram(evidence.rate[rows], EDGES)
        return {
            "edges": list(EDGES),
            "prompts": int(rows.size),
            "all": {"mean": means.sum(axis=0), "half": WIDTH * np.sqrt(spread.sum(axis=0)), "raw": raw},
            "arms": [
                {"arm": pool.arm_names[arm], "mean": means[arm], "half": halves[arm], **_per_prompt(evidence, arm)}
                for arm in held
            ],
        }

    def group_sizes(self) -> list[dict[str, Any]]:
        """Expected share of groups without signal, were all counted prompts picked equally often."""
        if not self.counted.any():
            return []
        found = []
        for size in sorted({*SIZES, self.group_size}):
            live = live_share(self.posteriors, self.evidence, size)[self.counted]
            found.append({"size": size, "dead": float(1.0 - live.mean())})
        return found


def _per_prompt(evidence: Evidence, arm: int) -> dict[str, Any]:
    """Rollouts per prompt of an arm: the least, the median and the most."""
    n = evidence.responses[(evidence.pool.arms == arm) & evidence.tried]
    return {"prompts": int(n.size), "least": int(n.min()), "median": float(np.median(n)), "most": int(n.max())}


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan)
