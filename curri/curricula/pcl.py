"""``pcl``: prompts of intermediate difficulty by a value model, after PCL (arXiv 2510.01135)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np

from curri.curricula.base import Curriculum, Picked, Request, pick_best
from curri.errors import InvalidParameter, StateMismatch
from curri.estimators.text_value import TextValue
from curri.estimators.value_model import ValueModel
from curri.parameters import integer, real, switch
from curri.selectors import best_rows, stable_hash, uniform_rows

if TYPE_CHECKING:
    from curri.curricula.evidence import Evidence, Groups
    from curri.state import State
    from curri.types import Floats, Ints

_BLOCK = 2048
_MEMORY = 0.9
_LEAST_SIGNAL = 0.1
_MOST_ROLLOUTS = 1000.0
_VALUE = "value/"
_OWN = ("model", "updates", "accuracy", "last")


class PCL(Curriculum):
    """Trains on the prompts whose predicted pass rate is nearest to τ, with not one rollout spent on finding them.

    A value model V reads a prompt and predicts its pass rate. Every round (PCL, Algorithm 1)

        C  = k · m prompts drawn uniformly,
        B  = the m of them with the smallest abs(V(x) - τ), ties in random order,
        V  ← one step on  Σ_{x in B} (V(x) - r̄(x))²,    r̄(x) = share of the group's responses that are right.

    V learns from the rollouts that training needs anyway, and when it selects it is one policy step behind. The only
    chance in the selection is the draw of C: with k = 1 it is uniform. So the larger k, the nearer to τ, and the less
    diverse, the batches.

    Where the paper is silent, and what is done here:

    * Its value model is a language model with a scalar output; which one, and how it is trained, is not said. The
      default here is a small network over features of the text (:class:`curri.estimators.text_value.TextValue`),
      which needs neither a download nor a GPU. A frozen language model with a trained head is handed in with ``use``.
    * The paper trains V once on the current batch (``passes=1, replay=0``); a small network needs more.
    * Whether V is squashed to [0, 1] is not said: ``squash``, on by default.
    * V knows nothing at first, so the first ``warm_up`` rounds with outcomes are drawn uniformly.
    * r̄ is the mean of ``solved``; where that is unknown, the mean reward, if all rewards of the group lie in [0, 1].
      Other groups teach nothing (fallback "no_pass_rate"). A group counts by its size, which in the paper is the same
      for all. Probe rollouts teach as well as others.

    Only prompts that were selected ever give V a target, so it is least sure of those far from τ.

    >>> from curri import Prompt, PromptPool, Rollouts
    >>> def fetch(ids):
    ...     return [Prompt(i, f"What is {10**i} + {10**i}?", None, "sums", {}) for i in ids.tolist()]
    >>> pcl = PCL(PromptPool(range(12), fetch=fetch), group_size=2, warm_up=1, candidates=6)
    >>> for _ in range(30):
    ...     ids = pcl.ask(4).prompt_ids.repeat(2)
    ...     pcl.tell(Rollouts(ids, (ids < 5) | ((ids < 7) & (np.arange(8) % 2 == 0))))
    ...     pcl.advance()
    >>> sorted(pcl.ask(2).prompt_ids.tolist())
    [5, 6]
    """

    name: ClassVar[str] = "pcl"
    summary: ClassVar[str] = "prompts whose pass rate, predicted from the text, is nearest to a target (PCL)"
    source: ClassVar[str] = "PCL, arXiv 2510.01135"
    tags: ClassVar[frozenset[str]] = frozenset({"texts"})

    candidates: int = integer(
        default=4,
        low=1,
        high=100_000,
        symbol="k",
        doc="candidates for each prompt of a batch, drawn uniformly",
        source="PCL, main experiments",
    )
    target: float = real(
        default=0.5, low=0.0, high=1.0, symbol="τ", doc="the pass rate to stay near", source="PCL, main experiments"
    )
    warm_up: int = integer(
        default=3, low=0, doc="rounds with outcomes before the value model selects; drawn uniformly until then"
    )
    learning_rate: float = real(default=3e-3, low=1e-12, high=1000.0, doc="of the value model, by AdamW")
    weight_decay: float = real(default=0.01, low=0.0, high=1000.0, doc="of the value model, by AdamW")
    passes: int = integer(
        default=4, low=1, high=1000, doc="times the value model goes over its prompts in a round", source="PCL: 1"
    )
    replay: int = integer(
        default=512,
        low=0,
        high=1 << 20,
        doc="groups of earlier rounds that the value model trains on again, the last ones",
        source="PCL: 0",
    )
    minibatch: int = integer(default=64, low=1, high=1 << 30, doc="prompts of one step of the value model")
    hashed: int = integer(default=512, low=1, high=65536, doc="places for hashed n-grams among the text's features")
    hidden: int = integer(default=32, low=1, high=4096, doc="units of the value model's hidden layer")
    initial_mean: float = real(
        default=0.5, low=0.001, high=0.999, doc="the prediction before anything was learned: the data's mean pass rate"
    )
    squash: bool = switch(default=True, doc="let a sigmoid keep the value in [0, 1]; off, it is linear and cut off")

    def use(self, model: ValueModel) -> Self:
        """Predict with this value model instead of the one over features of the text.

        It has to be handed in before the first round, or before a saved state is loaded: parameters are plain JSON, so
        a model cannot be one. The parameters of the text model then have no effect. A state carries the model's name
        and its state, and is loaded only into a strategy that uses a model of that name. For a strategy that a
        scheduler or the command line builds by its name, override ``_new_value_model`` in a subclass.

        Returns:
            the strategy itself.

        Raises:
            InvalidParameter: not a ``ValueModel``, or a round has begun.
        """
        if not isinstance(model, ValueModel):
            raise InvalidParameter(f"`model` of `{type(self).__name__}.use` must be a `ValueModel`; got {model!r}")
        if self._rounds_asked or self._rounds_closed:
            raise InvalidParameter(
                f"`{type(self).__name__}.use` must be called before the first round; "
                f"rounds so far: {max(self._rounds_asked, self._rounds_closed)}",
                hint="hand the model in right after construction, and load a saved state afterwards",
            )
        self._model = model
        return self

    def _new_value_model(self) -> ValueModel:
        """The value model to start with; a subclass may give another one."""
        return TextValue(
            hashed=self.hashed,
            hidden=self.hidden,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            passes=self.passes,
            minibatch=self.minibatch,
            replay=self.replay,
            initial_mean=self.initial_mean,
            squash=self.squash,
            seed=self.seed % 2**63,
        )

    # ---- picking ------------------------------------------------------------------------------------------------

    def _pick(self, request: Request) -> Picked:
        if self._warm_up_left:
            return self._drawn_uniformly(request)
        return pick_best(self, request, self._nearness, candidates=self.candidates)

    def _drawn_uniformly(self, request: Request) -> Picked:
        if request.quota is None:
            rows = uniform_rows(self.pool.active_everywhere, request.n, self._rng, request.excluded)
            share = np.full(rows.size, request.n / request.supply.sum())
        else:
            parts = [
                uniform_rows(self.pool.active_rows(arm), int(request.quota[arm]), self._rng, request.excluded)
                for arm in np.flatnonzero(request.quota).tolist()
            ]
            rows = np.concatenate(parts)
            share = (request.quota / np.maximum(request.supply, 1))[self.pool.arms[rows]]
        order = self._rng.permutation(rows.size)
        return Picked(rows[order], share[order])

    def _nearness(self, rows: Ints) -> Floats:
        return -np.abs(self._values(rows) - self.target)

    def _values(self, rows: Ints) -> Floats:
        return self._model.predict(self.pool.prompts(rows))

    def _arm_mass(self, request: Request) -> Floats:
        """Prompts of each arm in the batch that would be taken now; by size during the warm-up."""
        if self._warm_up_left:
            return request.supply.astype(np.float64)
        rng = np.random.Generator(np.random.PCG64(0))
        rng.bit_generator.state = self._rng.bit_generator.state
        supply = int(request.supply.sum())
        n = min(request.n, supply)
        k = min(n * self.candidates, supply)
        drawn = rng.permutation(uniform_rows(self.pool.active_everywhere, k, rng, request.excluded))
        best = best_rows(drawn, self._nearness(drawn), n)
        return np.bincount(self.pool.arms[best], minlength=len(self.pool.arm_names)).astype(np.float64)

    @property
    def _warm_up_left(self) -> int:
        return max(self.warm_up - self._updates, 0)

    # ---- learning -----------------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        if not hasattr(self, "_model"):
            self._model = self._new_value_model()
            self._updates = 0
            self._accuracy = np.zeros(len(_Sums._fields))
            self._last: dict[str, float] = {}

    def _fold(self, evidence: Evidence) -> None:
        groups = evidence.groups(probe=None)
        measured = _measured(groups)
        if measured.rows.size < len(groups):
            self._fall_back(
                "no_pass_rate",
                "rewards outside [0, 1] without `solved` are no pass rates, so the value model learns nothing from "
                "them (tell `solved` beside the reward)",
            )
        if not measured.rows.size:
            return
        self._accuracy = self._accuracy * _MEMORY
        order = np.argsort(stable_hash(self.pool.ids[measured.rows], self._rounds_closed))
        predicted = [
            self._learn(measured.take(order[start : start + _BLOCK])) for start in range(0, order.size, _BLOCK)
        ]
        self._updates += 1
        self._last = {
            "predicted_mean": float(np.concatenate(predicted).mean()),
            "solved_mean": float(measured.rate.mean()),
            "effective_ratio": float(groups.live.mean()),
        }

    def _learn(self, measured: _Measured) -> Floats:
        """Learn, and note how good the predictions before it were; gives them."""
        predicted = self._model.fit(self.pool.prompts(measured.rows), measured.rate, measured.size)
        self._accuracy = self._accuracy + _sums(measured, predicted)
        return predicted

    # ---- state and talk -----------------------------------------------------------------------------------------

    def _own_state(self) -> State:
        return {
            "model": self._model.name,
            "updates": self._updates,
            "accuracy": self._accuracy,
            "last": dict(self._last),
            **{_VALUE + name: value for name, value in self._model.state().items()},
        }

    def _load_own_state(self, state: State) -> None:
        if state["model"] != self._model.name:
            raise StateMismatch(
                f"the state was learned by the value model {state['model']!r}; this `{type(self).__name__}` has "
                f"{self._model.name!r}",
                hint="hand the model in with `use(model)` before loading the state",
            )
        strange = [name for name in state if name not in _OWN and not name.startswith(_VALUE)]
        if strange:
            raise StateMismatch(f"the state has an entry {min(strange)!r} that `{type(self).__name__}` does not know")
        accuracy, updates, last = state["accuracy"].copy(), int(state["updates"]), dict(state["last"])
        if accuracy.shape != (len(_Sums._fields),):
            raise StateMismatch(f"'accuracy' must be of shape {(len(_Sums._fields),)}; got {accuracy.shape}")
        # Last, as it is the only thing that cannot be undone: a model refuses a wrong state before it changes.
        self._model.load({n.removeprefix(_VALUE): value for n, value in state.items() if n.startswith(_VALUE)})
        self._accuracy, self._updates, self._last = accuracy, updates, last

    def _own_metrics(self) -> dict[str, float]:
        return {
            "warm_up_left": self._warm_up_left,
            "updates": self._updates,
            **self._last,
            **_accuracy_metrics(_Sums(*self._accuracy.tolist())),
        }

    def _explain(self, row: int) -> dict[str, Any]:
        value = float(self._values(np.array([row]))[0])
        return {
            "predicted_pass_rate": value,
            "target": self.target,
            "distance_to_target": abs(value - self.target),
            "warm_up_left": self._warm_up_left,
            "value_model": self._model.name,
        }


class _Measured(NamedTuple):
    """Groups with a pass rate: row of the prompt, the rate and the number of responses behind it; shape (groups,)."""

    rows: Ints
    rate: Floats
    size: Ints

    def take(self, positions: Ints) -> _Measured:
        return _Measured(self.rows[positions], self.rate[positions], self.size[positions])


def _measured(groups: Groups) -> _Measured:
    judged = groups.known > 0
    rate = np.where(judged, groups.successes / np.maximum(groups.known, 1), groups.reward_mean)
    usable = judged | ((groups.reward_min >= 0.0) & (groups.reward_max <= 1.0))
    size = np.where(judged, groups.known, groups.size)
    return _Measured(groups.rows[usable], np.clip(rate[usable], 0.0, 1.0), size[usable])


class _Sums(NamedTuple):
    """Decayed sums over the groups told, r the measured rate, e = r - V, n the size of a group.

    Attributes:
        groups: how many.
        rate: Σ r.
        rate_squared: Σ r².
        error: Σ e.
        error_squared: Σ e².
        inverse_size: Σ 1 / n.
        repeated: how many have n ≥ 2.
        noise: Σ r (1 - r) · n / (n - 1) over those, which estimates Σ p (1 - p) without bias.
    """

    groups: float
    rate: float
    rate_squared: float
    error: float
    error_squared: float
    inverse_size: float
    repeated: float
    noise: float


def _sums(measured: _Measured, predicted: Floats) -> Floats:
    rate, error, size = measured.rate, measured.rate - predicted, measured.size
    repeated = size > 1
    noise = np.where(repeated, rate * (1.0 - rate) * size / np.maximum(size - 1, 1), 0.0)
    columns = (np.ones(rate.size), rate, rate**2, error, error**2, 1.0 / size, repeated, noise)
    return np.array([np.sum(column) for column in columns], dtype=np.float64)


def _accuracy_metrics(sums: _Sums) -> dict[str, float]:
    """How well V predicted groups before it learned from them, where that can be told.

    A measured rate is the true one plus noise of variance E[p(1 - p)] · E[1 / n], which is taken off both variances.
    The explained variance is left out where the true rates of what was selected hardly differ.
    """
    if not (sums.groups and sums.repeated):
        return {}
    metrics = {"bias": -sums.error / sums.groups}
    spread = sums.noise / sums.repeated
    noise = spread * sums.inverse_size / sums.groups
    variance = sums.rate_squared / sums.groups - (sums.rate / sums.groups) ** 2 - noise
    residual = max(sums.error_squared / sums.groups - (sums.error / sums.groups) ** 2 - noise, 0.0)
    if variance > max(_LEAST_SIGNAL * noise, 1e-9):
        metrics["explained_variance"] = 1.0 - residual / variance
    if spread > 0.0:
        metrics["rollout_equivalent"] = spread / max(residual, spread / _MOST_ROLLOUTS)
    return metrics
