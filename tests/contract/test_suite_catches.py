"""The contract suite can fail: for every check there is a strategy that breaks what it promises, and is caught."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

import curri.types
from curri.curricula.base import Curriculum, Picked, Request
from curri.errors import CurriError, UnknownName
from curri.parameters import Parameter, choice, declared, real, switch
from curri.pool import PromptPool
from curri.testing import BrokenContract, Case, Check, run_checks, strategy_checks
from curri.testing.case import PROMISES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from curri.curricula.evidence import Evidence
    from curri.state import State
    from curri.types import Admission, Floats, Ints, Kind, Rollouts, Selection, Ticket


pytest_plugins = ("pytester",)


class Fair(Curriculum):
    """Uniform draws; believes in the number of visits and the sum of rewards. Keeps the whole contract."""

    name: ClassVar[str] = "fair"
    summary: ClassVar[str] = "uniform draws"
    source: ClassVar[str] = "these tests"

    weight: float = real(default=0.5, above=0.0, high=2.0, doc="does nothing")
    mode: str = choice(default="one", of=("one", "two"), doc="does nothing")
    careful: bool = switch(default=True, doc="does nothing")

    def _column_defaults(self) -> dict[str, np.generic]:
        return {"visits": np.int64(0)}

    def _set_up(self) -> None:
        self._total: float = getattr(self, "_total", 0.0)

    def _free(self, request: Request) -> Ints:
        return np.setdiff1d(np.flatnonzero(self.pool.active), request.excluded)

    def _choose(self, free: Ints, n: int) -> Ints:
        return self._rng.choice(free, n, replace=False)

    def _pick(self, request: Request) -> Picked:
        free = self._free(request)
        if request.quota is None:
            return Picked(self._choose(free, request.n), np.full(request.n, request.n / free.size))
        rows, probability = [], []
        for arm in np.flatnonzero(request.quota).tolist():
            mine, n = free[self.pool.arms[free] == arm], int(request.quota[arm])
            rows.append(self._choose(mine, n))
            probability.append(np.full(n, n / mine.size))
        return Picked(np.concatenate(rows), np.concatenate(probability))

    def _fold(self, evidence: Evidence) -> None:
        rows, times = np.unique(evidence.rows, return_counts=True)
        self._columns.write(rows, visits=self._columns["visits"][rows] + times)
        self._total += float(evidence.rewards.sum())

    def _own_state(self) -> State:
        return {"total": self._total}

    def _load_own_state(self, state: State) -> None:
        self._total = state["total"]

    def _explain(self, row: int) -> dict[str, Any]:
        return {"visits": int(self._columns["visits"][row])}


# ---- construction ----------------------------------------------------------------------------------------------------


class Nameless(Fair):
    """Has no summary."""

    summary: ClassVar[str] = " "


class Undocumented(Fair):
    """Does not say what a parameter does."""

    weight: float = real(default=0.5, above=0.0, high=2.0, doc="")


class Lax(Parameter):
    def checked(self, value: object, *, name: str, owner: str) -> Any:
        return value


class Unchecked(Fair):
    """Takes any value."""

    weight: float = dataclasses.field(
        default=0.5, kw_only=True, metadata={"curri": Lax(type=float, default=0.5, doc="x", low=0.0)}
    )


class Mumbles(Fair):
    """Refuses, but does not say what is allowed."""

    def __post_init__(self) -> None:
        try:
            super().__post_init__()
        except CurriError as error:
            raise type(error)("wrong parameter") from error


class TakesAnything(Fair):
    """Swallows misspelt parameters."""

    def __init__(self, pool: PromptPool, **given: Any) -> None:
        self.pool = pool
        for name, parameter in declared(type(self)).items():
            setattr(self, name, given.get(name, parameter.default))
        self.__post_init__()


class TakesAnyPool(Fair):
    """Makes a pool of whatever it is given."""

    def __post_init__(self) -> None:
        given: object = self.pool
        if not isinstance(given, PromptPool):
            self.pool = PromptPool([1])
        super().__post_init__()


class Terse(Fair):
    """Has a repr that says nothing."""

    def __repr__(self) -> str:
        return "Terse()"


class LosesParameters(Fair):
    """Forgets a parameter."""

    @property
    def parameters(self) -> dict[str, Any]:
        return {name: value for name, value in super().parameters.items() if name != "weight"}


# ---- selection -------------------------------------------------------------------------------------------------------


class Repeats(Fair):
    """Gives the same prompt twice."""

    def _choose(self, free: Ints, n: int) -> Ints:
        return self._rng.choice(free, n)


class FallsShort(Fair):
    """Gives one less."""

    def _pick(self, request: Request) -> Picked:
        picked = super()._pick(request)
        return Picked(picked.rows[1:], picked.probability[1:])


class OutOfRange(Fair):
    """Claims certainty twice over."""

    def _pick(self, request: Request) -> Picked:
        picked = super()._pick(request)
        return Picked(picked.rows, 2.0 * picked.probability + 1.0)


class NeedsATell(Fair):
    """Cannot start."""

    def _pick(self, request: Request) -> Picked:
        if not self._folded:
            raise ZeroDivisionError("no evidence yet")
        return super()._pick(request)


class AskBroken(Fair):
    """Mends a request before it is checked, in the way that a subclass says."""

    def ask(
        self,
        n: int,
        *,
        kind: Kind = "train",
        exclude: ArrayLike | None = None,
        quota: Mapping[str, int] | None = None,
    ) -> Selection:
        n, kind, exclude, quota = self._mended(n, kind, exclude, quota)
        return super().ask(n, kind=kind, exclude=exclude, quota=quota)

    def _mended(self, n: Any, kind: Any, exclude: Any, quota: Any) -> tuple[Any, Any, Any, Any]:
        raise NotImplementedError


class GivesWhatItHas(AskBroken):
    """Gives fewer where there are not enough."""

    def _mended(self, n: Any, kind: Any, exclude: Any, quota: Any) -> tuple[Any, Any, Any, Any]:
        free = self.pool.n_active - (0 if exclude is None else np.unique(np.asarray(list(exclude))).size)
        return (min(n, free) if isinstance(n, int) and quota is None else n), kind, exclude, quota


class CountsOddly(AskBroken):
    """Takes anything for a number."""

    def _mended(self, n: Any, kind: Any, exclude: Any, quota: Any) -> tuple[Any, Any, Any, Any]:
        return (int(n) if isinstance(n, bool | str) or n == 1.5 else n), kind, exclude, quota


class ForgivesKinds(AskBroken):
    """Takes every kind for training."""

    def _mended(self, n: Any, kind: Any, exclude: Any, quota: Any) -> tuple[Any, Any, Any, Any]:
        return n, "train", exclude, quota


class MislabelsProbes(ForgivesKinds):
    """Offers probes and hands out training."""

    tags: ClassVar[frozenset[str]] = frozenset({"probes"})


class ForgetsQuotas(AskBroken):
    """Drops the quota."""

    def _mended(self, n: Any, kind: Any, exclude: Any, quota: Any) -> tuple[Any, Any, Any, Any]:
        return n, kind, exclude, None


class WritesToInput(AskBroken):
    """Sorts the caller's array in place."""

    def _mended(self, n: Any, kind: Any, exclude: Any, quota: Any) -> tuple[Any, Any, Any, Any]:
        if isinstance(exclude, np.ndarray):
            exclude.sort()
        return n, kind, exclude, quota


