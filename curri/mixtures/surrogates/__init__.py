"""Surrogates: what the score of a mixture would be, learned from runs."""

from __future__ import annotations

from typing import Any

from curri.errors import unknown_name
from curri.mixtures.surrogates.base import Surrogate, log_density
from curri.mixtures.surrogates.constant import MeanOnly
from curri.mixtures.surrogates.exponential import ExponentialLaw, OlmixLaw
from curri.mixtures.surrogates.process import GaussianProcess, IsotropicProcess, ShrunkProcess
from curri.mixtures.surrogates.quadratic import QuadraticLeastSquares, ScheffeQuadratic
from curri.mixtures.surrogates.ridge import LinearRidge, LogLinearRidge, QuadraticRidge
from curri.mixtures.surrogates.sample import Sample, collapse
from curri.mixtures.surrogates.stack import Best, share_evidence, stacking_weights
from curri.mixtures.surrogates.trees import BoostedTrees

__all__ = [
    "SURROGATES",
    "Best",
    "BoostedTrees",
    "ExponentialLaw",
    "GaussianProcess",
    "IsotropicProcess",
    "LinearRidge",
    "LogLinearRidge",
    "MeanOnly",
    "OlmixLaw",
    "QuadraticLeastSquares",
    "QuadraticRidge",
    "Sample",
    "ScheffeQuadratic",
    "ShrunkProcess",
    "Surrogate",
    "collapse",
    "log_density",
    "make_surrogate",
    "share_evidence",
    "stacking_weights",
]

SURROGATES: dict[str, type[Surrogate]] = {
    kind.name: kind
    for kind in (
        Best,
        MeanOnly,
        LinearRidge,
        LogLinearRidge,
        QuadraticRidge,
        QuadraticLeastSquares,
        ScheffeQuadratic,
        ExponentialLaw,
        OlmixLaw,
        BoostedTrees,
        IsotropicProcess,
        ShrunkProcess,
        GaussianProcess,
    )
}
"""By the name that the command line uses; the default first."""


def make_surrogate(name: str = "best", **settings: Any) -> Surrogate:
    """A fresh surrogate.

    Args:
        name: one of :data:`SURROGATES`.
        **settings: keywords of its class.

    Raises:
        UnknownName: there is none of that name.

    Example:
        >>> make_surrogate("linear").name
        'linear'

    """
    if name not in SURROGATES:
        raise unknown_name("surrogate", name, SURROGATES)
    return SURROGATES[name](**settings)
