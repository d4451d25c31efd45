"""What is asked of runs, and what was found: one object for ``curri mix fit``, ``optimize`` and ``report``."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidData, InvalidParameter, MissingExtra
from curri.mixtures import SURROGATES, Fits, Recommendation, Target, constraints, expanded_parts, fit, recommend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from curri.mixtures import Constraints, Runs
    from curri.types import Floats

__all__ = ["Limits", "Study", "bounds", "compare_surrogates"]


_SAME = 1e-5
"""Weights that differ by less are the same mixture: files hold them rounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Which mixtures may be recommended; everything by the name of the arm.

    Attributes:
        caps: largest weights.
        floors: smallest weights.
        sizes: prompts in each dataset.
        prompts: prompts that the training run consumes, or None.
        max_epochs: how often a dataset may be gone through, or None for no limit.
        prior: the natural mixture, in any scale, or None.
        kl: λ of the penalty λ·KL(w ‖ prior).
        radius: trust region around the measured mixtures (total variation), or None.
    """

    caps: Mapping[str, float] = field(default_factory=dict)
    floors: Mapping[str, float] = field(default_factory=dict)
    sizes: Mapping[str, float] = field(default_factory=dict)
    prompts: float | None = None
    max_epochs: float | None = None
    prior: Mapping[str, float] | None = None
    kl: float = 0.0
    radius: float | None = None

    def natural(self, arms: Sequence[str]) -> Floats | None:
        """The natural mixture: the prior, else in proportion to the sizes; None where neither is known."""
        given = self.prior
        if given is None:
            given = self.sizes if self.sizes and all(arm in self.sizes for arm in arms) else None
        if given is None:
            return None
        values = np.array([given.get(arm, 0.0) for arm in arms])
        if values.sum() <= 0.0:
            raise InvalidParameter("the natural mixture needs a weight above 0 for one of the arms at least")
        return np.asarray(values / values.sum())

    def constraints(self, runs: Runs) -> Constraints:
        """As the optimiser takes them.

        Raises:
            UnknownName: a name is no arm.
            InvalidParameter: a number is out of range, or no mixture keeps all of them.
        """
        if self.max_epochs is not None and (not self.sizes or self.prompts is None):
            raise InvalidParameter(
                "a limit of epochs needs to know how large the datasets are and how long training is",
                hint="--sizes math=12000,code=8000 --steps 2000 --batch 512",
            )
        limited = self.max_epochs is not None
        return constraints(
            runs.arms,
            caps=self.caps,
            floors=self.floors,
            sizes=self.sizes if limited else None,
            prompts=self.prompts if limited else None,
            max_epochs=self.max_epochs or 1.0,
            prior=self.natural(runs.arms),
            kl=self.kl,
            radius=self.radius,
            metric="tv",
            centres=None if self.radius is None else runs.distinct,
        )


@dataclass(eq=False, kw_only=True)
class Study:
    """Runs with targets, fitted when they are first asked for.

    Attributes:
        runs: mixtures with scores.
        targets: what matters; the first decides.
        surrogate: name of the surrogate.
        limits: which mixtures may be recommended.
        count: candidates to look at.
        guard: how many times the noise a predicted gain must exceed.
        caution: standard deviations taken off a prediction while searching.
        seed: of every random decision.
        tell: called before each long step with what is done of it, of how much (or None), and a few words.
    """

    runs: Runs
    targets: Sequence[Target]
    surrogate: str = "best"
    limits: Limits = field(default_factory=Limits)
    count: int = 5
    guard: float = 1.0
    caution: float = 0.0
    seed: int = 0
    tell: Callable[[int, int | None, str], None] = lambda *_: None

    def __post_init__(self) -> None:
        names = [target.name for target in self.targets]
        if not names:
            raise InvalidParameter("there must be a target: what is to be raised or lowered")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidParameter(f'targets must have distinct names; "{twice[0]}" comes more than once')

    @property
    def deciding(self) -> Target:
        """The target by which mixtures are compared: the first."""
        return self.targets[0]

    @functools.cached_property
    def parts(self) -> list[Target]:
        """The columns that the targets are made of and that are no target themselves."""
        return expanded_parts(self.targets)

    @functools.cached_property
    def everything(self) -> list[Target]:
        """Targets and their parts."""
        return [*self.targets, *self.parts]

    @functools.cached_property
    def fits(self) -> Fits:
        """A surrogate a column."""
        columns = list(dict.fromkeys(part for target in self.targets for part in target.parts))
        return fit(self.runs, self.surrogate, columns=columns, progress=self._tell_of_fit)

    def _tell_of_fit(self, done: int, total: int, column: str) -> None:
        self.tell(done, total if total > 1 else None, f"fitting {column}")

    @functools.cached_property
    def allowed(self) -> Constraints:
        """The limits, as the optimiser takes them."""
        return self.limits.constraints(self.runs)

    @functools.cached_property
    def recommendation(self) -> Recommendation:
        """What to train on, by the deciding target."""
        allowed, fits = self.allowed, self.fits
        self.tell(0, None, "searching for better mixtures")
        return recommend(
            fits,
            self.deciding,
            allowed,
            count=self.count,
            caution=self.caution,
            guard=self.guard,
            seed=self.seed,
        )

    @functools.cached_property
    def natural(self) -> Floats | None:
        """The natural mixture, or None where it is not known."""
        return self.limits.natural(self.runs.arms)

    def difference(self, target: Target, better: Floats, worse: Floats) -> tuple[float, float]:
        """By how much one mixture's mean is predicted to be better than another's, and the deviation of that.

        The best measured mixture counts as it does for the guard, by the deciding target: with a score that is part
        prediction and part what was measured.
        """
        if np.allclose(better, worse, rtol=0.0, atol=_SAME):
            return 0.0, 0.0
        if target.name == self.deciding.name:
            best = self.recommendation.best_measured.weights
            for sign, mixture, other in ((1.0, better, worse), (-1.0, worse, better)):
                if np.array_equal(other, best):
                    (found,) = self.recommendation.compare(mixture)
                    return sign * found.gain, found.gain_std
        means, covariance = self.fits.joint(target, np.vstack([better, worse]))
        variance = covariance[0, 0] + covariance[1, 1] - 2.0 * covariance[0, 1]
        return float(target.sign * (means[0] - means[1])), float(np.sqrt(max(variance, 0.0)))

    def by_arm(self, weights: Floats) -> dict[str, float]:
        """Weights by the name of their arm."""
        return {arm: float(weight) for arm, weight in zip(self.runs.arms, weights, strict=True)}

    def role(self, target: Target) -> str:
        """What a target is here: "decides", "target", or "part" of one."""
        if target.name == self.deciding.name:
            return "decides"
        return "part" if target in self.parts else "target"


def bounds(limits: Limits, arms: Sequence[str]) -> tuple[Floats, Floats]:
    """Floors and caps of a design, epochs included where they are limited."""
    limited = limits.max_epochs is not None
    found = constraints(
        arms,
        caps=limits.caps,
        floors=limits.floors,
        sizes=limits.sizes if limited else None,
        prompts=limits.prompts if limited else None,
        max_epochs=limits.max_epochs or 1.0,
    )
    return found.lower, found.upper


def compare_surrogates(study: Study) -> list[dict[str, Any]]:
    """How well every surrogate predicts left-out runs of the deciding target, or why it cannot be fitted."""
    target = study.deciding
    found: list[dict[str, Any]] = []
    for done, name in enumerate(SURROGATES):
        study.tell(done, len(SURROGATES), f"fitting {name}")
        try:
            fits = fit(study.runs, name, columns=list(target.parts))
        except (InvalidData, MissingExtra) as error:
            found.append({"surrogate": name, "quality": None, "noise": None, "reason": error.message})
            continue
        quality, noise = fits.quality(target), fits.noise(target)
        coverage = {f"{level:g}": share for level, share in quality.coverage.items()}
        found.append(
            {
                "surrogate": name,
                "quality": {**dataclasses.asdict(quality), "coverage": coverage},
                "noise": dataclasses.asdict(noise),
                "reason": None,
            }
        )
    return found