class PicksExcluded(Fair):
    """Does not look at what is excluded."""

    def _free(self, request: Request) -> Ints:
        return np.flatnonzero(self.pool.active)


class PicksRetired(Fair):
    """Does not look at what is retired."""

    def _free(self, request: Request) -> Ints:
        return np.setdiff1d(np.arange(len(self.pool)), request.excluded)


class CountsInstances(Fair):
    """Starts every instance at another seed."""

    made: ClassVar[list[int]] = []

    def _set_up(self) -> None:
        super()._set_up()
        if not hasattr(self, "_number"):
            self._number = len(self.made)
            self.made.append(1)
            self._rng = np.random.default_rng(self._number)


class LearnsInAsk(Fair):
    """Counts a visit when a prompt is picked."""

    def _pick(self, request: Request) -> Picked:
        picked = super()._pick(request)
        self._columns.write(picked.rows, visits=self._columns["visits"][picked.rows] + 1)
        return picked


class Unsure(Fair):
    """Never certain."""

    def _pick(self, request: Request) -> Picked:
        picked = super()._pick(request)
        return Picked(picked.rows, np.minimum(picked.probability, 0.5))


class Biased(Fair):
    """Likes the second half of the pool better than it admits."""

    def _choose(self, free: Ints, n: int) -> Ints:
        weight = np.where(free >= np.median(free), 1.5, 1.0)
        return self._rng.choice(free, n, replace=False, p=weight / weight.sum())


