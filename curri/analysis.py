"""How hard prompts are for a model: tables from the stored rollouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from curri.errors import InvalidParameter
from curri.estimators import PassRate, arm_priors, expected_rate_score
from curri.pool import PromptPool
from curri.types import Rollouts

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import ArrayLike

    from curri.store import PromptStore
    from curri.types import Bools, Floats, Ints

LIVE_GROUP = 8
"""Responses of the group whose chance to carry signal is shown."""

By: TypeAlias = Literal["arm", "all"]

_PRIOR_COLUMNS = ("arm", "prompts", "responses", "pass_rate")


def estimate(
    store: PromptStore, model: str | None = None, by: By = "arm", prompt_ids: ArrayLike | None = None
) -> pl.DataFrame:
    """How hard each arm is for a model.

    Every figure is of training prompts, retired ones included; null where nothing is known.

    Args:
        store: an open store.
        model: whose rollouts to look at; by default the store's only one.
        by: "arm" for a row an arm, "all" for one row.
        prompt_ids: look at these prompts only; those that are not for training are left out.

    Returns:
        A row an arm, by name, with the columns

        * ``arm``, ``prompts``, ``prompts_rolled_out``, ``responses``;
        * ``mean_reward``: over responses;
        * ``pass_rate``: mean of ``solved``, over the responses that have it;
        * ``posterior_mean``, ``posterior_sd``: of a prompt's pass rate, starting from the spread of its arm (a Beta
          fitted to the arm's prompts), averaged over the prompts with rollouts; the latter says how uncertain a
          single prompt still is;
        * ``live_share``: share of groups of 8 responses that are expected to have any variance in their rewards;
        * ``always_right``, ``always_wrong``: share of the prompts with rollouts that were solved, or failed, every
          time;
        * ``truncated``: share of responses that were cut off.

    Raises:
        UnknownName: the store has no rollouts of that model.
        InvalidInput: it has rollouts of several models, and none was named.
        InvalidParameter: ``by`` is something else.
    """
    if by not in ("arm", "all"):
        raise InvalidParameter(f'`by` of `estimate` must be "arm" or "all"; got {by!r}')
    import polars as pl

    pool, rollouts = _read(store, model, prompt_ids)
    if by == "all":
        pool = PromptPool(pool.ids, ["all"] * len(pool), prior_rate=pool.prior_rate, active=pool.active)
    prompts = _prompts(pool, rollouts)
    n_arms = len(pool.arm_names)
    columns = _arm_columns(prompts, pool.arms.astype(np.int64), n_arms)
    names = pl.Series("arm", list(pool.arm_names), dtype=pl.String)
    return pl.DataFrame([names, *(pl.Series(name, values) for name, values in columns.items())]).fill_nan(None)


def estimate_prompts(store: PromptStore, model: str | None = None, prompt_ids: ArrayLike | None = None) -> pl.DataFrame:
    """How hard each training prompt is for a model.

    Args:
        store: an open store.
        model: whose rollouts to look at; by default the store's only one.
        prompt_ids: look at these prompts only; those that are not for training are left out.

    Returns:
        A row a prompt, by id: ``prompt_id``, ``arm``, ``active``, ``responses``, ``mean_reward``, ``pass_rate``,
        ``posterior_mean``, ``posterior_sd``, ``live_probability`` (of a group of 8) and ``truncated``. Without rollouts
        the posterior is the prior, and the others are null.

    Raises:
        UnknownName: the store has no rollouts of that model.
        InvalidInput: it has rollouts of several models, and none was named.
    """
    import polars as pl

    pool, rollouts = _read(store, model, prompt_ids)
    prompts = _prompts(pool, rollouts)
    return pl.DataFrame(
        {
            "prompt_id": pool.ids,
            "arm": pl.Series(pool.arm_of(np.arange(len(pool))).tolist(), dtype=pl.String),
            "active": pool.active,
            "responses": prompts.responses,
            "mean_reward": _ratio(prompts.reward_sum, prompts.responses),
            "pass_rate": _ratio(prompts.solved_sum, prompts.solved_known),
            "posterior_mean": prompts.mean,
            "posterior_sd": prompts.sd,
            "live_probability": prompts.live,
            "truncated": _ratio(prompts.truncated, prompts.responses),
        }
    ).fill_nan(None)


def estimate_priors(store: PromptStore, prompt_ids: ArrayLike | None = None) -> list[dict[str, Any]]:
    """The imported pass rates of other models, beside which those of :func:`estimate` can be read.

    Args:
        store: an open store.
        prompt_ids: look at these prompts only; those that are not for training are left out.

    Returns:
        One entry a model, by name: ``model``, ``in_use``, ``sources`` (files) and ``arms``: rows with ``arm``,
        ``prompts``, ``responses`` and ``pass_rate`` (over responses).
    """
    known = store.priors.sources()
    if not known:
        return []
    rows = store.priors.by_arm(None if prompt_ids is None else np.asarray(prompt_ids, dtype=np.int64)).to_pylist()
    return [
        {
            "model": entry.model,
            "in_use": entry.in_use,
            "sources": list(entry.sources),
            "arms": [{key: row[key] for key in _PRIOR_COLUMNS} for row in rows if row["model"] == entry.model],
        }
        for entry in known
    ]


def with_priors(store: PromptStore, prompts: pl.DataFrame) -> pl.DataFrame:
    """Rows of :func:`estimate_prompts` with the imported pass rates that are in use.

    Adds ``prior_rate``, ``prior_n`` (the responses it comes from), ``prior_source`` and ``prior_model``; all but the
    last are null where a prompt has none. Without priors in use, the rows stay as they are.
    """
    import polars as pl

    model = store.priors.in_use
    if model is None:
        return prompts
    rates: Any = pl.from_arrow(store.priors.of_prompts(model))
    named = rates.rename({"rate": "prior_rate", "n": "prior_n", "source": "prior_source"})
    return prompts.join(named, on="prompt_id", how="left", maintain_order="left").with_columns(
        prior_model=pl.lit(model)
    )


def _read(store: PromptStore, model: str | None, prompt_ids: ArrayLike | None) -> tuple[PromptPool, Rollouts]:
    pool = store.pool() if prompt_ids is None else store.pool().restricted_to(prompt_ids)
    name = store.rollouts.evidence_model(model)
    if name is None or not len(pool):
        return pool, Rollouts(np.empty(0, dtype=np.int64), np.empty(0))
    rollouts = store.rollouts.read(name, last_id=int(pool.ids[-1]))
    return pool, rollouts if prompt_ids is None else rollouts.take(pool.contains(rollouts.prompt_ids))


@dataclass(frozen=True, eq=False)
class _Prompts:
    """What is known of each prompt; all arrays have shape (_P,)."""

    responses: Ints
    reward_sum: Floats
    solved_known: Ints
    solved_sum: Floats
    truncated: Floats
    always_right: Bools
    always_wrong: Bools
    mean: Floats
    sd: Floats
    live: Floats


def _prompts(pool: PromptPool, rollouts: Rollouts) -> _Prompts:
    rows, size = pool.rows(rollouts.prompt_ids), len(pool)

    def total(weights: Floats | Bools | None = None) -> Floats:
        return np.bincount(rows, weights, size).astype(np.float64)

    known = ~np.isnan(rollouts.solved)
    solved = np.where(known, rollouts.solved, 0.0)
    n_known = total(known)
    priors = arm_priors(pool.arms.astype(np.int64), total(solved), n_known.astype(np.int64), len(pool.arm_names))
    a = priors[pool.arms, 0] + total(solved)
    b = priors[pool.arms, 1] + np.maximum(n_known - total(solved), 0.0)
    return _Prompts(
        responses=total().astype(np.int64),
        reward_sum=total(rollouts.rewards),
        solved_known=n_known.astype(np.int64),
        solved_sum=total(solved),
        truncated=np.zeros(size) if rollouts.truncated is None else total(rollouts.truncated),
        always_right=(n_known > 0) & (total(known & (solved == 1.0)) == n_known),
        always_wrong=(n_known > 0) & (total(known & (solved == 0.0)) == n_known),
        mean=a / (a + b),
        sd=np.sqrt(a * b / (a + b + 1.0)) / (a + b),
        live=_live(rows, rollouts, expected_rate_score("live", a, b, n=LIVE_GROUP)),
    )


def _live(rows: Ints, rollouts: Rollouts, by_rate: Floats) -> Floats:
    """Chance of a live group; of prompts with partial or unknown verdicts by how their groups came out."""
    groups = PassRate(by_rate.size)
    groups.update(rows, rollouts.rewards, rollouts.solved, step=0)
    partial = (rollouts.solved > 0.0) & (rollouts.solved < 1.0)
    by_groups = np.zeros(by_rate.size, dtype=np.bool_)
    by_groups[rows[partial | np.isnan(rollouts.solved)]] = True
    return np.where(by_groups, groups.live_probability(np.arange(by_rate.size), LIVE_GROUP, step=0), by_rate)


def _arm_columns(prompts: _Prompts, arms: Ints, n_arms: int) -> dict[str, Ints | Floats]:
    rolled_out = prompts.responses > 0

    def total(weights: Floats | Ints | Bools) -> Floats:
        return np.bincount(arms, weights, n_arms).astype(np.float64)

    def per_prompt(values: Floats | Bools, where: Bools = rolled_out) -> Floats:
        return _ratio(total(np.where(where, values, 0.0)), total(where))

    responses, judged = total(prompts.responses), prompts.solved_known > 0
    return {
        "prompts": np.bincount(arms, minlength=n_arms).astype(np.int64),
        "prompts_rolled_out": total(rolled_out).astype(np.int64),
        "responses": responses.astype(np.int64),
        "mean_reward": _ratio(total(prompts.reward_sum), responses),
        "pass_rate": _ratio(total(prompts.solved_sum), total(prompts.solved_known)),
        "posterior_mean": per_prompt(prompts.mean),
        "posterior_sd": per_prompt(prompts.sd),
        "live_share": per_prompt(prompts.live),
        "always_right": per_prompt(prompts.always_right, judged),
        "always_wrong": per_prompt(prompts.always_wrong, judged),
        "truncated": _ratio(total(prompts.truncated), responses),
    }


def _ratio(above: Floats, below: Floats | Ints) -> Floats:
    """``above / below``, NaN where that is 0 / 0."""
    return np.where(below > 0, above / np.maximum(below, 1), np.nan)
