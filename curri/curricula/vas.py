"""``vas``: prompts whose outcomes vary and whose responses differ, after VAS of MMR1 (arXiv 2509.21268)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from curri.curricula.base import Curriculum, Picked, Request
from curri.errors import InvalidParameter
from curri.estimators import distinct_n, mean_edit_distance, momentum_weights, self_bleu, variance_promotion_weights
from curri.parameters import choice, integer, real
from curri.selectors import WeightedPicker, stable_hash, systematic_counts, uniform_rows

if TYPE_CHECKING:
    from curri.curricula.evidence import Evidence, Groups
    from curri.selectors import Draw, DrawMethod
    from curri.state import State
    from curri.types import Bools, Floats, Ints

_NEVER = -1
_UNKNOWN = -1.0
_WHOLE = 1e-9
_MOST_COMPARED = 64
"""Responses of a prompt that the edit distance compares with each other."""


class VAS(Curriculum):
    """Draws part of a batch by reward variance and diversity of responses, and the rest uniformly.

    Every prompt x is scored by N responses that are not trained on (probes). With its pass rate P(x),

        OVS(x) = P(x) · (1 − P(x)),    TDS(x) = 1 − self-BLEU of the responses,    VPS(x) = α · OVS(x) + β · TDS(x),

    and every T rounds all prompts are scored anew. Of a batch of n, floor(λ n) are drawn by the weight W(x), which is
    VPS(x) brought to [0, 1] over all prompts, and the rest uniformly. ``ask(kind="probe")`` hands out what to score:
    prompts never scored first, then those scored longest ago; :attr:`probes_due` says how many there are.

    Where the paper, its released code and this implementation differ:

    * ``tds_sign``: the paper wants diversity; the code adds self-BLEU itself, a similarity ("similarity").
    * ``normalize``: the code's W is (v − min v) / (max v − min v) ("minmax"), which gives the lowest prompts weight 0;
      the paper's is v itself ("none").
    * ``momentum``: only in the code, W ← m · W_old + (1 − m) · W_new. Its default, 1, keeps the first weights.
    * ``uniform_half``: uniformly at random in the paper; the code goes through one fixed permutation ("cycle"), so that
      every prompt comes again within N_prompts / (n − floor(λ n)) batches. Here each arm has a cycle of its own under a
      quota, nothing is skipped at the end of a pass, and what is excluded when its turn comes misses it.
    * The code draws with replacement, so that a prompt may have several groups in a batch. Here nothing comes twice.
    * The code scores padded responses, which look alike for their padding. Here responses come without padding; where
      they do not, ``pad_token`` removes it.
    * ``edit_scale``: the edit distance is squared and normalised in the paper's appendix, in tokens in the code.
    * Where all weights are equal to 0 the code crashes; here the whole batch is drawn uniformly, and this is counted.
    * T counts closed rounds with training responses: rounds of probes do not count.

    What the paper leaves open, as its prompts are all scored at once:

    * A prompt without a score has the OVS of its ``prior_rate`` where the pool has one; else it has the mean weight of
      the scored prompts. With nothing scored at all the batch is uniform, and this is counted.
    * OVS uses ``solved``, the verifier's verdict. Where fewer than two verdicts are known it is the variance of the
      rewards over the square of the range of all such rewards, which is P(1 − P) for any two reward values.
    * Where fewer than two responses came with a text, TDS is the mean of the known ones (0 if there are none).
    * A group scores its prompt if it has two responses or more and, once there is a score, at least half of those that
      were asked for: stragglers do not replace a score. What is told before the first ``ask`` scores too, whatever its
      kind, as rollouts generated beforehand.

    >>> from curri import PromptPool, Rollouts
    >>> vas = VAS(PromptPool(range(4)), seed=0, mixture=1.0, probe_rollouts=4)
    >>> ids = vas.ask(4, kind="probe").prompt_ids
    >>> said = [f"{word} is 4" for word in ("so it", "two", "hence it", "that")]
    >>> vas.tell(Rollouts([0] * 4 + [1] * 4, [1, 0] * 2 + [1] * 4, responses=said * 2, kind="probe"))
    >>> vas.advance()
    >>> vas.probes_due, round(vas.explain(0)["weight"], 3), round(vas.explain(1)["weight"], 3)
    (2, 1.0, 0.0)
    """

    name: ClassVar[str] = "vas"
    summary: ClassVar[str] = "reward variance and diversity of responses, scored by probes (VAS of MMR1)"
    source: ClassVar[str] = "MMR1, arXiv 2509.21268"
    tags: ClassVar[frozenset[str]] = frozenset({"probes", "responses"})
    cursors: ClassVar[frozenset[str]] = frozenset({"fresh", "turns", "saved"})

    probe_rollouts: int = integer(
        default=32,
        low=2,
        high=1_000_000,
        symbol="N",
        doc="rollouts that score a prompt",
        source="MMR1: 32 in the main text, 16 in appendix C, 8 in the ablations and the released YAML",
    )
    refresh: int = integer(
        default=35,
        low=0,
        symbol="T",
        doc="training rounds after which a score is due again; 0 scores every prompt once",
        source="MMR1: 35 in the main text, 56 in appendix C, 28 in the ablations, 4 in the released YAML",
    )
    alpha: float = real(
        default=0.8,
        low=0.0,
        high=1e100,
        symbol="α",
        doc="weight of the outcome variance",
        source="MMR1, main text and Table 6; released YAML: 1.0",
    )
    beta: float = real(
        default=0.2,
        low=0.0,
        high=1e100,
        symbol="β",
        doc="weight of the diversity of responses",
        source="MMR1, main text and Table 6; released YAML: 0",
    )
    mixture: float = real(
        default=0.5,
        low=0.0,
        high=1.0,
        symbol="λ",
        doc="share of a batch that is drawn by weight",
        source="MMR1, main text",
    )
    outcome: str = choice(
        default="solved",
        of=("solved", "reward"),
        symbol="OVS",
        doc="what varies: right and wrong where known, or always the reward",
        source="MMR1: verifier accuracy",
    )
    diversity: str = choice(
        default="self_bleu",
        of=("self_bleu", "distinct", "edit_distance", "none"),
        symbol="TDS",
        doc="how the diversity of responses is measured",
        source="MMR1, Table 6: self-BLEU",
    )
    tds_sign: str = choice(
        default="diversity",
        of=("diversity", "similarity"),
        doc="1 - self-BLEU, or self-BLEU itself",
        source="paper: diversity; released code: similarity",
    )
    edit_scale: str = choice(
        default="normalized",
        of=("normalized", "squared", "tokens"),
        doc="scale of the edit distance: over the longer length, its square, or tokens",
        source="paper, appendix A.3: squared; released code: tokens",
    )
    pad_token: int = integer(
        default=-1, low=-1, doc="token id to strip from both ends of responses; -1 if they are not padded"
    )
    normalize: str = choice(
        default="minmax",
        of=("minmax", "none"),
        doc="how scores become weights",
        source="released code: minmax; paper: none",
    )
    momentum: float = real(
        default=0.0,
        low=0.0,
        high=1.0,
        symbol="m",
        doc="share of the old weight when a prompt is scored again, below 1",
        source="released YAML: 0; default of its code: 1, which never learns",
    )
    uniform_half: str = choice(
        default="random",
        of=("random", "cycle"),
        doc="how the other part is drawn: at random, or one after another in a fixed order",
        source="paper: random; released code: cycle",
    )
    draw: str = choice(
        default="systematic",
        of=("systematic", "successive"),
        doc="how the part by weight is drawn; the first has exact inclusion probabilities",
        source="released code: with replacement",
    )
    learn_from: str = choice(
        default="probes",
        of=("probes", "all"),
        doc='which responses score prompts; "all" takes those trained on too, for trainers that cannot probe',
        source="MMR1: probes",
    )
    reuse_probes: int = integer(
        default=0,
        low=0,
        doc="a prompt's probe responses less than this many training rounds old are taken off its next training group",
        source="MMR1: 0, scoring rollouts are not trained on",
    )

    @property
    def probes_due(self) -> int:
        """How many prompts want to be scored: never scored ones, and those with a score T training rounds old."""
        return int(np.count_nonzero(self._is_due() & self.pool.active))

    # ---- picking ------------------------------------------------------------------------------------------------

    def _pick(self, request: Request) -> Picked:
        if request.kind == "probe":
            return self._pick_probes(request)
        parts = self._parts(request)
        wanted = self._wanted_by_weight(request)
        drawn = [self._drawn(part, n, whole=whole) for part, n, whole in zip(parts, *wanted, strict=True)]
        rows = np.concatenate([picked.rows for picked in drawn])
        probability = np.concatenate([picked.probability for picked in drawn])
        if any(n > part.able for part, n in zip(parts, wanted[0], strict=True)):
            self._note_shortage()
        order = self._rng.permutation(rows.size)
        return Picked(rows[order], probability[order], self._train_rollouts(rows[order]))

    def _parts(self, request: Request) -> list[_Part]:
        """The strata of a request: the whole pool, or each arm of its quota."""
        if request.quota is None:
            able = int(self._positive_A.sum() - np.count_nonzero(self._drawable[request.excluded]))
            return [_Part(None, request.n, int(request.supply.sum()), able, request.excluded)]
        blocked = request.excluded[self._drawable[request.excluded] > 0.0]
        able_A = self._positive_A - np.bincount(self.pool.arms[blocked], minlength=self._positive_A.size)
        return [
            _Part(arm, int(request.quota[arm]), int(request.supply[arm]), int(able_A[arm]), request.excluded)
            for arm in np.flatnonzero(request.quota).tolist()
        ]

    def _wanted_by_weight(self, request: Request) -> tuple[list[int], list[bool]]:
        """For each stratum how many prompts by weight, and whether that is so for any luck; floor(λ n) in all."""
        n = int(np.floor(self.mixture * request.n + _WHOLE))
        if request.quota is None:
            return [n], [True]
        shares = request.quota[request.quota > 0] * (n / request.n)
        return systematic_counts(shares, self._rng).tolist(), (np.abs(shares - np.round(shares)) <= _WHOLE).tolist()

    def _drawn(self, part: _Part, wanted: int, *, whole: bool) -> Picked:
        n = min(wanted, part.able)
        method: DrawMethod = "systematic" if self.draw == "systematic" else "successive"
        heavy = self._picker.draw(n, self._rng, method=method, exclude=part.excluded, arm=part.arm)
        blocked = np.union1d(part.excluded, heavy.rows)
        if self.uniform_half == "cycle":
            others = self._next_in_turn(part.arm, part.n - n, blocked)
        else:
            others = uniform_rows(self._rows_of(part.arm), part.n - n, self._rng, blocked)
        rows = np.concatenate([heavy.rows, others])
        if not whole or (self.uniform_half == "cycle" and others.size):
            return Picked(rows, np.full(rows.size, np.nan))
        return Picked(rows, self._inclusion(heavy, others, part))

    def _inclusion(self, heavy: Draw, others: Ints, part: _Part) -> Floats:
        """π + (1 − π) · (uniform picks) / (prompts not drawn by weight), where π = min(1, c · W) is by weight."""
        share = others.size / max(part.supply - heavy.rows.size, 1)
        scale = 0.0
        unsure = np.flatnonzero(~(heavy.probability >= 1.0))
        if unsure.size:
            first = unsure[0]
            scale = heavy.probability[first] / self._drawable[heavy.rows[first]]
        by_weight = np.concatenate([heavy.probability, np.minimum(scale * self._drawable[others], 1.0)])
        return by_weight + (1.0 - by_weight) * share

    def _next_in_turn(self, arm: int | None, k: int, blocked: Ints) -> Ints:
        """The next ``k`` rows of a fixed order that are not blocked; the place in it is remembered by its hash."""
        if not k:
            return np.empty(0, dtype=np.int64)
        rows, keys = self._fixed_order(arm)
        name = "all" if arm is None else f"arm/{self.pool.arm_names[arm]}"
        place = self._turns.get(name)
        start = int(self._rng.integers(rows.size)) if place is None else int(np.searchsorted(keys, place, "right"))
        found: list[Ints] = []
        missing, step = k, k + 16
        while missing:
            at = np.arange(start, min(start + step, start + rows.size)) % rows.size
            free = at[~np.isin(rows[at], blocked)][:missing]
            found.append(free)
            missing -= free.size
            start, step = start + at.size, 2 * step
        last = np.concatenate(found)
        self._turns[name] = int(keys[last[-1]])
        return rows[last]

    def _fixed_order(self, arm: int | None) -> tuple[Ints, Any]:
        """Rows of an arm, or all, in the order of a hash, and the hashes."""
        if arm not in self._orders:
            rows = self._rows_of(arm)
            keys = stable_hash(self.pool.ids[rows], self.seed + 1)  # not the order that systematic draws walk along
            order = np.argsort(keys)
            self._orders[arm] = rows[order], keys[order]
        return self._orders[arm]

    def _rows_of(self, arm: int | None) -> Ints:
        return self.pool.active_everywhere if arm is None else self.pool.active_rows(arm)

    def _note_shortage(self) -> None:
        if self._summary.weighted:
            self._fall_back(
                "weights_exhausted",
                "fewer prompts than `mixture` asks for have a positive weight; the rest of the batch is uniform "
                '(`normalize` = "none" gives all of them weight)',
            )
        elif self._summary.scored:
            self._fall_back(
                "weights_equal", "all scored prompts are alike, so that their weights are 0; the whole batch is uniform"
            )
        else:
            self._fall_back(
                "nothing_scored",
                'no prompt has a score yet, so that the whole batch is uniform; ask(kind="probe") first, or set '
                '`learn_from` = "all"',
            )

    def _train_rollouts(self, rows: Ints) -> Ints | None:
        """Rollouts of each training group: what probes have already given is taken off, down to 1."""
        if not self.reuse_probes:
            return None
        young = self._clock - self._columns["scored_at"][rows] < self.reuse_probes
        counted = np.where(young, self._columns["fresh"][rows], 0)
        n_rollouts: Ints = np.maximum(self.group_size - counted, 1).astype(np.int64)
        self._saved += int(self.group_size * rows.size - n_rollouts.sum())
        used = rows[self._columns["fresh"][rows] > 0]
        self._columns.write(used, fresh=0)
        return n_rollouts

    def _pick_probes(self, request: Request) -> Picked:
        """Scored longest ago first, never scored before all; ties fall at random."""
        free = np.ones(len(self.pool), dtype=np.bool_)
        free[request.excluded] = False
        wanted: list[tuple[int | None, int]] = [(None, request.n)]
        if request.quota is not None:
            wanted = [(arm, int(request.quota[arm])) for arm in np.flatnonzero(request.quota).tolist()]
        parts = []
        for arm, n in wanted:
            rows = self._rows_of(arm)
            parts.append(self._oldest(rows[free[rows]], n))
        picked = np.concatenate([part.rows for part in parts])
        order = self._rng.permutation(picked.size)
        probability = np.concatenate([part.probability for part in parts])[order]
        return Picked(picked[order], probability, np.full(picked.size, self.probe_rollouts, dtype=np.int64))

    def _oldest(self, rows: Ints, n: int) -> Picked:
        at = self._columns["scored_at"][rows]
        edge = np.partition(at, n - 1)[n - 1]
        before, level = rows[at < edge], rows[at == edge]
        k = n - before.size
        drawn = uniform_rows(level, k, self._rng, np.empty(0, dtype=np.int64))
        return Picked(np.concatenate([before, drawn]), np.repeat([1.0, k / level.size], [before.size, k]))

    def _arm_mass(self, request: Request) -> Floats:
        size = request.supply.astype(np.float64)
        if request.kind == "probe":
            due = self._is_due() & self.pool.active
            due[request.excluded] = False
            due_A = np.bincount(self.pool.arms[due], minlength=size.size).astype(np.float64)
            return due_A if due_A.any() else size
        blocked = np.bincount(self.pool.arms[request.excluded], self._drawable[request.excluded], size.size)
        wanted = np.where(request.supply > 0, np.maximum(self._mass_A - blocked, 0.0), 0.0)
        if not wanted.any() or not size.any():
            return size
        return np.asarray(self.mixture * wanted / wanted.sum() + (1.0 - self.mixture) * size / size.sum())

    def _is_due(self) -> Bools:
        at = self._columns["scored_at"]
        limit = self._clock - self.refresh if self.refresh else _NEVER
        return np.asarray(at <= max(limit, _NEVER))

    # ---- learning -----------------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        if self.momentum >= 1.0:
            raise InvalidParameter(
                f"`momentum` of `{type(self).__name__}` must be a float in [0, 1); got {self.momentum!r}",
                hint="it is the share of the old weights: with 1 the first ones would stay for ever",
            )
        self._clock: int = getattr(self, "_clock", 0)
        self._saved: int = getattr(self, "_saved", 0)
        self._too_small: int = getattr(self, "_too_small", 0)
        self._reward_range: list[float] | None = getattr(self, "_reward_range", None)
        self._turns: dict[str, int] = getattr(self, "_turns", {})
        nothing = dict.fromkeys(("probe_rollouts", "probe_tokens", "train_rollouts", "train_tokens"), 0)
        self._spent: dict[str, int] = getattr(self, "_spent", nothing)
        self._orders: dict[int | None, tuple[Ints, Any]] = {}
        self._drawable = np.zeros(len(self.pool))
        self._picker = WeightedPicker(self.pool.ids, self._drawable, seed=self.seed, arms=self.pool.arms)
        self._weigh()

    def _fold(self, evidence: Evidence) -> None:
        self._note_cost(evidence)
        is_pilot = self._rounds_asked == 0
        everything = is_pilot or self.learn_from == "all"
        if everything or evidence.probe.any():
            self._score(evidence, np.ones(len(evidence), dtype=np.bool_) if everything else evidence.probe)
        if not is_pilot and not evidence.probe.all():
            self._clock += 1

    def _note_cost(self, evidence: Evidence) -> None:
        tokens = np.maximum(evidence.tokens, 0)
        for kind, mask in (("probe", evidence.probe), ("train", ~evidence.probe)):
            self._spent[f"{kind}_rollouts"] += int(np.count_nonzero(mask))
            self._spent[f"{kind}_tokens"] += int(tokens[mask].sum())

    def _score(self, evidence: Evidence, used: Bools) -> None:
        """Give the prompts of the ``used`` responses a new score, and weigh all prompts anew."""
        groups = evidence.groups(probe=None if used.all() else True)
        probes = np.bincount(np.searchsorted(groups.rows, evidence.rows[evidence.probe]), minlength=len(groups))
        counts = self._counts_as_score(groups, probes)
        self._too_small += int(np.count_nonzero(~counts))
        if not counts.any():
            return
        rows, at = groups.rows[counts], self._columns["scored_at"][groups.rows[counts]]
        verdicts = groups.known[counts]
        rate = np.where(verdicts >= 2, groups.successes[counts] / np.maximum(verdicts, 1), _UNKNOWN)
        by_reward = (rate == _UNKNOWN) | (self.outcome == "reward")
        self._widen_range(groups.reward_min[counts][by_reward], groups.reward_max[counts][by_reward])
        self._columns.write(
            rows,
            rate=rate,
            spread=_spread(evidence, used, groups)[counts],
            tds=self._diversities(evidence, used, groups.rows, counts),
            held=np.where((at != _NEVER) & (self.momentum > 0.0), self._weight[rows], _UNKNOWN),
            responses=groups.size[counts],
            scored_at=self._clock,
            fresh=probes[counts],
        )
        self._weigh()

    def _counts_as_score(self, groups: Groups, probes: Ints) -> Bools:
        asked = np.where(probes > 0, self.probe_rollouts, self.group_size)
        first = self._columns["scored_at"][groups.rows] == _NEVER
        return np.asarray((groups.size >= 2) & (first | (2 * groups.size >= asked)))

    def _widen_range(self, low: Floats, high: Floats) -> None:
        if low.size:
            known = self._reward_range or [np.inf, -np.inf]
            self._reward_range = [min(known[0], float(low.min())), max(known[1], float(high.max()))]

    def _diversities(self, evidence: Evidence, used: Bools, rows: Ints, counts: Bools) -> Floats:
        """TDS of the groups that count; unknown where fewer than two responses have a text."""
        values = np.full(rows.size, _UNKNOWN)
        if self.diversity != "none":
            places = np.flatnonzero(used)
            bounds = np.searchsorted(evidence.rows[places], np.append(rows, len(self.pool)))
            for group in np.flatnonzero(counts).tolist():
                mine = places[bounds[group] : bounds[group + 1]].tolist()
                values[group] = self._diversity(
                    [evidence.responses[i] for i in mine if _has_text(evidence.responses[i])]
                )
        return values[counts]

    def _diversity(self, responses: list[Any]) -> float:
        if len(responses) < 2:
            return _UNKNOWN
        pad = None if self.pad_token < 0 else self.pad_token
        try:
            if self.diversity == "distinct":
                return distinct_n(responses, pad=pad)
            if self.diversity == "edit_distance":
                scale = self.edit_scale
                some = responses[:_MOST_COMPARED]
                return mean_edit_distance(some, normalize=scale != "tokens", squared=scale == "squared", pad=pad)
            similarity = self_bleu(responses, pad=pad)
        except InvalidParameter:
            self._fall_back(
                "responses_unreadable",
                "some responses are neither texts nor sequences of tokens; their prompts have the mean diversity "
                '(hand in texts or token ids, or set `diversity` = "none")',
            )
            return _UNKNOWN
        return similarity if self.tds_sign == "similarity" else 1.0 - similarity

    def _weigh(self) -> None:
        """Weights of all prompts from their scores. The scale is a matter of all scores, so any weight may change."""
        seen = self._columns["tds"][self._columns["tds"] != _UNKNOWN]
        self._mean_tds = float(seen.mean()) if seen.size else 0.0
        metrics = [self._ovs(slice(None)), self._tds(slice(None))]
        vps = variance_promotion_weights(
            metrics, [self.alpha, self.beta], "minmax" if self.normalize == "minmax" else "none"
        )
        self._weight = momentum_weights(_known(self._columns["held"]), vps, self.momentum)
        known = ~np.isnan(self._weight) & self.pool.active
        mean = float(self._weight[known].mean()) if known.any() else 0.0
        drawable = np.where(self.pool.active, np.where(np.isnan(self._weight), mean, self._weight), 0.0)
        changed = np.flatnonzero(drawable != self._drawable)
        self._picker.update(changed, drawable[changed])
        self._drawable = drawable
        arms = len(self.pool.arm_names)
        self._mass_A = np.bincount(self.pool.arms, drawable, arms)
        self._positive_A = np.bincount(self.pool.arms[drawable > 0.0], minlength=arms)
        self._summary = self._summarised(known)

    def _ovs(self, rows: slice | Ints) -> Floats:
        """Outcome variance of prompts, NaN where nothing is known of it."""
        rate, spread = _known(self._columns["rate"][rows]), _known(self._columns["spread"][rows])
        low, high = self._reward_range or (0.0, 0.0)
        by_reward = np.square(spread / (high - low)) if high > low else np.where(np.isnan(spread), np.nan, 0.0)
        if self.pool.prior_rate is not None:
            unscored = self._columns["scored_at"][rows] == _NEVER
            rate = np.where(unscored, self.pool.prior_rate[rows], rate)
            by_reward = np.where(unscored, rate * (1.0 - rate), by_reward)
        if self.outcome == "reward":
            return by_reward
        return np.where(np.isnan(rate), by_reward, rate * (1.0 - rate))

    def _tds(self, rows: slice | Ints) -> Floats:
        """Diversity of prompts; the mean where it is not known."""
        tds = self._columns["tds"][rows]
        return np.where(tds == _UNKNOWN, self._mean_tds, tds)

    def _column_defaults(self) -> dict[str, np.generic]:
        return {
            "rate": np.float64(_UNKNOWN),
            "spread": np.float64(_UNKNOWN),
            "tds": np.float64(_UNKNOWN),
            "held": np.float64(_UNKNOWN),
            "responses": np.int32(0),
            "scored_at": np.int32(_NEVER),
            "fresh": np.int32(0),
        }

    # ---- state and talk -----------------------------------------------------------------------------------------

    def _own_state(self) -> State:
        return {
            "clock": self._clock,
            "saved": self._saved,
            "too_small": self._too_small,
            "reward_range": None if self._reward_range is None else list(self._reward_range),
            "turns": dict(self._turns),
            "spent": dict(self._spent),
        }

    def _load_own_state(self, state: State) -> None:
        self._clock, self._saved, self._too_small = state["clock"], state["saved"], state["too_small"]
        self._reward_range = None if state["reward_range"] is None else list(state["reward_range"])
        self._turns, self._spent = dict(state["turns"]), dict(state["spent"])

    def _summarised(self, known: Bools) -> _Summary:
        """Means over the active scored prompts, and how the weights are spread."""
        scored = known & (self._columns["scored_at"] != _NEVER)
        n = int(np.count_nonzero(scored))
        tds = self._columns["tds"][scored]
        squares = float(np.square(self._drawable).sum())
        return _Summary(
            scored=n,
            weighted=bool(self._mass_A.any()),
            ovs=float(self._ovs(np.flatnonzero(scored)).mean()) if n else 0.0,
            tds=self._mean_tds,
            tds_known=int(np.count_nonzero(tds != _UNKNOWN)),
            scored_at=float(self._columns["scored_at"][scored].mean()) if n else 0.0,
            effective=float(self._mass_A.sum()) ** 2 / squares if squares > 0.0 else 0.0,
        )

    def _own_metrics(self) -> dict[str, float]:
        seen, spent = self._summary, self._spent
        return {
            **spent,
            "probe_rollouts_per_train_rollout": spent["probe_rollouts"] / max(spent["train_rollouts"], 1),
            "probe_tokens_per_train_token": spent["probe_tokens"] / max(spent["train_tokens"], 1),
            "rollouts_saved": self._saved,
            "groups_too_small": self._too_small,
            "scored_share": seen.scored / max(self.pool.n_active, 1),
            "tds_known_share": seen.tds_known / max(seen.scored, 1),
            "probes_due": self.probes_due,
            "ovs_mean": seen.ovs,
            "tds_mean": seen.tds,
            "score_age_mean": self._clock - seen.scored_at if seen.scored else 0.0,
            "weights_effective": seen.effective,
            "weights_effective_share": seen.effective / max(self.pool.n_active, 1),
        }

    def _explain(self, row: int) -> dict[str, Any]:
        column = {name: self._columns[name][row].item() for name in self._columns.names}
        scored = column["scored_at"] != _NEVER
        one = np.array([row])
        ovs, tds = float(self._ovs(one)[0]), float(self._tds(one)[0])
        total = float(self._mass_A.sum())
        by_weight = float(self._drawable[row]) / total if total > 0.0 else 1.0 / max(self.pool.n_active, 1)
        uniform = 1.0 / max(self.pool.n_active, 1)
        share = self.mixture * by_weight + (1.0 - self.mixture) * uniform
        return {
            "pass_rate": None if column["rate"] == _UNKNOWN else column["rate"],
            "ovs": None if np.isnan(ovs) else ovs,
            "tds": None if column["tds"] == _UNKNOWN else column["tds"],
            "vps": None if np.isnan(ovs) else self.alpha * ovs + self.beta * tds,
            "weight": float(self._drawable[row]),
            "weight_is_guessed": not scored,
            "score_responses": column["responses"],
            "score_age": self._clock - column["scored_at"] if scored else None,
            "probe_due": bool(self._is_due()[row]),
            "share_of_a_batch": share if self.pool.active[row] else 0.0,
        }


class _Part(NamedTuple):
    """One stratum of a batch: ``n`` of the ``supply`` prompts of an arm, ``able`` of which have a positive weight."""

    arm: int | None
    n: int
    supply: int
    able: int
    excluded: Ints


class _Summary(NamedTuple):
    """What the metrics say of the scores."""

    scored: int
    weighted: bool
    ovs: float
    tds: float
    tds_known: int
    scored_at: float
    effective: float


def _spread(evidence: Evidence, used: Bools, groups: Groups) -> Floats:
    """Standard deviation of the rewards of each group, exact for very large and very small ones, shape (groups,)."""
    group = np.searchsorted(groups.rows, evidence.rows[used])
    width = groups.reward_max - groups.reward_min
    unit = np.where(width > 0.0, width, 1.0)
    above = (evidence.rewards[used] - groups.reward_min[group]) / unit[group]
    mean = np.bincount(group, above, len(groups)) / groups.size
    squares = np.bincount(group, np.square(above - mean[group]), len(groups))
    return np.asarray(np.sqrt(squares / groups.size) * width)


def _has_text(response: Any) -> bool:
    return response is not None and (not hasattr(response, "__len__") or len(response) > 0)


def _known(column: Floats) -> Floats:
    """A column with NaN where it is unknown."""
    return np.where(column == _UNKNOWN, np.nan, column)
