"""``python -m benchmarks.replay --data DIR``: replay a recorded GRPO run; see README.md."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HERE = Path(__file__).resolve().parent
CURVES, PRIOR = "rl_run_counts.csv.gz", "rl_run_prior_fail_of_128.csv.gz"
OURS, BEST = "frontier", "frontier, best"
BEST_PARAMETERS = {"picking": "best", "curiosity": 1.0}
EXCESS, QUARTER, LIVE = 0.0026, 0.83, 0.92
"""What `frontier` is to reach."""
SPEED_PROMPTS = 10_000


def main() -> int:
    """Play, store the results, and write the tables of README.md from them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__)
    parser.add_argument(
        "--data", type=Path, help=f"folder with {CURVES} and {PRIOR}; without it, only write the tables"
    )
    parser.add_argument("--quick", action="store_true", help="60 steps and 2 seeds; nothing is stored")
    parser.add_argument("--speed", action="store_true", help="only measure the simulated learner that reacts")
    parser.add_argument("--jobs", type=int, default=0, help="processes; as many as cores without it")
    given = parser.parse_args()
    if given.speed:
        print(f"{speed():,.0f} steps in a second of one core, {SPEED_PROMPTS:,} prompts, groups of 8 for 64 of them")
        return 0
    stored = HERE / "results.json"
    if given.data is not None:
        found = play(given.data, quick=given.quick, jobs=given.jobs)
        if given.quick:
            print("\n".join(tables(found)))
            return 0
        stored.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    found = json.loads(stored.read_text(encoding="utf-8"))
    from benchmarks.table import filled  # imports NumPy, whose threads are set above

    readme = HERE / "README.md"
    readme.write_text(filled(readme.read_text(encoding="utf-8"), "results", tables(found)), encoding="utf-8")
    print("\n".join(tables(found)))
    return 0


def play(data: Path, *, quick: bool, jobs: int) -> dict[str, Any]:
    """All strategies on the recorded run."""
    from curri.simulation.parallel import cores
    from curri.simulation.records import read_counts
    from curri.simulation.replay_summary import ReplaySettings, replay_document

    records = read_counts(data / CURVES, data / PRIOR)
    size: dict[str, Any] = {"steps": 60, "seeds": 2} if quick else {}
    start = time.perf_counter()
    best = ReplaySettings(jobs=jobs or cores(), parameters={OURS: BEST_PARAMETERS}, **size)
    found = replay_document(records, best, tell=_say)
    for row in found["strategies"]:
        row["label"] = row["label"].replace(OURS, BEST)
    drawn = replay_document(records, ReplaySettings(jobs=jobs or cores(), strategies=(OURS,), **size), tell=_say)
    found["strategies"] += [row for row in drawn["strategies"] if row["label"].startswith(OURS)]
    found["strategies"].sort(key=lambda row: -row["live"]["mean"])
    return {**found, "seconds": round(time.perf_counter() - start)}


def speed() -> float:
    """Steps of the reacting learner, answers and learning, in a second of processor time."""
    import numpy as np

    from curri.simulation.reacting import fitted_scene

    scene = fitted_scene(0, prompts=SPEED_PROMPTS)
    rng = np.random.Generator(np.random.PCG64(0))
    picks = [rng.choice(scene.pool.ids, 64, replace=False) for _ in range(2000)]
    scene.learner.answer(picks[0], 8, round=0)
    start = time.process_time()
    for step, ids in enumerate(picks):
        told = scene.learner.answer(ids, 8, round=step)
        scene.learner.learn(told.prompt_ids, told.rewards)
    return len(picks) / (time.process_time() - start)


def _say(done: int, total: int | None, word: str) -> None:
    print(f"{done} of {total}: {word}" if total else word, file=sys.stderr, flush=True)


# --- tables -----------------------------------------------------------------------------------------------------------


def tables(found: Mapping[str, Any]) -> list[str]:
    """What README.md shows, as Markdown."""
    from curri.reports.replay import HEADINGS, strategy_cells

    bounds, data, settings = found["bounds"], found["data"], found["settings"]
    wanted = bounds["wanted"]
    what = (
        f"{data['prompts']} prompts, {data['visits']:,} recorded visits; {settings['steps']} steps of "
        f"{settings['batch']} prompts with {settings['group_size']} rollouts, {settings['seeds']} seeds, moving "
        f"average over {settings['window']} visits. Full knowledge: {bounds['free']:.3f}; with every prompt visited "
        f"{wanted['least']} times and at most {wanted['top']:.0%} of visits on a tenth of them: "
        f"{_number(wanted['live'], 3)}."
    )
    return [
        what,
        "",
        *_markdown(HEADINGS, [[cell.text for cell in strategy_cells(row, settings)] for row in found["strategies"]]),
        "",
        "Excess error of pass rates foretold on the recorded visits themselves, one visit ahead:",
        "",
        *_markdown(("rule", "excess", "±"), _foretold(found)),
        "",
        "Targets:",
        "",
        *_markdown(("target", "figure", "", "beside it"), targets(found)),
        "",
        "Left out: " + "; ".join(f"`{name}` {why}" for name, why in found["left_out"].items()) + ".",
    ]


def _foretold(found: Mapping[str, Any]) -> list[list[str]]:
    rows = sorted(found["foretold"], key=lambda each: each["mean"])
    return [[each["name"], f"{each['mean']:.5f}", f"{each['se']:.5f}"] for each in rows]


def targets(found: Mapping[str, Any]) -> list[list[str]]:
    """Each target, what was reached, and the figure that says what there is to reach."""
    excess = next(each for each in found["foretold"] if each["name"] == OURS)
    discounts = [each for each in found["foretold"] if each["name"].startswith("discount")]
    best = min(discounts, key=lambda each: each["mean"])
    contact = found["first_contact"]
    live = next(row for row in found["strategies"] if row["label"] == BEST)
    wanted = found["bounds"]["wanted"]
    share = f"{live['live']['mean']:.4f} ± {_number(live['live']['se'], 4)}"
    coverage = f"top tenth {live['top']['mean']:.1%}, least visits {live['least_visits']['mean']:.1f}"
    return [
        [
            f"excess ≤ {EXCESS}",
            f"{excess['mean']:.5f} ± {excess['se']:.5f}",
            _verdict(excess["mean"] <= EXCESS),
            f"best fixed setting in hindsight: {best['name']}, {best['mean']:.5f}",
        ],
        [
            f"first contact, best quarter ≥ {QUARTER}",
            f"{contact['calibrated']:.3f} (± {contact['calibrated_sd']:.3f} from split to split)",
            _verdict(contact["calibrated"] >= QUARTER),
            (
                f"as imported {contact['raw']:.3f}; best stretch of imported rates in hindsight, "
                f"{contact['hindsight']:.3f}; by curves that have seen these groups, {contact['known']:.3f}"
            ),
        ],
        [
            f"live ≥ {LIVE} within the coverage",
            f"{share}; {coverage}",
            _verdict(live["live"]["mean"] >= LIVE and live["keeps_coverage"]),
            f"bound {_number(wanted['live'], 3)}",
        ],
    ]


def _verdict(reached: bool) -> str:  # noqa: FBT001
    return "reached" if reached else "**not reached**"


def _number(value: float | None, decimals: int) -> str:
    return "–" if value is None else f"{value:.{decimals}f}"


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    marks = ["---", *["---:"] * (len(headings) - 1)]
    return [f"| {' | '.join(each)} |" for each in (headings, marks, *rows)]


if __name__ == "__main__":
    sys.exit(main())
