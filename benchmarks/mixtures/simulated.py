"""A simulated family of RLVR runs with a known optimum: regret of design + surrogate + optimiser by number of runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.mixtures.tables import Shown
from curri import mixtures
from curri.errors import InvalidData, MissingExtra
from curri.mixtures.optimise import maximise

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from curri.types import Floats

ARMS, TASKS, PROMPTS = 6, 3, 4_000.0
SIZES = (12, 24, 48, 96)
NOISES = (0.005, 0.02)
MAIN = ("best", "lightgbm")
OTHERS = ("gp", "gp-ard", "loglinear", "linear", "quadratic", "quadratic-ols", "exponential")
SEEDS, FEWER = 20, 5
CHECKED = 20_000


@dataclass(frozen=True)
class World:
    """What training on a mixture does to the success rates of three tasks.

    An arm of N_j prompts that is gone through e times gives N_j·(1 - exp(-e)) fresh prompts' worth (exhaustion). Task k
    gains from arm j by transfer T_kj, levels off (h_k·(1 - exp(-x / τ_k))), and loses a little to arms that teach
    something else. A run adds normal noise to every task's score.
    """

    sizes: Floats
    transfer: Floats
    height: Floats
    pace: Floats
    harm: Floats
    start: Floats

    @classmethod
    def drawn(cls, seed: int, arms: int = ARMS) -> World:
        rng = np.random.default_rng([seed, 7])
        transfer = rng.uniform(0.0, 0.3, (TASKS, arms)) * (rng.random((TASKS, arms)) < 0.7)
        transfer[np.arange(TASKS), rng.permutation(arms)[:TASKS]] = 1.0
        return cls(
            sizes=np.exp(rng.uniform(np.log(600.0), np.log(20_000.0), arms)),
            transfer=transfer,
            height=rng.uniform(0.1, 0.4, TASKS),
            pace=rng.uniform(0.08, 0.5, TASKS),
            harm=rng.uniform(0.0, 0.06, (TASKS, arms)) * (transfer < 0.05),
            start=rng.uniform(0.15, 0.4, TASKS),
        )

    def scores(self, weights: Floats) -> Floats:
        """Success rates without noise, shape (R, 3)."""
        worth = self.sizes * (1.0 - np.exp(-weights * PROMPTS / self.sizes)) / PROMPTS
        gained = self.height * (1.0 - np.exp(-(worth @ self.transfer.T) / self.pace))
        return np.asarray(self.start + gained - weights @ self.harm.T)

    def value(self, weights: Floats) -> Floats:
        """The target: the mean of the three."""
        return np.asarray(self.scores(np.atleast_2d(weights)).mean(axis=1))

    def optimum(self, arms: int = ARMS) -> float:
        """The highest value: the optimiser on the truth, checked against 20,000 draws."""
        limits = mixtures.constraints([str(arm) for arm in range(arms)])
        found = float(maximise(self.value, limits, np.eye(arms))[1][0])
        rng = np.random.default_rng(0)
        drawn = float(self.value(rng.dirichlet(np.full(arms, 0.5), CHECKED)).max())
        assert found >= drawn - 1e-9, (found, drawn)
        return found


class Outcome(NamedTuple):
    """Regret in success rate: what the optimum has more than what was chosen."""

    guarded: float
    predicted: float
    measured: float
    paper: float
    uniform: float


def one(name: str, seed: int, runs: int, noise: float) -> Outcome:
    """Plan, run, fit, choose."""
    world = World.drawn(seed)
    plan = mixtures.make_design(ARMS, runs, replicates=max(2, runs // 8), seed=seed)
    rng = np.random.default_rng([seed, runs])
    scores = world.scores(plan.weights) + noise * rng.standard_normal((runs, TASKS))
    columns = {f"task {k}": scores[:, k] for k in range(TASKS)}
    data = mixtures.Runs([f"arm {j}" for j in range(ARMS)], plan.weights, columns)
    target = mixtures.Target("mean", dict.fromkeys(columns, 1.0 / TASKS))
    found = mixtures.recommend(mixtures.fit(data, name), target, mixtures.constraints(data.arms), seed=seed)
    paper = mixtures.paper_search(plan.weights, scores.mean(axis=1), seed=seed)
    chosen = [
        found.weights,
        found.candidates[0].weights,
        plan.weights[int(np.argmax(scores.mean(axis=1)))],
        paper.weights[0],
        np.full(ARMS, 1.0 / ARMS),
    ]
    return Outcome(*(world.optimum() - world.value(np.array(chosen))).tolist())


def regrets(name: str, seeds: int, sizes: tuple[int, ...], noise: float) -> Floats | None:
    """Regrets of every seed, shape (sizes, seeds, 5); NaN where the surrogate needs more runs, None where a package."""
    found = np.full((len(sizes), seeds, len(Outcome._fields)), np.nan)
    for i, runs in enumerate(sizes):
        for seed in range(seeds):
            try:
                found[i, seed] = one(name, seed, runs, noise)
            except InvalidData:
                break
            except MissingExtra:
                return None
    return found


def measure(pool: Executor, *, quick: bool) -> dict[str, Any]:
    """Regrets of every surrogate at every noise, number of runs and seed; None where it needs more runs."""
    sizes, seeds, others = (SIZES[:2], 3, ()) if quick else (SIZES, SEEDS, OTHERS)
    noises: dict[str, Any] = {}
    asked = {
        noise: {
            name: pool.submit(regrets, name, seeds if name in MAIN else FEWER, sizes, noise)
            for name in (*MAIN, *others)
        }
        for noise in (NOISES[-1:] if quick else NOISES)
    }
    for noise, by_name in asked.items():
        found = {name: each.result() for name, each in by_name.items()}
        default = found[MAIN[0]]
        assert default is not None
        surrogates = {
            name: {what: _kept(each[:, :, i]) for i, what in enumerate(("guarded", "predicted"))}
            for name, each in found.items()
            if each is not None
        }
        without = {what: _kept(default[:, :, i]) for i, what in enumerate(("measured", "paper", "uniform"), start=2)}
        noises[str(noise)] = {"surrogates": surrogates, **without}
    return {"arms": ARMS, "tasks": TASKS, "sizes": list(sizes), "seeds": list(range(seeds)), "noises": noises}


def _kept(values: Floats) -> list[list[float] | None]:
    return [None if np.isnan(row).any() else row.round(6).tolist() for row in values]


# --- what is shown ----------------------------------------------------------------------------------------------------


def shown(result: dict[str, Any]) -> list[Shown]:
    """A table for each noise."""
    return [_table(result, noise) for noise in result["noises"]]


def _table(result: dict[str, Any], noise: str) -> Shown:
    part = result["noises"][noise]
    rows = []
    for name, found in part["surrogates"].items():
        rows += _rows(name, found)
        if name == MAIN[0] and len(result["seeds"]) > FEWER:  # beside those that have fewer seeds
            rows += _rows(name, {what: [row and row[:FEWER] for row in each] for what, each in found.items()})
    others = (("best score among the runs", "measured"), ("the paper's Algorithm 4", "paper"), ("uniform", "uniform"))
    rows += [[what, _seeds(part[key]), *[_cell(row) for row in part[key]]] for what, key in others]
    title = f"Simulated RLVR, {result['arms']} arms, {result['tasks']} tasks, noise {noise} a run and task"
    note = (
        "Regret ± standard error in points of success rate (0.01): what the best mixture has more than the chosen one, "
        "by number of runs, an eighth of them replicates. Seeds from 0."
    )
    return Shown(title, ["chosen by", "seeds", *[f"{n} runs" for n in result["sizes"]]], rows, [note, *_guard(part)])


def _rows(name: str, found: dict[str, list[list[float] | None]]) -> list[list[str]]:
    return [[f"{name}, {what}", _seeds(each), *[_cell(row) for row in each]] for what, each in found.items()]


def _guard(part: dict[str, Any]) -> list[str]:
    """What the guard gives and takes, against the best measured score."""
    found = part["surrogates"][MAIN[0]]
    worse = {}
    for what in ("guarded", "predicted"):
        pairs = [
            (ours, theirs)
            for row, measured in zip(found[what], part["measured"], strict=True)
            for ours, theirs in zip(row, measured, strict=True)
        ]
        loses = [ours - theirs for ours, theirs in pairs if ours > theirs + 1e-9]
        most = f", at most by {100 * max(loses):.2f}" if loses else ""
        worse[what] = f"{len(loses)} of {len(pairs)}{most}"
    words = (
        f"Worse than the run with the best score: `{MAIN[0]}` guarded in {worse['guarded']}, its best candidate "
        f"whatever the guard says in {worse['predicted']} (seeds and numbers of runs together)."
    )
    return [words]


def _seeds(rows: list[list[float] | None]) -> str:
    return str(max((len(row) for row in rows if row is not None), default=0) or "–")


def _cell(values: list[float] | None) -> str:
    if values is None:
        return "too few"
    mean, error = spread(values)
    return f"{mean:.2f} ± {error:.2f}"


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and standard error, in points."""
    points = 100.0 * np.array(values)
    return float(points.mean()), float(points.std(ddof=1) / np.sqrt(len(points)))
