"""How large groups should be: what share of them teaches something, and what the rest costs.

A group of n right-or-wrong responses teaches something (is live) if they are not all alike. For a pass rate p that is
1 − p^n − (1−p)^n; the mean over what is believed of a prompt is beta-binomial. What is believed starts, for each arm,
from the spread of pass rates that its prompts show together (:func:`curri.estimators.fit_beta`), not from a uniform
one: after eight wrong answers, a uniform start expects almost half of the next groups of eight to be live, where hard
pools have 3 %.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from curri.errors import InvalidParameter
from curri.estimators import arm_spreads, expected_rate_score, rate_score

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

    from curri.pool import PromptPool
    from curri.store import PromptStore
    from curri.types import Bools, Floats, Ints

LARGEST = 1024
"""Responses of the largest group that is looked at."""

SIZES = (2, 4, 8, 16, 32, 64)

Source: TypeAlias = Literal["rollouts", "priors"]

_OUTCOMES = """
    select r.prompt_id,
        count(*) filter (where r.solved = 1) as right,
        count(*) filter (where r.solved in (0, 1)) as judged,
        count(*) filter (where not isnan(r.solved) and r.solved not in (0, 1)) as partly,
        avg(r.tokens) as tokens
    from rollouts r join sources s using (source_id)
    where s.model = ? and not coalesce(r.probe, false) group by r.prompt_id order by r.prompt_id"""
_PRIORS = "select prompt_id, rate, n from priors where model = ? order by prompt_id"


@dataclass(frozen=True, slots=True)
class Group:
    """What a group size costs.

    Attributes:
        n: responses of a group.
        live: share of the groups that are expected to have right and wrong responses, in [0, 1].
        waste: the others: 1 - live.
        responses_per_live: responses for each live group, n / live; infinite where none is live.
        tokens_per_live: tokens for each live group, None where no length is known.
        waste_tokens: share of the tokens that go into groups without signal, None where no length is known.
    """

    n: int
    live: float
    waste: float
    responses_per_live: float
    tokens_per_live: float | None = None
    waste_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Group sizes for an arm, for all arms, or for one pass rate.

    Attributes:
        name: the arm, or None for all.
        prompts: how many may be picked.
        tried: how many of them have right or wrong responses.
        responses: how many these have.
        pass_rate: share of right ones; None where nothing is known.
        always_right: share of the tried prompts that were right every time.
        always_wrong: share of the tried prompts that were wrong every time.
        tokens: mean length of a response, or None.
        groups: a row a size; empty where nothing is known.
        smallest: the smallest group that reaches the wanted share of live groups; None where none does.
        bound: share of live groups of ``LARGEST`` responses; None where nothing is known.
    """

    name: str | None
    prompts: int
    tried: int
    responses: int
    pass_rate: float | None
    always_right: float | None
    always_wrong: float | None
    tokens: float | None
    groups: tuple[Group, ...]
    smallest: int | None
    bound: float | None


@dataclass(frozen=True, slots=True)
class StorePlan:
    """What :func:`plan` gives.

    Attributes:
        model: whose responses it is made of, or None where there are none.
        source: "rollouts" of that model, or imported "priors" where the store has no rollouts.
        wanted: the share of live groups that was asked for, or None.
        arms: one plan an arm, by name.
        together: all prompts of the arms of which something is known.
        notes: what has to be known to read it.
    """

    model: str | None
    source: Source
    wanted: float | None
    arms: tuple[Plan, ...]
    together: Plan
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "largest": LARGEST}


def plan_rate(pass_rate: float, sizes: Sequence[int] = SIZES, *, live: float | None = None) -> Plan:
    """Group sizes for prompts of one pass rate.

    Args:
        pass_rate: in [0, 1].
        sizes: responses of a group, each in [1, ``LARGEST``].
        live: the wanted share of live groups in (0, 1), or None.

    Raises:
        InvalidParameter: an argument is out of range.

    Example:
        >>> found = plan_rate(0.1, [8], live=0.5)
        >>> round(found.groups[0].live, 3), found.smallest
        (0.57, 7)
    """
    if not 0.0 <= pass_rate <= 1.0:
        raise InvalidParameter(f"`pass_rate` of `plan_rate` must lie in [0, 1]; got {pass_rate!r}")
    _check(sizes, live)

    def live_share(n: int) -> tuple[float, float]:
        share = float(rate_score("live", pass_rate, n=n))
        return share, share

    return Plan(
        name=None, prompts=1, tried=1, responses=0, pass_rate=pass_rate, always_right=float(pass_rate == 1.0),
        always_wrong=float(pass_rate == 0.0), tokens=None, **_curve(live_share, sizes, live, None),
    )  # fmt: skip