class Fickle(Fair):
    """Reports a probability that changes from draw to draw."""

    def _pick(self, request: Request) -> Picked:
        picked = super()._pick(request)
        return Picked(picked.rows, picked.probability * self._rng.uniform(0.9, 1.0, picked.rows.size))


class LowestFirst(Fair):
    """Takes the least visited, and of those the lowest ids."""

    def _pick(self, request: Request) -> Picked:
        picked = super()._pick(request)
        return Picked(picked.rows, np.full(picked.rows.size, np.nan))

    def _choose(self, free: Ints, n: int) -> Ints:
        return free[np.argsort(self._columns["visits"][free], kind="stable")[:n]]


class KeepsItsFirstPool(Fair):
    """Remembers the rows it had at the start."""

    def _free(self, request: Request) -> Ints:
        self._first = getattr(self, "_first", np.flatnonzero(self.pool.active))
        return np.setdiff1d(self._first, request.excluded)


# ---- learning --------------------------------------------------------------------------------------------------------


class FoldsAtOnce(Fair):
    """Learns in tell."""

    def tell(self, rollouts: Rollouts) -> None:
        super().tell(rollouts)
        self._total += float(rollouts.rewards.sum())


class RemembersTheFirst(Fair):
    """Believes the first response of the first tell."""

    def advance(self, *, hold: Any = None) -> None:
        if self._buffer:
            self._total += float(self._buffer[0].rewards[0])
        super().advance(hold=hold)


class CountsTells(Fair):
    """Believes in the number of tells."""

    def advance(self, *, hold: Any = None) -> None:
        self._total += len(self._buffer)
        super().advance(hold=hold)


class ForgetsNames(Fair):
    """Drops the rollout ids."""

    def tell(self, rollouts: Rollouts) -> None:
        super().tell(dataclasses.replace(rollouts, rollout_ids=None))


class ForgetsRounds(Fair):
    """Knows repeats within a round only."""

    def advance(self, *, hold: Any = None) -> None:
        self._seen = type(self._seen)()
        super().advance(hold=hold)


class WholeGroupsOnly(Fair):
    """Drops responses of groups that are not complete."""

    def tell(self, rollouts: Rollouts) -> None:
        _, group, size = np.unique(rollouts.prompt_ids, return_inverse=True, return_counts=True)
        super().tell(rollouts.take(size[group] >= self.group_size))


class OnlyWhatItAskedFor(Fair):
    """Drops responses of prompts that it did not pick."""

    def _set_up(self) -> None:
        super()._set_up()
        self._asked: set[int] = getattr(self, "_asked", set())

    def _pick(self, request: Request) -> Picked:
        picked = super()._pick(request)
        self._asked.update(self.pool.ids[picked.rows].tolist())
        return picked

    def tell(self, rollouts: Rollouts) -> None:
        super().tell(rollouts.take(np.isin(rollouts.prompt_ids, list(self._asked))))


class TakesUnknownPrompts(Fair):
    """Does not look at ids."""

    def check_known(self, prompt_ids: Ints) -> None:
        pass


class Overflows(Fair):
    """Squares rewards of any size."""

    def _fold(self, evidence: Evidence) -> None:
        super()._fold(evidence)
        self._total = float(np.sum(evidence.rewards**4))


class DividesByTheSpread(Fair):
    """Needs two responses a group, and some at all."""

    def _fold(self, evidence: Evidence) -> None:
        super()._fold(evidence)
        for row in np.unique(evidence.rows):
            self._total += float(np.std(evidence.rewards[evidence.rows == row], ddof=1))


class MeanOfNothing(Fair):
    """Takes the mean of an empty round."""

    def _fold(self, evidence: Evidence) -> None:
        super()._fold(evidence)
        self._total = float(evidence.rewards.mean())


class FadesWithTime(Fair):
    """Believes less after every round, also where nothing was told."""

    def _fold(self, evidence: Evidence) -> None:
        super()._fold(evidence)
        self._total *= 0.9


