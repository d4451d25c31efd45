"""One claim a strategy: the pool its paper has in mind, and a simulated learner on it; see README.md here.

All pools and learners were written down with ``uniform`` alone in view, before any other strategy had run on them, and
stayed. What they share:

* 8 rollouts a prompt, 64 prompts a round, a budget of 80 such rounds (40,960 rollouts): ten epochs of 512 prompts.
* Learning rates: under ``uniform`` a skill becomes about one logit easier in the run, much as in the 500 steps of a
  recorded GRPO run of a 1.5B model (see :mod:`curri.simulation.demo`). Two claims say why they differ.
* The standard pool: difficulties with mean 1.4 and standard deviation 2.4 logits. Of its groups of 8, 35 % are all
  wrong and 7 % all right at the start; in that recorded run they were 36 % and 8 %.
* Every prompt is judged: learning is the increase of the mean pass rate over the whole pool, unpicked prompts included.
* Transfer 0.1 between skills, and a room of 3 logits for each, as in the demo.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.irt import logistic
from curri.pool import PromptPool
from curri.simulation.demo import ARMS
from curri.simulation.gain import Claim, Creator, Scene, play
from curri.simulation.learner import SimulatedLearner, normal_noise
from curri.types import Prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from curri.types import Floats, Ints

GROUP, BATCH, ROUNDS = 8, 64, 80
BUDGET = GROUP * BATCH * ROUNDS
STANDARD = (1.4, 2.4)
"""Mean and standard deviation of the difficulties, logits."""
ONE_SKILL = 6e-4
"""Learning rate for a pool of one skill: under ``uniform`` the standard pool becomes 1.2 logits easier."""

_TASTE, _READING, _SIZE = 101, 202, 303
"""Added to the seed for other noise than that of the difficulties."""


def standard(seed: int) -> Scene:
    """512 prompts of one arm and one skill, as hard as those of the recorded run."""
    mean, spread = STANDARD
    return _one_skill(512, lambda ids: mean + spread * normal_noise(ids, seed=seed), seed)


def _one_skill(size: int, difficulty: Callable[[Ints], Floats], seed: int, rate: float = ONE_SKILL) -> Scene:
    ids = 1 + np.arange(size)
    learner = SimulatedLearner(ids, ["all"] * size, difficulty(ids), learning_rate=rate, seed=seed)
    return Scene(PromptPool(ids), learner)


def _arms(
    arms: Sequence[tuple[str, str, float, int]], *, spread: float, rate: float, seed: int, room: float = 3.0
) -> Scene:
    """Arms of (name, skill, mean difficulty, prompts)."""
    names, skills, levels, sizes = zip(*arms, strict=True)
    ids = 1 + np.arange(sum(sizes))
    difficulty = np.repeat(levels, sizes) + spread * normal_noise(ids, seed=seed)
    learner = SimulatedLearner(ids, np.repeat(skills, sizes), difficulty, learning_rate=rate, room=room, seed=seed)
    return Scene(PromptPool(ids, np.repeat(names, sizes)), learner)


# ---- arms ----------------------------------------------------------------------------------------------------------


def people(seed: int) -> Scene:
    """Knights and Knaves of 3 to 14 people, 48 prompts each; a logit harder for each further person, as in the demo."""
    arms = [(f"people={n:02d}", "knights_knaves", n - 2.0, 48) for n in range(3, 15)]
    return _arms(arms, spread=1.5, rate=1.5e-3, seed=seed)


def tasks_and_levels(seed: int) -> Scene:
    """The 16 arms and 6 skills of the demo, 32 prompts each."""
    return _arms([(arm.name, arm.task, arm.difficulty, 32) for arm in ARMS], spread=1.5, rate=2e-3, seed=seed)


def many_tasks(seed: int) -> Scene:
    """24 tasks of 25 prompts, each a skill of its own, from far too easy (-5 logits) to far too hard (6)."""
    levels = np.linspace(-5.0, 6.0, 24)
    arms = [(f"task {i:02d}", f"task {i:02d}", level, 25) for i, level in enumerate(levels.tolist())]
    return _arms(arms, spread=1.0, rate=6e-3, seed=seed)


def ladder(seed: int) -> Scene:
    """Four levels of one skill, 128 prompts each, two logits apart; the learner can climb all of them."""
    arms = [(f"level {i}", "ladder", 2.0 * i - 1.0, 128) for i in range(4)]
    return _arms(arms, spread=1.0, rate=1e-3, seed=seed, room=6.0)


DATASETS = (
    ("boxes", -3.0, 200),
    ("referring", 0.5, 44),
    ("geometry", 1.5, 66),
    ("spatial", 4.0, 500),
    ("science", 0.0, 207),
)
"""Five data sets: name, mean difficulty, prompts (the paper's sizes, divided by 30)."""


def datasets(seed: int, kept: frozenset[str] | None = None) -> Scene:
    """Five data sets of different size and use, each a skill of its own; with ``kept``, only those may be picked."""
    scene = _arms([(name, name, level, n) for name, level, n in DATASETS], spread=1.5, rate=2e-3, seed=seed)
    if kept is None:
        return scene
    pool = scene.pool
    mine = pool.ids[np.isin(pool.arm_of(np.arange(len(pool))), sorted(kept))]
    return Scene(pool.restricted_to(mine), scene.learner, judged=pool.ids)


@cache
def mixture() -> dict[str, float]:
    """Mixture weights by the paper's procedure: seed runs, then its Algorithm 1 for the in-distribution score.

    The seed runs are the paper's: each data set alone, all but one, and all; a quarter of the budget each, on seed 0,
    which no figure uses. A run of one data set counts half, a value that the paper does not print. The cost of seed
    runs is not counted, as in the paper: the weights are found once and used in many runs.
    """
    names = [name for name, _, _ in DATASETS]
    everything = frozenset(names)
    runs = [*(frozenset({name}) for name in names), *(everything - {name} for name in names), everything]
    total = dict.fromkeys(names, 0.0)
    for kept in runs:
        claim = _claim("uniform", partial(datasets, kept=kept), budget=BUDGET // 4, batch=BATCH // 2)
        score = play(claim, "uniform", seed=0).learned(BUDGET // 4)
        for name in kept:
            total[name] += score * (0.5 if len(kept) == 1 else 1.0)
    low, high = min(total.values()), max(total.values())
    return {name: (value - low) / (high - low) for name, value in total.items()}


# ---- prompts -------------------------------------------------------------------------------------------------------


def with_priors(seed: int) -> Scene:
    """The standard pool, with pass rates of another model.

    That model is 1.5 logits abler and has a taste of its own of 1.9 logits, so that its rates and the learner's rank
    prompts alike to the degree measured between a 7B and a 1.5B model (Spearman 0.78); 128 rollouts each.
    """
    scene = standard(seed)
    ids = scene.pool.ids
    rate = logistic(1.5 - scene.learner.difficulty(ids) + 1.9 * normal_noise(ids, seed=seed + _TASTE))
    counted = np.random.default_rng(seed + _TASTE).binomial(128, rate) / 128
    return Scene(PromptPool(ids, prior_rate=counted), scene.learner)


def hard(seed: int) -> Scene:
    """512 prompts that are mostly too hard: mean difficulty 3.5, of which a third have a live group at the start."""
    return _one_skill(512, lambda ids: 3.5 + 2.4 * normal_noise(ids, seed=seed), seed, rate=8e-4)


def hard_but_not_hopeless(seed: int) -> Scene:
    """512 prompts with pass rates from nearly 0 to about 0.375 (v3's filter): mean difficulty 2.8, deviation 1."""
    return _one_skill(512, lambda ids: 2.8 + normal_noise(ids, seed=seed), seed)


def mastered(seed: int) -> Scene:
    """512 prompts of which the learner solves 95 % at the start, and a creator.

    Every 16 rounds (two epochs of the originals) each parent gets four children, 1, 2, 3 and 4 logits harder: a chain
    of four rewrites that are all kept, as in the released code. The originals are judged.
    """
    scene = _one_skill(512, lambda ids: -3.5 + normal_noise(ids, seed=seed), seed)
    return Scene(scene.pool, scene.learner, creator=Creator(every=16, step=1.0, children=4))


def sums(seed: int) -> Scene:
    """2,048 sums, harder with more terms and more digits; four fifths of the variance of difficulty can be read.

    Played for half the rounds at twice the learning rate, only because a value model takes its time.
    """
    ids = 1 + np.arange(2048)
    rng = np.random.default_rng(seed + _SIZE)
    terms, digits = rng.integers(2, 10, ids.size), rng.integers(1, 7, ids.size)
    visible = 1.4 + 0.45 * (terms - 5.5) + 0.7 * (digits - 3.5)
    difficulty = visible + 0.8 * normal_noise(ids, seed=seed + _READING)
    questions = [
        " + ".join(str(number) for number in rng.integers(10 ** (d - 1), 10**d, n).tolist())
        for n, d in zip(terms.tolist(), digits.tolist(), strict=True)
    ]

    def fetch(wanted: Ints) -> list[Prompt]:
        return [Prompt(i, f"What is {questions[i - 1]}?", None, "default", {}) for i in wanted.tolist()]

    learner = SimulatedLearner(ids, ["all"] * ids.size, difficulty, learning_rate=9e-4, seed=seed)
    return Scene(PromptPool(ids, fetch=fetch), learner)


# ---- the claims ----------------------------------------------------------------------------------------------------


def _claim(strategy: str, scene: Callable[[int], Scene], **changes: Any) -> Claim:
    settings: dict[str, Any] = {"pool": "", "why": "", "budget": BUDGET, "batch": BATCH, "group_size": GROUP}
    return Claim(strategy=strategy, scene=scene, **(settings | changes))


CLAIMS = (
    _claim(
        "uniform",
        standard,
        pool="512 prompts of one data set, as hard as in a recorded run",
        why="the control against itself, with other picks: its interval has to lie around zero",
        holds=False,
        reason="it is the control",
    ),
    _claim(
        "frontier",
        standard,
        pool="512 prompts of one data set, as hard as in a recorded run",
        why="one data set with many prompts solved always or never, ten epochs: the pool of mopps and greso",
    ),
    _claim(
        "frontier",
        people,
        variant="12 arms",
        pool="Knights and Knaves of 3 to 14 people, 12 arms",
        why="arms that differ much: the pool of ucb",
    ),
    _claim(
        "ucb",
        people,
        pool="Knights and Knaves of 3 to 14 people, 12 arms",
        why="DUMP, setting 1: few people are solved at the start, many are out of reach",
    ),
    _claim(
        "sec",
        tasks_and_levels,
        pool="16 arms: six tasks at one to six levels",
        why="SEC: categories are task and level; the demo's arms",
    ),
    _claim(
        "learning-progress",
        many_tasks,
        pool="24 tasks, from far too easy to far too hard",
        why="learning progress (OMNI): most tasks are solved already or cannot be learned yet",
    ),
    _claim(
        "easy-to-hard",
        ladder,
        parameters={"levels": [f"level {i}" for i in range(4)], "horizon": ROUNDS},
        pool="4 levels, two logits apart",
        why="E2H: levels by difficulty, the last ones out of reach at the start; uniform gains two logits here",
    ),
    _claim(
        "modomodo",
        datasets,
        parameters=lambda: {"weights": mixture()},
        pool="5 data sets of unequal size and use",
        why="MoDoMoDo: its five data sets' sizes, one mastered and the largest too hard; weights by its Algorithm 1",
    ),
    _claim(
        "mopps",
        standard,
        pool="512 prompts of one data set, as hard as in a recorded run",
        why="MoPPS: one data set with many prompts solved always or never, ten epochs",
    ),
    _claim(
        "greso",
        standard,
        pool="512 prompts of one data set, as hard as in a recorded run",
        why="GRESO: one data set, 42 % of its groups dead at the start, ten epochs",
    ),
    _claim(
        "dapo",
        standard,
        pool="512 prompts of one data set, as hard as in a recorded run",
        why="DAPO: one data set, 42 % of its groups dead at the start",
        holds=False,
        reason="A dead group has cost its rollouts when it is dropped, and would have taught nothing had it stayed: "
        "dropping and refilling makes batches full, not rollouts cheaper. The gain is per training round. Surplus live "
        "groups wait for the next step; thrown away, as in the released code (carry=0), they would cost 9 %",
    ),
    _claim(
        "adarft",
        with_priors,
        pool="the same, with pass rates of another model",
        why="AdaRFT: difficulties are another model's failure rates",
    ),
    _claim(
        "pcl",
        sums,
        budget=BUDGET // 2,
        pool="2,048 sums; terms and digits tell most of the difficulty",
        why="PCL: difficulty can be read from the prompt, and prompts come back too seldom to be known by visits",
        needs="torch",
    ),
    _claim(
        "vas",
        hard,
        parameters={"diversity": "none"},
        pool="512 prompts, mostly too hard",
        why="VAS: vanishing gradients on hard prompts; probes with the main text's N = 32 and T = 35. The simulated "
        "learner writes no texts, so their diversity is left out, as in the released YAML",
        holds=False,
        reason="Scoring takes 32 rollouts of every prompt every 35 rounds, none of which is trained on: nine tenths of "
        "the training rollouts of those rounds, and in the paper's own run, whose pool is larger for its batch, over "
        "three times as many. The paper counts training steps, and there it gains",
    ),
    _claim(
        "vas",
        hard,
        parameters={"diversity": "none", "probe_rollouts": 8, "refresh": 28},
        variant="N = 8, T = 28",
        pool="the same",
        why="the paper's cheapest probes, of its ablations",
    ),
    _claim(
        "reinforce-ada",
        hard_but_not_hopeless,
        parameters={"group_size": 4},
        pool="512 hard prompts, pass rates up to about 0.4",
        why="Reinforce-Ada: hard prompts, filtered as in v3; n = 4, M = 8, N = 4 as released, balanced exit. Uniform "
        "draws 8 and trains on 8: as many as a first round",
        holds=False,
        reason="More groups carry signal, but each takes two to three times the rollouts, and what is kept of them is "
        "one group of 4, which teaches this learner no more than a group of 8; the balanced exit goes on after the "
        "first success, for a second one. The gain is per training round, whose groups the paper holds fixed",
    ),
    _claim(
        "reinforce-ada",
        hard_but_not_hopeless,
        parameters={"group_size": 4, "exit": "positive"},
        variant="positive exit",
        pool="the same",
        why="the paper's other exit rule",
        holds=False,
        reason="As above: where successes are rare a rollout brings as much signal in a group of 8 as in 8 to 32 drawn "
        "for a group of 4; where they are not, uniform's first 8 were enough",
    ),
    _claim(
        "eva",
        mastered,
        pool="512 prompts, 95 % solved; children 1 to 4 logits harder",
        why="eva: when the prompts at hand are mastered, evolved ones carry on. Writing a child costs no rollouts",
    ),
)
"""In the order in which they are printed."""
