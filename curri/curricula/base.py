"""The contract of a strategy, and everything a strategy need not write itself."""

from __future__ import annotations

import dataclasses
import logging
import numbers
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, dataclass_transform

import numpy as np

from curri.columns import PromptColumns
from curri.curricula.bounds import Bounds
from curri.curricula.evidence import SeenRollouts, gather
from curri.curricula.request import Picked, Request
from curri.errors import CurriError, InvalidParameter, PoolExhausted, StateMismatch, UnknownPrompt
from curri.parameters import check_declared, choice, declared, integer, names, real, switch, weights
from curri.pool import PromptPool
from curri.selectors import best_rows, capped_shares, systematic_counts, uniform_rows
from curri.state import COLUMN_PREFIX, PROMPT_IDS, StateChange, same_value
from curri.types import COLUMNS, Admission, Rollouts, Selection, Ticket, prompt_id_array

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike, NDArray

    from curri.curricula.evidence import Evidence, Groups
    from curri.selectors import DrawMethod, WeightedPicker
    from curri.state import State
    from curri.types import Floats, Ints, Kind

__all__ = ["Curriculum", "Picked", "Request", "Verdict", "draw_by_weight", "pick_best"]

_log = logging.getLogger("curri")

FORMAT = 1
_REQUIRED = frozenset(
    {"format", "strategy", "parameters", "generator", "counters", "fallbacks", "seen/first", PROMPT_IDS}
)
_PARTS = ("seen/", "buffer/", "own/", COLUMN_PREFIX)


class Verdict(NamedTuple):
    """What a strategy says of groups, all of shape (groups,).

    Attributes:
        verdict: "keep", "drop" or "more".
        extra: how many more rollouts a "more" needs; 0 for others.
        reason: why, in a word or two; "" for "keep".
    """

    verdict: NDArray[np.str_]
    extra: Ints
    reason: NDArray[np.str_]