class ChangesInput(Fair):
    """Changes what it was told."""

    def tell(self, rollouts: Rollouts) -> None:
        super().tell(rollouts)
        rollouts.rewards.flags.writeable = True
        rollouts.rewards[:] = 0


class Judges(Fair):
    """Turns groups down without the tag."""

    def admit(self, rollouts: Rollouts) -> Admission:
        return super().admit(rollouts)._replace(verdict=np.full(np.unique(rollouts.prompt_ids).size, "drop"))


class JudgesOddly(Fair):
    """Has a verdict of its own."""

    tags: ClassVar[frozenset[str]] = frozenset({"admits"})

    def admit(self, rollouts: Rollouts) -> Admission:
        return super().admit(rollouts)._replace(verdict=np.full(np.unique(rollouts.prompt_ids).size, "maybe"))


class NeverEnds(Fair):
    """Tops every round up for ever."""

    tags: ClassVar[frozenset[str]] = frozenset({"rounds"})

    def _more(self, round_: int, told: Evidence) -> Picked | None:
        return Picked(self._picked[:1], np.full(1, np.nan), np.ones(1, dtype=np.int64))

    def _pick(self, request: Request) -> Picked:
        picked = super()._pick(request)
        self._picked = picked.rows
        return picked


class TopsUpInSecret(NeverEnds):
    """Tops rounds up without the tag."""

    tags: ClassVar[frozenset[str]] = frozenset()

    def top_up(self, ticket: Ticket, *, settled: ArrayLike | None = None) -> Selection | None:
        super().top_up(ticket, settled=settled)
        return self._selection(Picked(self._picked[:1], np.full(1, np.nan)), "train", ticket)


# ---- determinism -----------------------------------------------------------------------------------------------------


class IgnoresItsSeed(Fair):
    """Has one seed for all."""

    def _set_up(self) -> None:
        super()._set_up()
        if not self._rounds_asked:
            self._rng = np.random.default_rng(5)


class UsesTheGlobalGenerator(Fair):
    """Draws from NumPy's global generator."""

    def _choose(self, free: Ints, n: int) -> Ints:
        return np.random.permutation(free)[:n]  # noqa: NPY002  that is what is wrong with it


class SharesItsBelief(Fair):
    """Has one memory for all instances."""

    shared: ClassVar[dict[int, int]] = {}

    def _fold(self, evidence: Evidence) -> None:
        super()._fold(evidence)
        self.shared[0] = self.shared.get(0, 0) + 1

    def _choose(self, free: Ints, n: int) -> Ints:
        return super()._choose(free, n) if self.shared.get(0, 0) % 2 else free[-n:]


class HashOrder(Fair):
    """Orders prompts by Python's hash of a text."""

    def _choose(self, free: Ints, n: int) -> Ints:
        return np.array(sorted(free.tolist(), key=lambda row: hash(f"row {row}"))[:n], dtype=np.int64)


class ForgetsItsState(Fair):
    """Saves nothing of its own, and decides by it."""

    def _choose(self, free: Ints, n: int) -> Ints:
        return np.sort(free)[:n] if self._total > 3 else super()._choose(free, n)

    def _own_state(self) -> State:
        return {}

    def _load_own_state(self, state: State) -> None:
        self._total = 0.0


class AddsUpStates(Fair):
    """Adds what is loaded to what is there."""

    def _load_own_state(self, state: State) -> None:
        self._total += state["total"]


# ---- state -----------------------------------------------------------------------------------------------------------


class SavesObjects(Fair):
    """Has an array of objects in its state."""

    def _own_state(self) -> State:
        return {"total": np.array([self._total, "x"], dtype=object)}


class SavesTuples(Fair):
    """Has in its state what JSON gives back as something else."""

    def _own_state(self) -> State:
        return {"total": self._total, "pair": (1, 2)}


class SavesItsOwnList(Fair):
    """Hands out the list it works with."""

    def _set_up(self) -> None:
        super()._set_up()
        self._list = getattr(self, "_list", [1, 2, 3])

    def _own_state(self) -> State:
        return {"total": self._total, "list": self._list}

    def _load_own_state(self, state: State) -> None:
        super()._load_own_state(state)
        self._list = state["list"]


