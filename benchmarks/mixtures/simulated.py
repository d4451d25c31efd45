"""A simulated family of RLVR runs with a known optimum: regret of design + surrogate + optimiser by number of runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks.mixtures.tables import table
from curri import mixtures
from curri.errors import InvalidData, MissingExtra
from curri.mixtures.optimise import maximise

if TYPE_CHECKING:
    from curri.types import Floats

ARMS, TASKS, PROMPTS = 6, 3, 4_000.0
SIZES = (12, 24, 48, 96)
NOISES = (0.005, 0.02)
MAIN = ("best", "lightgbm")
OTHERS = ("gp", "gp-ard", "loglinear", "linear", "quadratic", "quadratic-ols", "exponential")
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


def regret(name: str, seeds: int, sizes: tuple[int, ...], noise: float) -> Floats:
    """Regrets of every seed, shape (sizes, seeds, 5); NaN where the surrogate needs more runs."""
    found = np.full((len(sizes), seeds, len(Outcome._fields)), np.nan)
    for i, runs in enumerate(sizes):
        for seed in range(seeds):
            try:
                found[i, seed] = one(name, seed, runs, noise)
            except InvalidData:
                break
    return found


def run(*, quick: bool) -> dict[tuple[str, float], Floats]:
    """Print the tables; regrets by surrogate and noise."""
    sizes, seeds, others = (SIZES[:2], 3, ()) if quick else (SIZES, 20, OTHERS)
    found = {}
    for noise in NOISES[-1:] if quick else NOISES:
        lines = []
        for name in (*MAIN, *others):
            try:
                regrets = regret(name, seeds if name in MAIN else 5, sizes, noise)
            except MissingExtra as error:
                lines.append([name, error.message])
                continue
            found[name, noise] = regrets
            count = f"{regrets.shape[1]} seeds"
            for what, part in (("guarded", 0), ("predicted", 1)):
                lines.append([f"{name}, {what}", count, *[_cell(regrets[i, :, part]) for i in range(len(sizes))]])
        first = found[MAIN[0], noise]
        for what, part in (("best score among the runs", 2), ("the paper's Algorithm 4", 3), ("uniform", 4)):
            lines.append([what, f"{seeds} seeds", *[_cell(first[i, :, part]) for i in range(len(sizes))]])
        print(
            f"\nSimulated RLVR, {ARMS} arms, {TASKS} tasks, noise {noise} a run and task: regret ± standard error, in"
        )
        print("points of success rate (0.01), by number of runs, an eighth of them replicates")
        print(table(["chosen by", "", *[f"{n} runs" for n in sizes]], lines))
    return found


def _cell(values: Floats) -> str:
    if np.isnan(values).any():
        return "too few"
    error = values.std(ddof=1) / np.sqrt(len(values))
    return f"{100 * values.mean():.2f} ± {100 * error:.2f}"
