"""The default: several surrogates weighed by how well they predict runs that they have not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curri.mixtures.surrogates.base import Surrogate
from curri.mixtures.surrogates.constant import MeanOnly
from curri.mixtures.surrogates.process import GaussianProcess, IsotropicProcess, ShrunkProcess
from curri.mixtures.surrogates.ridge import LinearRidge, LogLinearRidge, QuadraticRidge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    from curri.mixtures.surrogates.sample import Sample
    from curri.types import Floats

__all__ = ["Best", "share_evidence", "stacking_weights"]

MEMBERS: tuple[type[Surrogate], ...] = (
    LinearRidge,
    LogLinearRidge,
    QuadraticRidge,
    IsotropicProcess,
    ShrunkProcess,
    GaussianProcess,
)
"""From stiff to supple: arms that add up, have diminishing returns, act in pairs, or matter in ways of their own."""
PSEUDO_RUNS = 1.0
"""Runs that speak for the members, shared among them, so that none is ruled out by a few runs."""
SHARED_RUNS = 5.0
"""Runs that speak for what suits the other targets of the same mixtures."""
_ROUNDS = 500


class Best(Surrogate):
    """Chosen by leave-one-out predictive likelihood: a mixture of surrogates, each with the weight that earns most.

    p(y) = Σ_k v_k p_k(y), with the v that maximise Σ_i ln Σ_k v_k p_k(y_i, run i left out) + Σ_k c/K·ln v_k: stacking
    of predictive distributions, as if c = 1 more run spoke for all K members alike. With few runs the members share the
    weight, with many it goes to the best one or to those that complement each other. Picking the single best member
    instead is about as good with many clean runs and worse with few or noisy ones, where likelihoods lie close.

    Which member suits depends on the mixtures and on how noisy runs are more than on the target, so where several
    targets are fitted (:func:`share_evidence`), their mean shares count as 5 more runs for each of them.

    Members that need more runs than there are (regressions: two for each parameter) step aside; with none left, the
    mean of the runs answers.

    Args:
        members: classes of surrogates; by default linear, log-linear and quadratic ridge, and three Gaussian processes.
        pseudo_runs: c, at least 0.
    """

    name: ClassVar[str] = "best"
    summary: ClassVar[str] = "the default: ridges and Gaussian processes, weighed by leave-one-out likelihood"

    def __init__(self, *, members: Sequence[type[Surrogate]] = MEMBERS, pseudo_runs: float = PSEUDO_RUNS) -> None:
        super().__init__()
        self.kinds, self.pseudo_runs = tuple(members), pseudo_runs
        self.members: list[Surrogate] = []
        self.shares: Floats = np.zeros(0)

    @classmethod
    def minimum_runs(cls, m: int) -> int:  # noqa: ARG003  the same for any m
        """One mixture; two runs."""
        return 1

    def _fit(self, sample: Sample) -> None:
        self.members = self._fitted_members(sample) or [MeanOnly().fit_sample(sample)]
        self._evidence = np.column_stack([member.leave_one_out_density() for member in self.members])
        self.weigh()

    def weigh(self, prior: Mapping[str, float] | None = None) -> None:
        """Find the members' shares.

        Args:
            prior: runs that speak for each member, by its name, beside the pseudo-runs.
        """
        more = [(prior or {}).get(member.name, 0.0) for member in self.members]
        self.shares = stacking_weights(self._evidence, self.pseudo_runs / len(self.members) + np.array(more))

    def _fitted_members(self, sample: Sample) -> list[Surrogate]:
        found: list[Surrogate] = []
        start = None
        for kind in self.kinds:
            if len(sample) < max(2, kind.trusted_runs(sample.m)):
                continue
            member = kind(start=start) if issubclass(kind, GaussianProcess) else kind()
            found.append(member.fit_sample(sample))
            start = member.theta if isinstance(member, GaussianProcess) else start
        return found

    @property
    def chosen(self) -> str:
        """The member with the largest share."""
        return self.members[int(np.argmax(self.shares))].name if self.members else MeanOnly.name

    def _mean(self, rows: Floats) -> Floats:
        return np.asarray(
            sum(share * member.mean(rows) for share, member in zip(self.shares, self.members, strict=True))
        )

    def _predict(self, rows: Floats) -> tuple[Floats, Floats]:
        parts = [member.predict(rows) for member in self.members]
        return self._mixed([mean for mean, _ in parts], [std**2 for _, std in parts], self.noise_std**2)

    def _mixed(self, means: list[Floats], totals: list[Floats], noise: Floats | float) -> tuple[Floats, Floats]:
        """Mean and variance of the mixture of distributions, less the noise of runs."""
        centres, spreads = np.array(means), np.array(totals)
        mean = self.shares @ centres
        variance = self.shares @ (spreads + (centres - mean) ** 2)
        return mean, np.maximum(variance - noise, 0.0)

    def _joint(self, rows: Floats) -> tuple[Floats, Floats]:
        parts = [member.joint(rows) for member in self.members]
        mean = self.shares @ np.array([found for found, _ in parts])
        covariance = np.zeros((len(rows), len(rows)))
        for share, (centre, spread) in zip(self.shares, parts, strict=True):
            covariance += share * (spread + np.outer(centre - mean, centre - mean))
        return mean, covariance

    def _leave_one_out(self) -> tuple[Floats, Floats]:
        sample = self._fitted()
        parts = [(member._leave_one_out(), member._mean_variance(sample)) for member in self.members]  # noqa: SLF001
        means = [mean for (mean, _), _ in parts]
        totals = [variance + noise for (_, variance), noise in parts]
        return self._mixed(means, totals, self._mean_variance(sample))

    def _noise(self) -> float:
        """The members' noise, by their shares."""
        return float(sum(share * member._noise() for share, member in zip(self.shares, self.members, strict=True)))  # noqa: SLF001

    def _quadratic(self) -> tuple[float, Floats, Floats] | None:
        return self.members[0].quadratic() if len(self.members) == 1 else None

    def _describe(self) -> dict[str, Any]:
        names = [member.name for member in self.members]
        shares = dict(zip(names, self.shares.tolist(), strict=True))
        density = dict(zip(names, self._evidence.mean(axis=0).tolist(), strict=True))
        members = {member.name: member.describe() for member in self.members}
        return {"chosen": self.chosen, "shares": shares, "leave_one_out_density": density, "members": members}