@dataclass_transform(kw_only_default=True, field_specifiers=(real, integer, choice, switch, weights, names))
@dataclass(eq=False, repr=False, kw_only=True)
class Curriculum(Bounds, ABC):
    """A strategy: decides which prompts come next and learns from what they gave.

    A subclass declares its parameters (see :mod:`curri.parameters`) and writes ``_pick`` and ``_fold``; with state of
    its own also ``_own_state`` and ``_load_own_state``, with per-prompt state also ``_column_defaults``.

    Life of a round: ``ask`` moves the random generator and the strategy's cursors, never a belief; ``tell`` only
    buffers; ``advance`` folds all that was told since the last one, sorted by (prompt id, rollout id), so that the
    order and the split of tells do not matter.

    Args:
        pool: the prompts.

    Attributes:
        name: the registered name.
        summary: one line for listings.
        source: the paper.
        tags: what the strategy can or needs: "probes" (answers ``ask(kind="probe")``), "texts" (reads the prompts, so
            it needs a pool with ``fetch``), "responses" (needs the texts of responses), "rounds" (works through
            ``top_up``), "admits" (judges groups), "replacement" (a prompt drawn twice gets two groups),
            "deterministic" (no random picks), "inexact_resume".
        cursors: names in ``_own_state`` and ``_column_defaults`` that ``ask`` may move: where the strategy stands, such
            as "drawn in this epoch", as against what it believes.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    source: ClassVar[str] = ""
    tags: ClassVar[frozenset[str]] = frozenset()
    cursors: ClassVar[frozenset[str]] = frozenset()

    pool: PromptPool = dataclasses.field(kw_only=False)
    seed: int = integer(default=0, low=0, doc="seed of every random decision")
    group_size: int = integer(default=8, low=1, high=1_000_000, symbol="G", doc="rollouts of a prompt in one round")
    cooldown: int = integer(default=0, low=0, doc="rounds in which a prompt that was picked is not picked again")
    arm_floor: float = real(
        default=0.0, low=0.0, high=1.0, doc="least share of a batch for every arm, as far as its prompts go"
    )
    arm_cap: float = real(default=1.0, above=0.0, high=1.0, doc="largest share of a batch for any arm")
    revisit_after: int = integer(
        default=0, low=0, doc="rounds after which a prompt that was not picked comes before others; 0 for never"
    )
    revisit_share: float = real(
        default=0.25, above=0.0, high=1.0, doc="largest share of a batch for prompts that come by `revisit_after`"
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclass(eq=False, repr=False)(cls)

    def __post_init__(self) -> None:
        _check_pool(self.pool, f"`pool` of `{type(self).__name__}`")
        check_declared(self)
        self._rng = np.random.Generator(np.random.PCG64(self.seed))
        self._rounds_asked = 0
        self._rounds_closed = 0
        self._folded = 0
        self._repeated = 0
        self._fallbacks: dict[str, int] = {}
        self._buffer: list[Rollouts] = []
        self._seen = SeenRollouts()
        self._announced: PromptPool | None = None
        self._columns = PromptColumns(len(self.pool), self._all_column_defaults())
        self._last_saved: State | None = None
        self._check_texts(self.pool)
        self._set_up()

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.parameters.items())
        return f"{type(self).__name__}({self.pool!r}, {values})"

    @property
    def parameters(self) -> dict[str, Any]:
        """Every declared parameter with its value."""
        return {name: getattr(self, name) for name in declared(type(self))}

    @property
    def generator(self) -> np.random.Generator:
        """The only source of chance of its picks."""
        return self._rng

    @property
    def rounds_asked(self) -> int:
        """How many rounds were asked for; the number of the next one."""
        return self._rounds_asked

    # ---- what a strategy writes ---------------------------------------------------------------------------------

    @abstractmethod
    def _pick(self, request: Request) -> Picked:
        """Choose exactly ``request.n`` prompts; the supply has been checked."""

    def _receive(self, rows: Ints) -> Picked:
        """Take rows into a batch that a bound chose (see `revisit_after`), not the strategy."""
        return Picked(rows, np.full(rows.size, np.nan))

    @abstractmethod
    def _fold(self, evidence: Evidence) -> None:
        """Learn from one round; ``evidence`` may be empty."""

    def _arm_mass(self, request: Request) -> Floats:
        """How much the strategy wants of each arm, in any scale, shape (_A,), ≥ 0; moves nothing.

        Bounds on the share of an arm and composed strategies go by it. The default is by size.
        """
        return request.supply.astype(np.float64)

    def _expect_quota(self) -> None:
        """Refuse, or say, what does not fit the pool, before bounds make the counts of arms from :meth:`_arm_mass`."""

    def _arm_counts(self, request: Request) -> Ints:
        """How many prompts of each arm to take, in the name of :meth:`_arm_mass`, shape (_A,); adds up to ``n``."""
        shares = capped_shares(self._arm_mass(request), request.supply, request.n)
        return systematic_counts(shares, self._rng)

    def _more(self, round_: int, told: Evidence) -> Picked | None:
        """The next top-up of an open round, or None; for strategies tagged "rounds".

        Args:
            round_: its number.
            told: everything told and not folded yet, of all rounds.
        """
        return None

    def _judge(self, groups: Groups, evidence: Evidence) -> Verdict:
        """Judge finished groups; for strategies tagged "admits". Changes nothing."""
        n = len(groups)
        return Verdict(np.full(n, "keep"), np.zeros(n, dtype=np.int64), np.full(n, ""))

    def _set_up(self) -> None:
        """Build what is derived from parameters, pool and columns; called at construction, on loading and on growth."""

    def _column_defaults(self) -> dict[str, np.generic]:
        """Per-prompt state: name → value of a prompt nothing is known of."""
        return {}

    def _own_state(self) -> State:
        """All other state, as arrays and JSON."""
        return {}

    def _load_own_state(self, state: State) -> None:
        """Restore what ``_own_state`` gave; ``_set_up`` runs afterwards."""

    def _own_metrics(self) -> dict[str, float]:
        return {}

    def _explain(self, row: int) -> dict[str, Any]:
        """Why the prompt at ``row`` was or was not picked."""
        return {}

    # ---- the contract -------------------------------------------------------------------------------------------

    def ask(
        self,
        n: int,
        *,
        kind: Kind = "train",
        exclude: ArrayLike | None = None,
        quota: Mapping[str, int] | None = None,
    ) -> Selection:
        """Pick the prompts of the next round.

        Args:
            n: how many, ≥ 1.
            kind: "probe" for prompts to score without training on them, where the strategy does that.
            exclude: prompt ids that may not be picked, such as those in flight.
            quota: arm name → how many of that arm; must add up to ``n``.

        Returns:
            exactly ``n`` distinct prompts (a strategy tagged "replacement" may give fewer prompts with more rollouts).

        Raises:
            PoolExhausted: fewer prompts may be picked than were asked for. Nothing is then changed.
            InvalidParameter, UnknownPrompt, UnknownName: a wrong argument; the same.
        """
        request = self._checked_request(n, kind, exclude, quota)
        generator, fallbacks = self._rng.bit_generator.state, dict(self._fallbacks)
        try:
            picked = self._pick_within_bounds(request) if self._is_bounded and kind == "train" else self._pick(request)
        except CurriError:  # a refused ask changes nothing
            self._rng.bit_generator.state, self._fallbacks = generator, fallbacks
            raise
        selection = self._selection(picked, kind, Ticket("", self._rounds_asked, 0))
        if self._remembers_picks and kind == "train":
            self._columns.write(picked.rows, last_picked=self._rounds_asked)
        self._rounds_asked += 1
        return selection

    def top_up(self, ticket: Ticket, *, settled: ArrayLike | None = None) -> Selection | None:
        """The still undecided prompts of an open round, with their extra rollouts; None when there are none.

        Args:
            ticket: that of the round, or of a part of it.
            settled: ids of prompts that get no more, whatever they brought.
        """
        if not 0 <= ticket.round < self._rounds_asked:
            raise InvalidParameter(f"round {ticket.round} was never asked for; rounds so far: {self._rounds_asked}")
        if "rounds" not in self.tags:
            return None
        done = np.empty(0, dtype=np.int64) if settled is None else prompt_id_array(settled, "`settled` of `top_up`")
        told = [
            part.take(self.pool.contains(part.prompt_ids) & ~np.isin(part.prompt_ids, done)) for part in self._buffer
        ]
        picked = self._more(ticket.round, gather(told, self.pool.rows, SeenRollouts())[0])
        if picked is None or not picked.rows.size:
            return None
        return self._selection(picked, "train", Ticket("", ticket.round, ticket.part + 1))

    def _selection(self, picked: Picked, kind: Kind, ticket: Ticket) -> Selection:
        each = np.int64(self.group_size).repeat(picked.rows.size)
        return Selection(
            prompt_ids=self.pool.ids[picked.rows],
            arms=self.pool.arm_of(picked.rows),
            n_rollouts=each if picked.n_rollouts is None else picked.n_rollouts,
            probability=picked.probability,
            kind=kind,
            ticket=ticket,
        )

    def tell(self, rollouts: Rollouts) -> None:
        """Hand in outcomes; they count from the next ``advance`` on.

        Raises:
            UnknownPrompt: an id is neither in the pool nor announced; nothing is kept of this call.
        """
        self.check_known(rollouts.prompt_ids)
        if len(rollouts):
            responses = rollouts.responses if "responses" in self.tags else None
            self._buffer.append(rollouts.with_columns(responses=responses, extras={}))

    @property
    def has_announced(self) -> bool:
        """Whether prompts are announced that the next ``advance`` takes in."""
        return self._announced is not None

    def advance(self, *, hold: ArrayLike | None = None) -> None:
        """Close a round: take in announced prompts, then fold what was told.

        Args:
            hold: ids of prompts whose groups are not complete yet; what was told of them waits.
        """
        if self._announced is not None:
            self._adopt(self._announced)
        ready, waiting = self._buffer, []
        held = set() if hold is None else set(prompt_id_array(hold, "`hold` of `advance`").tolist())
        if not all(held.isdisjoint(part.prompt_ids.tolist()) for part in self._buffer):
            waits = [np.isin(part.prompt_ids, list(held)) for part in self._buffer]
            waiting = [part.take(mask) for part, mask in zip(self._buffer, waits, strict=True) if mask.any()]
            ready = [part.take(~mask) for part, mask in zip(self._buffer, waits, strict=True) if not mask.all()]
        evidence, repeated = gather(ready, self.pool.rows, self._seen)
        self._buffer = waiting
        self._fold(evidence)
        self._folded += len(evidence)
        self._repeated += repeated
        self._rounds_closed += 1

    def admit(self, rollouts: Rollouts) -> Admission:
        """Judge finished groups: keep, drop, or more rollouts first. Strategies that do not judge keep everything.

        Raises:
            UnknownPrompt: an id is not in the pool.
        """
        evidence, _ = gather([rollouts], self.pool.rows, SeenRollouts())
        groups = evidence.groups(probe=None)
        return Admission(self.pool.ids[groups.rows], *self._judge(groups, evidence))

    def extend(self, pool: PromptPool) -> None:
        """Announce new or retired prompts; they count from the next ``advance`` on.

        Args:
            pool: every present prompt, and the new ones (see ``PromptPool.extended`` and ``PromptPool.retired``).

        Raises:
            InvalidParameter: not a ``PromptPool``.
            UnknownPrompt: a present prompt is missing; retire it instead.
        """
        _check_pool(pool, "`pool` of `extend`")
        self._check_texts(pool)
        present = self.pool if self._announced is None else self._announced
        missing = present.ids[~pool.contains(present.ids)]
        if missing.size:
            raise UnknownPrompt(
                f"{missing.size} prompts of this strategy are not in the new pool, among them {missing[0]}",
                hint="a prompt that should no longer be picked is retired, not removed: `pool.retired([id])`",
            )
        self._announced = pool

    def metrics(self) -> dict[str, float]:
        """Numbers to log, named ``curriculum/<strategy>/<metric>``."""
        values: dict[str, float] = {
            "rounds_asked": self._rounds_asked,
            "rounds_closed": self._rounds_closed,
            "responses_folded": self._folded,
            "responses_repeated": self._repeated,
            "responses_buffered": sum(len(part) for part in self._buffer),
            "prompts_active": self.pool.n_active,
        }
        values |= {f"fallback/{name}": count for name, count in self._fallbacks.items()}
        values |= self._own_metrics()
        return {f"curriculum/{self.name}/{name}": float(value) for name, value in values.items()}

    def explain(self, prompt_id: int) -> dict[str, Any]:
        """Why a prompt was or was not picked: its arm, what is believed of it, how likely it is to come next.

        Raises:
            UnknownPrompt: the id is not in the pool.
        """
        row = int(self.pool.rows([prompt_id])[0])
        known = {"prompt_id": int(prompt_id), "arm": str(self.pool.arm_of(np.array([row]))[0])}
        return {**known, "active": bool(self.pool.active[row]), **self._explain(row)}

    # ---- state --------------------------------------------------------------------------------------------------

    def state_dict(self) -> State:
        """Everything that decides what comes next, as arrays and JSON; see :mod:`curri.state`."""
        entries = {**self._small_state(), PROMPT_IDS: self.pool.ids}
        entries |= {COLUMN_PREFIX + name: self._columns[name] for name in self._columns.names}
        return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in entries.items()}

    def load_state_dict(self, state: State) -> None:
        """Go on from a saved state, bit for bit. New prompts of the pool start at their prior.

        Raises:
            StateMismatch: another strategy, format, parameters or names; or prompts the pool does not have. Nothing is
                then changed.
        """
        self._check_state(state)
        rows = self._rows_of_state(state)
        before = dict(self.__dict__)
        try:
            self._load_columns(state, rows)
            self._load_small_state(state)
            self._set_up()
            self._refuse_left_over(state)
        except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
            self.__dict__.clear()
            self.__dict__.update(before)
            if isinstance(error, StateMismatch):
                raise
            message = f"the state does not fit `{type(self).__name__}` ({type(error).__name__}: {error})"
            raise StateMismatch(message, hint="it was saved by another version of this strategy") from error
        self._last_saved = self._small_state() if rows.size == len(self.pool) else None

    def changes(self) -> StateChange | None:
        """What changed since the last call, or None where only a whole ``state_dict`` will do (first call, growth)."""
        small = self._small_state()
        saved, self._last_saved = self._last_saved, small
        touched = self._columns.take_touched()
        if saved is None:
            return None
        changed = [name for name, value in small.items() if name not in saved or not same_value(value, saved[name])]
        return StateChange(
            values={name: small[name] for name in changed},
            removed=tuple(name for name in saved if name not in small),
            prompt_ids=self.pool.ids[touched],
            columns={COLUMN_PREFIX + name: self._columns[name][touched] for name in self._columns.names},
        )

    def _all_column_defaults(self) -> dict[str, np.generic]:
        remembered: dict[str, np.generic] = {"last_picked": np.int64(-1)} if self._remembers_picks else {}
        return remembered | self._column_defaults()

    def _small_state(self) -> State:
        state: State = {
            "format": FORMAT,
            "strategy": self.name,
            "parameters": self.parameters,
            "generator": self._rng.bit_generator.state,
            "counters": [self._rounds_asked, self._rounds_closed, self._folded, self._repeated],
            "fallbacks": dict(self._fallbacks),
            **self._seen.state(),
        }
        for number, part in enumerate(self._buffer):
            state[f"buffer/{number:06d}/kind"] = part.kind
            columns = {name: getattr(part, name) for name in (*COLUMNS, "responses")}
            state |= {f"buffer/{number:06d}/{name}": column for name, column in columns.items() if column is not None}
        return state | {f"own/{name}": value for name, value in self._own_state().items()}

    def _load_columns(self, state: State, rows: Ints) -> None:
        self._columns = PromptColumns(len(self.pool), self._all_column_defaults())
        for name in self._columns.names:
            saved, column = state[COLUMN_PREFIX + name], self._columns[name].copy()
            if not isinstance(saved, np.ndarray) or saved.dtype != column.dtype or saved.shape != rows.shape:
                message = f"column {name!r} must be of shape {rows.shape} and type {column.dtype}"
                got = f"{saved.shape} of {saved.dtype}" if isinstance(saved, np.ndarray) else type(saved).__name__
                raise StateMismatch(f"{message}; the state holds {got}")
            column[rows] = saved
            self._columns.load(name, column)

    def _load_small_state(self, state: State) -> None:
        generator = np.random.PCG64(0)
        generator.state = state["generator"]
        self._rng = np.random.Generator(generator)
        self._rounds_asked, self._rounds_closed, self._folded, self._repeated = state["counters"]
        self._fallbacks = dict(state["fallbacks"])
        self._seen = SeenRollouts.from_state({k: v for k, v in state.items() if k.startswith("seen/")})
        parts: dict[int, dict[str, Any]] = {}
        for name, value in state.items():
            if name.startswith("buffer/"):
                _, number, column = name.split("/")
                parts.setdefault(int(number), {})[column] = value
        self._buffer = [Rollouts(**parts[number]) for number in sorted(parts)]
        self._load_own_state(_own(state))

    def _check_state(self, state: State) -> None:
        for name, expected in (("format", FORMAT), ("strategy", self.name)):
            if state.get(name) != expected:
                message = f"the state's {name} is {state.get(name)!r}; this `{type(self).__name__}` has {expected!r}"
                raise StateMismatch(message, hint="load it with the strategy and the version of curri that saved it")
        self._check_parameters(state.get("parameters"))
        columns = {name.removeprefix(COLUMN_PREFIX) for name in state if name.startswith(COLUMN_PREFIX)}
        if columns != set(self._columns.names):
            message = f"the state has the columns {sorted(columns)}; expected {sorted(self._columns.names)}"
            raise StateMismatch(message, hint="it was saved by another version of this strategy")
        strange = sorted(name for name in _REQUIRED ^ state.keys() if name in _REQUIRED or not name.startswith(_PARTS))
        if strange:
            verb = "lacks" if strange[0] in _REQUIRED else "has an unknown entry"
            raise StateMismatch(f"the state {verb} {strange[0]!r}", hint="it was saved by another version of curri")

    def _check_parameters(self, given: object) -> None:
        mine, saved = self.parameters, {**_new_since(given), **(given if isinstance(given, dict) else {})}
        differing = sorted(name for name in mine.keys() | saved.keys() if mine.get(name) != saved.get(name))
        if differing:
            both = "; ".join(f"`{name}` is {saved.get(name)!r}, here {mine.get(name)!r}" for name in differing)
            raise StateMismatch(
                f"the state was saved with other parameters: {both}",
                hint="build the strategy with the parameters the state was saved with",
            )

    def _refuse_left_over(self, state: State) -> None:
        unknown = _own(state).keys() - self._own_state().keys()
        if unknown:
            message = f"the state has an entry {min(unknown)!r} that `{type(self).__name__}` does not know"
            raise StateMismatch(message, hint="it was saved by another version of this strategy")

    def _rows_of_state(self, state: State) -> Ints:
        ids = state[PROMPT_IDS]
        missing = ids[~self.pool.contains(ids)]
        if missing.size:
            raise StateMismatch(
                f"the state knows {missing.size} prompts that the pool does not have, among them {missing[0]}",
                hint="load it with a pool that holds every prompt it was saved with; retired ones are kept",
            )
        return self.pool.rows(ids)

    # ---- helpers ------------------------------------------------------------------------------------------------

    def _fall_back(self, rule: str, message: str) -> None:
        """Count a fallback and say it once."""
        if rule not in self._fallbacks:
            _log.warning("%s: %s", self.name, message)
        self._fallbacks[rule] = self._fallbacks.get(rule, 0) + 1

    def _adopt(self, pool: PromptPool) -> None:
        rows = pool.rows(self.pool.ids)
        if len(pool) != len(self.pool):
            self._columns.grow(rows, len(pool))
        self._last_saved = None
        self.pool = pool
        self._announced = None
        self._set_up()

    def check_known(self, prompt_ids: Ints) -> None:
        """Refuse ids that are neither in the pool nor announced.

        Raises:
            UnknownPrompt: names them.
        """
        pool = self.pool if self._announced is None else self._announced
        pool.rows(prompt_ids)

    def _check_texts(self, pool: PromptPool) -> None:
        if "texts" in self.tags:
            pool.prompts(np.empty(0, dtype=np.int64))

    def _checked_request(
        self, n: int, kind: Kind, exclude: ArrayLike | None, quota: Mapping[str, int] | None
    ) -> Request:
        size = _whole(n)
        if size is None or size < 1:
            raise InvalidParameter(f"`n` of `ask` must be an int in [1, inf); got {n!r}")
        if kind not in ("train", "probe"):
            raise InvalidParameter(f'`kind` of `ask` must be "train" or "probe"; got {kind!r}')
        if kind == "probe" and "probes" not in self.tags:
            raise InvalidParameter(
                f'`{self.name}` has no probe rollouts; `kind` of `ask` must be "train"',
                hint="`curri strategies` shows which strategies score prompts by probes",
            )
        excluded = np.empty(0, dtype=np.int64) if exclude is None else self._rows_of_excluded(exclude)
        supply, free = self.pool.arm_sizes, self.pool.n_active
        if excluded.size:
            barred = excluded[self.pool.active[excluded]]
            supply = supply - np.bincount(self.pool.arms[barred], minlength=supply.size)
            free -= barred.size
        counts = None if quota is None else self._checked_quota(quota, size)
        self._check_supply(size, free, supply, counts, excluded)
        return Request(size, kind, excluded, supply, counts)

    def _rows_of_excluded(self, exclude: ArrayLike) -> Ints:
        """Distinct, ascending."""
        rows = self.pool.rows(prompt_id_array(exclude, "`exclude` of `ask`").ravel())
        rows.sort()
        repeated = rows[1:] == rows[:-1]
        return np.delete(rows, repeated.nonzero()[0]) if np.count_nonzero(repeated) else rows

    def _checked_quota(self, quota: Mapping[str, int], n: int) -> Ints:
        wanted: dict[int, int] = {}
        for arm, given in quota.items():
            count = _whole(given)
            if count is None or count < 0:
                raise InvalidParameter(f"`quota` of `ask` must hold ints in [0, inf); got {given!r} for arm {arm!r}")
            wanted[self.pool.arm_code(arm)] = count
        if sum(wanted.values()) != n:
            raise InvalidParameter(f"`quota` of `ask` must add up to n = {n}; got {sum(wanted.values())}")
        counts = np.zeros(len(self.pool.arm_names), dtype=np.int64)
        counts[list(wanted)] = list(wanted.values())
        return counts

    def _check_supply(self, n: int, free: int, supply: Ints, quota: Ints | None, excluded: Ints) -> None:
        hint = "ask for fewer, resolve prompts in flight, or ingest more"
        if quota is not None:
            for arm in np.flatnonzero(quota > supply):
                name = self.pool.arm_names[arm]
                message = f'asked for {quota[arm]} prompts of arm "{name}"; {supply[arm]} can be picked'
                raise PoolExhausted(message, hint=hint)
        if n > free:
            retired = len(self.pool) - self.pool.n_active
            raise PoolExhausted(
                f"asked for {n} prompts; {free} of {len(self.pool)} can be picked "
                f"({retired} are retired, {excluded.size} excluded or in flight)",
                hint=hint,
            )


def _new_since(saved: object) -> dict[str, Any]:
    """Defaults of parameters that every strategy has now and that an older state does not mention."""
    known = declared(Curriculum)
    return {name: known[name].default for name in known if isinstance(saved, dict) and name not in saved}


def _check_pool(pool: object, what: str) -> None:
    if not isinstance(pool, PromptPool):
        raise InvalidParameter(f"{what} must be a `PromptPool`; got {type(pool).__name__}")


def _whole(value: object) -> int | None:
    """``value`` where it is an integer (a NumPy one too, a bool not), else None."""
    if type(value) is int:  # the usual case; asking an abstract class is slower
        return value
    return int(value) if isinstance(value, numbers.Integral) and not isinstance(value, bool) else None


def _own(state: State) -> State:
    return {name.removeprefix("own/"): value for name, value in state.items() if name.startswith("own/")}


def draw_by_weight(
    picker: WeightedPicker, request: Request, rng: np.random.Generator, *, method: DrawMethod = "systematic"
) -> Picked:
    """Answer a request by the weights of a picker, arm by arm where it has a quota.

    Enough prompts must have a positive weight; give every prompt that may be picked a small one.
    """
    if request.quota is None:
        drawn = picker.draw(request.n, rng, method=method, exclude=request.excluded)
        return Picked(drawn.rows, drawn.probability)
    parts = [
        picker.draw(int(request.quota[arm]), rng, method=method, exclude=request.excluded, arm=arm)
        for arm in np.flatnonzero(request.quota).tolist()
    ]
    order = rng.permutation(request.n)
    rows = np.concatenate([part.rows for part in parts])[order]
    return Picked(rows, np.concatenate([part.probability for part in parts])[order])


def pick_best(curriculum: Curriculum, request: Request, score: Callable[[Ints], Floats], *, candidates: int) -> Picked:
    """Answer a request with the prompts of the highest score among random candidates.

    Ties fall in random order. The inclusion probability has no closed form.

    Args:
        curriculum: who is asked.
        request: the request; with a quota each arm has its own candidates.
        score: gives the score of rows, shape (m,), higher is better, NaN the lowest; called once for each part.
        candidates: candidates for each prompt wanted, drawn uniformly; 0 for all prompts.
    """
    pool, rng = curriculum.pool, curriculum.generator
    parts = [(pool.active_everywhere, request.n, int(request.supply.sum()))]
    if request.quota is not None:
        arms = np.flatnonzero(request.quota).tolist()
        parts = [(pool.active_rows(arm), int(request.quota[arm]), int(request.supply[arm])) for arm in arms]
    found = []
    for rows, n, supply in parts:
        k = min(n * candidates, supply) if candidates else supply
        drawn = rng.permutation(uniform_rows(rows, k, rng, request.excluded))
        found.append(best_rows(drawn, score(drawn), n))
    best = np.concatenate(found)
    return Picked(best, np.full(best.size, np.nan))