class LoadsAnything(Fair):
    """Does not look at whose state it is."""

    def _check_state(self, state: State) -> None:
        pass


class HalfLoads(Fair):
    """Takes the counters of a state before it looks at the rest."""

    def load_state_dict(self, state: State) -> None:
        self._rounds_asked = state.get("counters", [77])[0] + 1
        super().load_state_dict(state)


class DropsPrompts(Fair):
    """Leaves out prompts that the pool lacks."""

    def load_state_dict(self, state: State) -> None:
        here = self.pool.contains(state["prompt_ids"])
        columns = {name: value[here] for name, value in state.items() if name.startswith("prompt")}
        super().load_state_dict(state | columns)


class GuessesNewPrompts(Fair):
    """Starts new prompts at the mean of the known ones."""

    def _load_columns(self, state: State, rows: Ints) -> None:
        super()._load_columns(state, rows)
        new = np.setdiff1d(np.arange(len(self.pool)), rows)
        self._columns.write(new, visits=9)


class ForgetsRetired(Fair):
    """Forgets prompts when they are retired."""

    def _set_up(self) -> None:
        super()._set_up()
        self._columns.write(np.flatnonzero(~self.pool.active), visits=0)


class WritesPastItsColumns(Fair):
    """Writes to a column without saying so."""

    def _fold(self, evidence: Evidence) -> None:
        np.add.at(self._columns["visits"], evidence.rows, 1)


class ExtendsAtOnce(Fair):
    """Takes a new pool in when it is announced."""

    def extend(self, pool: PromptPool) -> None:
        super().extend(pool)
        self._adopt(pool)


class Shrinks(Fair):
    """Takes any pool."""

    def extend(self, pool: PromptPool) -> None:
        self._announced = pool


# ---- talk and scale --------------------------------------------------------------------------------------------------


class SaysNaN(Fair):
    """Has a metric that is no number at first."""

    def _own_metrics(self) -> dict[str, float]:
        return {"mean": self._total / self._folded if self._folded else float("nan")}


class ExplainsInNumPy(Fair):
    """Explains with NumPy's numbers."""

    def _explain(self, row: int) -> dict[str, Any]:
        return {"visits": self._columns["visits"][row]}


class LoopsOverThePool(Fair):
    """Looks at every prompt in Python."""

    def _choose(self, free: Ints, n: int) -> Ints:
        keys = [self._rng.random() for _ in range(free.size)]
        return free[np.argsort(keys)[:n]]


class Quadratic(Fair):
    """Moves an array of the pool for every few prompts of the pool."""

    def _choose(self, free: Ints, n: int) -> Ints:
        for _ in np.split(free, np.arange(0, free.size, 40)):
            free = free.copy()
        return super()._choose(free, n)


class RemembersEverything(Fair):
    """Keeps all rewards there ever were."""

    def _set_up(self) -> None:
        super()._set_up()
        self._all: Floats = getattr(self, "_all", np.empty(0))

    def _fold(self, evidence: Evidence) -> None:
        super()._fold(evidence)
        self._all = np.concatenate([self._all, evidence.rewards])

    def _own_state(self) -> State:
        return super()._own_state() | {"all": self._all}

    def _load_own_state(self, state: State) -> None:
        super()._load_own_state(state)
        self._all = state["all"].copy()


# Check, who breaks it, and what the failure has to say.
class NeverBound(Fair):
    """Picks as it likes, whatever bounds were set."""

    def _pick_within_bounds(self, request: Request) -> Picked:
        return self._pick(request)


class MindsItsOwnBusiness(Fair):
    """Decides by what it reads in an attribute that no part of a composed strategy is lent."""

    def _choose(self, free: Ints, n: int) -> Ints:
        return np.sort(free)[:n] if self._folded > 3 else super()._choose(free, n)

    def _own_state(self) -> State:
        return super()._own_state() | {"folded": self._folded}

    def _load_own_state(self, state: State) -> None:
        super()._load_own_state(state)
        self._folded = 100