def stacking_weights(density: Floats, pseudo_runs: ArrayLike = 0.0) -> Floats:
    """The v that maximise Σ_i ln Σ_k v_k exp(density_ik) + Σ_k c_k ln v_k, by expectation-maximisation.

    Args:
        density: leave-one-out log densities, shape (runs, members).
        pseudo_runs: c, runs that speak for each member, at least 0, one number or shape (members,).

    Returns:
        Shape (members,), summing to one.

    Example:
        >>> stacking_weights(np.array([[0.0, -1.0]] * 20), 1.0).round(2)
        array([0.93, 0.07])

    """
    relative = np.exp(density - density.max(axis=1, keepdims=True))
    prior = np.broadcast_to(np.asarray(pseudo_runs, dtype=np.float64), density.shape[1:])
    shares = np.full(density.shape[1], 1.0 / density.shape[1])
    for _ in range(_ROUNDS):
        credit = relative * shares
        credit /= credit.sum(axis=1, keepdims=True)
        before = shares
        shares = credit.sum(axis=0) + prior
        shares /= shares.sum()
        if np.abs(shares - before).max() < 1e-9:
            break
    return shares


def share_evidence(fitted: Sequence[Surrogate], shared_runs: float = SHARED_RUNS) -> None:
    """Let the fits of several targets to the same mixtures tell each other which members suit.

    The mean shares of all become pseudo-runs of each. Surrogates that are no :class:`Best`, and targets that are the
    same in all runs, are left as they are.
    """
    fits = [each for each in fitted if isinstance(each, Best) and each.members]
    if len(fits) < 2:
        return
    total: dict[str, float] = {}
    for each in fits:
        for member, share in zip(each.members, each.shares, strict=True):
            total[member.name] = total.get(member.name, 0.0) + float(share) / len(fits)
    for each in fits:
        each.weigh({name: shared_runs * share for name, share in total.items()})