def plan(
    store: PromptStore,
    sizes: Sequence[int] = SIZES,
    *,
    live: float | None = None,
    model: str | None = None,
    prompt_ids: ArrayLike | None = None,
) -> StorePlan:
    """Group sizes for the prompts of a store that may be picked, arm by arm and in all.

    Every response counts the same, however old: that the model has changed since is left out. Prompts that were not
    tried are taken to be like those of their arm that were. Arms of which nothing is known are left out of the whole.

    Args:
        store: an open store.
        sizes: responses of a group, each in [1, ``LARGEST``].
        live: the wanted share of live groups in (0, 1), or None.
        model: whose responses to go by; by default the store's only one. A store without rollouts goes by the imported
            pass rates that are in use.
        prompt_ids: look at these prompts only.

    Raises:
        UnknownName: the store has no rollouts of that model.
        InvalidInput: it has rollouts of several models, and none was named.
        InvalidParameter: a size or a share is out of range.
    """
    _check(sizes, live)
    pool = store.pool() if prompt_ids is None else store.pool().restricted_to(prompt_ids)
    name = store.rollouts.evidence_model(model)
    source: Source = "rollouts"
    if name is None and store.priors.in_use is not None:
        name, source = store.priors.in_use, "priors"
    known = _known(store, pool, name, source)
    spreads = arm_spreads(known.arms, known.right, known.judged, len(pool.arm_names))
    plans = [
        _plan_of(known.of(known.arms == arm), [spreads[arm]], sizes, live, str(arm_name))
        for arm, arm_name in enumerate(pool.arm_names)
    ]
    together = _plan_of(known.of(np.isin(known.arms, [*_with_spread(spreads)])), spreads, sizes, live, None)
    notes = _notes(known, plans, source)
    return StorePlan(name, source, live, tuple(each for each in plans if each.prompts), together, notes)


# ---- what is known --------------------------------------------------------------------------------------------------


class _Known(NamedTuple):
    """What is known of the prompts that may be picked, shape (_P,) each; one that was not tried has ``judged`` 0."""

    arms: Ints
    right: Ints
    judged: Ints
    partly: Bools
    tokens: Floats

    def of(self, rows: Bools) -> _Known:
        columns: list[Any] = [column[rows] for column in self]
        return _Known(*columns)


def _known(store: PromptStore, pool: PromptPool, model: str | None, source: Source) -> _Known:
    right, judged = np.zeros(len(pool), dtype=np.int64), np.zeros(len(pool), dtype=np.int64)
    partly, tokens = np.zeros(len(pool), dtype=np.bool_), np.full(len(pool), np.nan)
    if pool.expected_tokens is not None:
        tokens[:] = pool.expected_tokens
    if model is not None:
        with store.connection.all_cores():
            table = store.connection.arrow(_PRIORS if source == "priors" else _OUTCOMES, [model])
        here = pool.contains(table.column("prompt_id").to_numpy())
        rows = pool.rows(table.column("prompt_id").to_numpy()[here])
        columns = {name: table.column(name).to_numpy()[here] for name in table.column_names}
        if source == "priors":
            judged[rows] = columns["n"]
            right[rows] = np.rint(columns["rate"] * columns["n"])
        else:
            right[rows], judged[rows], partly[rows] = columns["right"], columns["judged"], columns["partly"] > 0
            measured = columns["tokens"].astype(np.float64)
            tokens[rows] = np.where(np.isnan(measured), tokens[rows], measured)
    judged[partly] = right[partly] = 0
    return _Known(pool.arms.astype(np.int64), right, judged, partly, tokens).of(pool.active)


def _with_spread(spreads: Sequence[tuple[float, float] | None]) -> list[int]:
    return [arm for arm, spread in enumerate(spreads) if spread is not None]