BREAKS: list[tuple[str, type[Curriculum], str]] = [
    ("default_construction", Nameless, "`summary` .* says nothing"),
    ("parameters_are_documented", Undocumented, "`weight` has no doc"),
    ("wrong_parameters_refused", Unchecked, "`weight` = None was accepted"),
    ("wrong_parameters_refused", Mumbles, "must read .* it reads 'wrong parameter'"),
    ("unknown_parameter_refused", TakesAnything, "keyword `seedx` was accepted"),
    ("pool_refused", TakesAnyPool, "as pool was accepted"),
    ("repr_names_every_parameter", Terse, "repr must show"),
    ("parameters_survive_json", LosesParameters, "every declared parameter"),
    ("exact_number", Repeats, "a prompt twice"),
    ("exact_number", FallsShort, "gave 0 prompts"),
    ("exact_number", OutOfRange, "probabilities must lie in"),
    ("works_before_any_tell", NeedsATell, "no evidence yet"),
    ("pool_exhausted", GivesWhatItHas, "was accepted"),
    ("wrong_requests_refused", CountsOddly, r"ask\(1.5\) was accepted"),
    ("probes_refused", ForgivesKinds, "was accepted"),
    ("probes", MislabelsProbes, "gave the kind 'train'"),
    ("excluded_never_come", PicksExcluded, "an excluded prompt"),
    ("retired_never_come", PicksRetired, "retired prompts"),
    ("quota_honoured", ForgetsQuotas, "the quota .* gave"),
    ("infeasible_quota_refused", ForgetsQuotas, "was accepted"),
    ("pool_order_irrelevant", CountsInstances, "order in which the pool"),
    ("ask_moves_no_belief", LearnsInAsk, "prompt/visits"),
    ("certain_picks_have_probability_one", Unsure, "0.5"),
    ("probabilities_are_exact", Biased, "came .* times, claimed"),
    ("probabilities_are_exact", Fickle, "two probabilities"),
    ("ties_broken_by_the_generator", LowestFirst, "only 1 different"),
    ("prompts_come_and_go", KeepsItsFirstPool, ""),
    ("tell_only_buffers", FoldsAtOnce, "own/total"),
    ("tell_order_irrelevant", RemembersTheFirst, "own/total"),
    ("tell_split_irrelevant", CountsTells, "own/total"),
    ("repeats_in_a_round_count_once", ForgetsNames, "prompt/visits"),
    ("repeats_across_rounds_count_once", ForgetsRounds, "prompt/visits"),
    ("late_and_partial_groups", WholeGroupsOnly, "0.0 were folded"),
    ("unissued_prompts_count", OnlyWhatItAskedFor, "0.0 were folded"),
    ("unknown_prompts_refused", TakesUnknownPrompts, "was accepted"),
    ("any_finite_rewards", Overflows, "overflow"),
    ("group_of_one", DividesByTheSpread, "freedom"),
    ("empty_advance", MeanOfNothing, "empty"),
    ("empty_advance", FadesWithTime, "own/total"),
    ("input_not_kept", ChangesInput, "tell changed the `rewards`"),
    ("read_only_input", WritesToInput, "read-only"),
    ("admit", Judges, "turns groups down"),
    ("admit", JudgesOddly, "maybe"),
    ("top_up", NeverEnds, "did not end"),
    ("top_up", TopsUpInSecret, "tagged"),
    ("same_seed_same_picks", CountsInstances, "other picks"),
    ("other_seed_other_picks", IgnoresItsSeed, "same picks"),
    ("global_generators_untouched", UsesTheGlobalGenerator, "was moved"),
    ("instances_are_independent", SharesItsBelief, "second strategy"),
    ("same_picks_in_another_process", HashOrder, "picked otherwise"),
    ("bit_equal_resume", ForgetsItsState, "picked otherwise"),
    ("resume_of_a_used_strategy", AddsUpStates, "own/total"),
    ("resume_in_another_process", HashOrder, "picked otherwise"),
    ("state_is_arrays_and_json", SavesObjects, "own/total"),
    ("state_is_arrays_and_json", SavesTuples, "own/pair"),
    ("state_is_a_copy", SavesItsOwnList, "own/list"),
    ("wrong_state_refused", LoadsAnything, "was accepted"),
    ("wrong_state_refused", HalfLoads, "counters"),
    ("missing_prompts_refused", DropsPrompts, "was accepted"),
    ("new_prompts_start_at_their_prior", GuessesNewPrompts, "not at its prior"),
    ("retired_prompts_are_kept", ForgetsRetired, "prompt/visits"),
    ("changes_rebuild_the_state", WritesPastItsColumns, "prompt/visits"),
    ("extension_waits_for_advance", ExtendsAtOnce, "must wait"),
    ("extension_cannot_shrink", Shrinks, "was accepted"),
    ("metrics", SaysNaN, "nan"),
    ("explain", ExplainsInNumPy, "serializable"),
    ("no_loop_over_the_pool", LoopsOverThePool, "lines of Python"),
    ("state_stays_bounded", RemembersEverything, "grew from"),
    ("cooldown", NeverBound, "while they rest"),
    ("arm_bounds", NeverBound, "the arms got"),
    ("revisits", NeverBound, "a prompt waited"),
    ("composes", MindsItsOwnBusiness, "the states differ"),
]

