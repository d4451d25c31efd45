"""Advantages of the responses that were kept, from all that were drawn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from curri.types import Floats

__all__ = ["pool_baseline_advantages"]


def pool_baseline_advantages(
    kept_rewards: ArrayLike,
    n_positive: int,
    n_negative: int,
    normalize_std: bool = False,  # noqa: FBT001, FBT002  the design fixes the signature
    pool_rewards: ArrayLike | None = None,
    *,
    lone: str = "reward",
    weight_power: float = 0.0,
    epsilon: float = 1e-6,
) -> Floats:
    """A_i = (r_i - μ) / s for the kept responses of one prompt, with μ and s of its whole pool.

    Reinforce-Ada, arXiv 2510.04996, the "global baseline". A group that was chosen to be balanced says nothing of the
    prompt's pass rate; the pool does. The advantages of a group need not add up to 0: 1 right of 32, kept as 1 + 3,
    gives 0.969 and three times -0.031.

    * As in the authors' code the pool is taken as ``n_positive`` ones and ``n_negative`` zeros. That fits rewards of 0
      and 1 only; for any other scale give ``pool_rewards``, whose mean and standard deviation then count.
    * s is 1 unless ``normalize_std``; then it is max(sd, ε) + ε, with sd the pool's sample standard deviation.
    * A pool of one response has μ = 0 and s = 1 in the code, so its advantage is the raw reward; ``lone="zero"`` is
      the paper's mean of the draws, which gives 0.
    * ``weight_power`` k multiplies by 1 / (p + ε)^k, with p the share of positives. The paper's section 3.2 has k = 1,
      Reinforce-Ada-Est k = 1/2; Algorithm 2, the code and all released results have no weight, k = 0.

    Args:
        kept_rewards: finite, shape (k,).
        n_positive: responses of the whole pool above the threshold, at least 0.
        n_negative: the others, at least 0; together at least k.
        normalize_std: divide by the standard deviation.
        pool_rewards: rewards of the whole pool, finite, shape (n_positive + n_negative,).
        lone: "reward" or "zero".
        weight_power: finite, at least 0.
        epsilon: ε, finite, above 0.

    Returns:
        Advantages, shape (k,).

    Raises:
        InvalidParameter: an argument is out of range.

    Example:
        >>> pool_baseline_advantages([1.0, 0.0, 0.0, 0.0], n_positive=1, n_negative=31)
        array([ 0.96875, -0.03125, -0.03125, -0.03125])
        >>> pool_baseline_advantages([1.0, -1.0], 3, 1, pool_rewards=[1, 1, -1, 1])
        array([ 0.5, -1.5])

    """
    kept = _finite("kept_rewards", kept_rewards)
    positive, negative = _count("n_positive", n_positive), _count("n_negative", n_negative)
    if lone not in {"reward", "zero"}:
        raise InvalidParameter(f'`lone` of `pool_baseline_advantages` must be "reward" or "zero"; got {lone!r}')
    for name, value, fine in (
        ("weight_power", weight_power, 0.0 <= weight_power < math.inf),
        ("epsilon", epsilon, 0.0 < epsilon < math.inf),
    ):
        if isinstance(value, bool) or not fine:
            raise InvalidParameter(f"`{name}` of `pool_baseline_advantages` must be a finite float >= 0; got {value!r}")
    size = positive + negative
    if size < kept.size:
        raise InvalidParameter(f"the pool must hold the {kept.size} kept responses; it has {size}")
    mean, spread = _counted(positive, size) if pool_rewards is None else _measured(pool_rewards, size)
    if size <= 1:
        mean, spread = (mean if lone == "zero" else 0.0), 1.0
    advantages = kept - mean
    if normalize_std:
        advantages /= max(spread, epsilon) + epsilon
    if weight_power and size:
        advantages *= (positive / size + epsilon) ** -weight_power
    return advantages


def _counted(positive: int, size: int) -> tuple[float, float]:
    """Mean and sample standard deviation of ones and zeros."""
    mean = positive / size if size else 0.0
    return mean, math.sqrt(mean * (1.0 - mean) * size / (size - 1)) if size > 1 else 1.0


def _measured(pool_rewards: ArrayLike, size: int) -> tuple[float, float]:
    pool = _finite("pool_rewards", pool_rewards)
    if pool.size != size:
        raise InvalidParameter(
            f"`pool_rewards` must have one entry a response of the pool, {size} in all; got {pool.size}"
        )
    if not size:
        return 0.0, 1.0
    above = pool - pool[0]  # so that equal rewards give exactly their value, and a deviation of exactly 0
    return float(pool[0] + above.mean()), float(above.std(ddof=1)) if size > 1 else 1.0


def _finite(name: str, values: ArrayLike) -> Floats:
    array = np.array(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise InvalidParameter(f"`{name}` of `pool_baseline_advantages` must be finite, shape (k,); got {values!r}")
    return array


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise InvalidParameter(f"`{name}` of `pool_baseline_advantages` must be an int in [0, inf); got {value!r}")
    return int(value)