def _plan_of(
    known: _Known,
    spreads: Sequence[tuple[float, float] | None],
    sizes: Sequence[int],
    live: float | None,
    name: str | None,
) -> Plan:
    """A plan for some prompts; ``spreads`` has those of their arms, or just the one that they all share."""
    tried = known.judged > 0
    n_tried, responses = int(tried.sum()), int(known.judged.sum())
    tokens = _tokens(known)
    mean_tokens = None if tokens is None else float(tokens.mean())
    empty: dict[str, Any] = {"groups": (), "smallest": None, "bound": None}
    curve = empty if not n_tried else _curve(_live_share(known, spreads, tokens), sizes, live, mean_tokens)
    return Plan(
        name=name,
        prompts=known.arms.size,
        tried=n_tried,
        responses=responses,
        pass_rate=float(known.right.sum() / responses) if responses else None,
        always_right=float((known.right == known.judged)[tried].mean()) if n_tried else None,
        always_wrong=float((known.right == 0)[tried].mean()) if n_tried else None,
        tokens=mean_tokens,
        **curve,
    )


def _tokens(known: _Known) -> Floats | None:
    """Length of each prompt's responses; where it is not known, the mean of the others. None where none is."""
    measured = ~np.isnan(known.tokens)
    return np.where(measured, known.tokens, known.tokens[measured].mean()) if measured.any() else None


def _live_share(
    known: _Known, spreads: Sequence[tuple[float, float] | None], tokens: Floats | None
) -> Callable[[int], tuple[float, float]]:
    """A function of n: the share of live groups, counted by groups and by their tokens."""
    arms = known.arms if len(spreads) > 1 else np.zeros_like(known.arms)
    rows, back = np.unique(np.stack([arms, known.right, known.judged]), axis=1, return_inverse=True)
    given = np.array([spread or (1.0, 1.0) for spread in spreads])[rows[0]]
    alpha, beta = given[:, 0] + rows[1], given[:, 1] + rows[2] - rows[1]
    count = np.bincount(back.ravel(), minlength=alpha.size)
    length = count if tokens is None else np.bincount(back.ravel(), tokens, alpha.size)

    def shares(n: int) -> tuple[float, float]:
        live = expected_rate_score("live", alpha, beta, n=n)
        return float(live @ count / count.sum()), float(live @ length / length.sum())

    return shares


def _curve(
    shares: Callable[[int], tuple[float, float]], sizes: Sequence[int], wanted: float | None, tokens: float | None
) -> dict[str, Any]:
    groups = []
    for n in sizes:
        live, live_tokens = shares(n)
        each = n / live if live > 0.0 else np.inf
        more = {} if tokens is None else {"tokens_per_live": each * tokens, "waste_tokens": 1.0 - live_tokens}
        groups.append(Group(n=int(n), live=live, waste=1.0 - live, responses_per_live=each, **more))
    smallest = None if wanted is None else _smallest(lambda n: shares(n)[0] >= wanted)
    return {"groups": tuple(groups), "smallest": smallest, "bound": shares(LARGEST)[0]}


def _smallest(enough: Callable[[int], bool]) -> int | None:
    """The smallest size that is enough; with n more responses a group is never less often live."""
    if not enough(LARGEST):
        return None
    too_few, fine = 1, LARGEST
    while fine - too_few > 1:
        middle = (too_few + fine) // 2
        too_few, fine = (too_few, middle) if enough(middle) else (middle, fine)
    return fine


def _notes(known: _Known, plans: Sequence[Plan], source: Source) -> tuple[str, ...]:
    notes = ["every response counts the same, however old: that the model changes while it trains is left out"]
    if source == "priors":
        notes.append("the store has no rollouts: these are imported pass rates of another model, taken for its own")
    untried = [each for each in plans if each.prompts and not each.tried]
    if untried and len(untried) < len(plans):
        prompts = sum(each.prompts for each in untried)
        notes.append(f"arms that were never tried: {len(untried)}, with {prompts:,} prompts; the whole leaves them out")
    partly = int(known.partly.sum())
    if partly:
        notes.append(
            f"prompts with partly right responses (`solved` between 0 and 1): {partly:,}; they count as not tried"
        )
    if known.judged.max(initial=0) == 1:
        notes.append("no prompt has two responses: how pass rates are spread is not known, and taken as Beta(a, 1 - a)")
    return tuple(notes)


def _check(sizes: Sequence[int], live: float | None) -> None:
    for n in sizes:
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 1 <= n <= LARGEST:
            raise InvalidParameter(f"group sizes must be integers in [1, {LARGEST}]; got {n!r}")
    if live is not None and not 0.0 < live < 1.0:
        raise InvalidParameter(f"the wanted share of live groups must lie in (0, 1); got {live!r}")