# Checks of what stands outside a strategy; a test of its own breaks that.
OUTSIDE = {"non_finite_refused"}


def the_check(name: str, broken: type[Curriculum]) -> Check:
    return next(check for check in strategy_checks(Case(broken)) if check.name == name)


@pytest.mark.parametrize(("name", "broken", "words"), BREAKS, ids=[f"{name}-{c.__name__}" for name, c, _ in BREAKS])
def test_a_broken_promise_is_caught(name: str, broken: type[Curriculum], words: str) -> None:
    with pytest.raises(Exception, match=re.compile(words, re.DOTALL)):  # whatever the strategy raises is caught
        the_check(name, broken)()


def test_every_check_has_something_that_breaks_it() -> None:
    assert {name for name, _, _ in BREAKS} | OUTSIDE == {promise.name for promise in PROMISES}


def test_every_check_says_what_is_promised() -> None:
    assert all(check.doc for check in strategy_checks(Case(Fair)))


def test_an_honest_strategy_passes() -> None:
    assert [result for result in run_checks(Case(Fair)) if not result.ok] == []


def test_non_finite_rewards_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curri.types, "_refuse_where", lambda bad, prompt_ids, rule: None)
    with pytest.raises(BrokenContract, match="nan among the rewards was accepted"):
        the_check("non_finite_refused", Fair)()


def test_superlinear_time_is_caught() -> None:
    with pytest.raises(BrokenContract):
        the_check("no_loop_over_the_pool", Quadratic)()


def test_tags_pick_the_checks() -> None:
    plain = {check.name for check in strategy_checks(Case(Fair))}
    probing = {check.name for check in strategy_checks(Case(MislabelsProbes))}
    assert plain - probing == {"probes_refused"}
    assert probing - plain == {"probes"}


def test_results_without_pytest() -> None:
    case = Case(SaysNaN, expected_failures={"metrics": "no mean before the first round", "explain": "none"})
    results = {result.name: result for result in run_checks(case)}
    assert results["metrics"].outcome == "failed as expected"
    assert results["explain"].outcome == "passed unexpectedly"
    assert not results["explain"].ok
    assert "nan" in results["metrics"].message
    assert results["exact_number"].outcome == "passed"


def test_an_expected_failure_must_name_a_check() -> None:
    with pytest.raises(UnknownName, match="bit_equal_resum") as caught:
        strategy_checks(Case(Fair, expected_failures={"bit_equal_resum": "a typing error"}))
    assert caught.value.hint == 'did you mean "bit_equal_resume"?'


def test_ids_are_readable() -> None:
    ids = [check.id for check in strategy_checks(Case(Fair, {"weight": 1.5}))]
    assert "fair(weight=1.5)-bit_equal_resume" in ids
    assert len(set(ids)) == len(ids)


def test_pytest_nodes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with a strategy of its own needs three lines."""
    pytester.makepyfile(
        """
        from curri.testing import Case, parametrize
        from curri.curricula import Uniform

        class Loud(Uniform):
            name = "loud"
            def _own_metrics(self):
                return {"volume": float("inf")}

        @parametrize([Case(Uniform), Case(Loud, expected_failures={"metrics": "too loud"})])
        def test_contract(check):
            check()
        """
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(Path(path).resolve()) for path in sys.path if path))
    result = pytester.runpytest_subprocess("-p", "no:randomly", "-q", "-k", "metrics or explain", "-rA")
    result.assert_outcomes(passed=3, xfailed=1)
    result.stdout.fnmatch_lines(["*uniform-metrics*", "*XFAIL*loud-metrics*too loud*"])
