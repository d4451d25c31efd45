"""What every strategy gains over ``uniform`` on a simulated learner; see README.md here."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gain.claims import CLAIMS
from curri.simulation.gain import measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from curri.simulation.gain import Claim, Gain

SEEDS = range(2000, 2020)
"""Never used while strategies, pools or the harness were written."""
QUICK = 5
WIDTH = 116


def main(words: Sequence[str]) -> int:
    """Measure, print the table, and say by the exit code whether every claim came out as it says it would."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks gain", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="strategies; all without one")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} seeds instead of {len(SEEDS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file too")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the figures as an SVG picture (matplotlib)")
    given = parser.parse_args(words)
    gains = []
    for claim in chosen(given.names):
        print(f"measuring {claim.name} …", file=sys.stderr, flush=True)
        gains.append(measure(claim, SEEDS[:QUICK] if given.quick else SEEDS))
    print(render(gains))
    if given.json is not None:
        given.json.write_text(json.dumps([figures(gain) for gain in gains], indent=1) + "\n", encoding="utf-8")
    if given.figure is not None:
        from benchmarks.gain.figure import draw

        draw(gains, given.figure)
    return 0 if all(came_out(gain) for gain in gains) else 1


def chosen(names: Sequence[str]) -> list[Claim]:
    """The claims of some strategies, or all; those whose extra is not installed are left out, and this is said."""
    known = {claim.strategy for claim in CLAIMS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"no claim about {', '.join(unknown)}; there are {', '.join(sorted(map(str, known)))}")
    claims = [claim for claim in CLAIMS if not names or claim.strategy in names]
    missing = [claim for claim in claims if claim.needs and find_spec(claim.needs) is None]
    for claim in missing:
        print(f"{claim.name} is left out: it needs {claim.needs}", file=sys.stderr)
    return [claim for claim in claims if claim not in missing]


def came_out(gain: Gain) -> bool:
    """Whether the interval lies where the claim says: above zero, or not."""
    if gain.claim.strategy == "uniform":
        return gain.verdict == "around zero"
    return gain.is_above == gain.claim.holds


def figures(gain: Gain) -> dict[str, Any]:
    """Everything the table shows, for a machine."""
    low, high = gain.interval
    return {
        "strategy": gain.claim.strategy,
        "variant": gain.claim.variant,
        "pool": gain.claim.pool,
        "why": gain.claim.why,
        "reason": gain.claim.reason,
        "rollouts": gain.claim.budget,
        "seeds": gain.seeds.tolist(),
        "uniform": gain.uniform.tolist(),
        "learned": gain.strategy.tolist(),
        "ratio": gain.ratio,
        "difference": gain.difference,
        "interval": [low, high],
        "per_round": gain.per_round,
        "signal": [gain.signal_uniform, gain.signal_strategy],
        "probed": gain.probed,
        "verdict": gain.verdict,
        "as_claimed": came_out(gain),
    }


HEADS = ("strategy", "rollouts", "uniform", "strategy", "ratio", "difference, 95 % interval", "signal", "per round", "")


def render(gains: Sequence[Gain]) -> str:
    """The table, then the pools in words."""
    lines = [HEADS, *[_cells(gain) for gain in gains]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    seeds = len(gains[0].seeds) if gains else 0
    legend = [
        f"uniform, strategy: points of mean pass rate learned per 1,000 generated rollouts, mean of {seeds} seeds",
        "signal: share of the trained groups whose rewards differ, uniform → strategy",
        "per round: learning : uniform's after as many training rounds, whatever they cost",
    ]
    return "\n".join([*table, "", *legend, "", *[_described(gain) for gain in gains]])


def _cells(gain: Gain) -> tuple[str, ...]:
    low, high = gain.interval
    return (
        gain.claim.name,
        f"{gain.claim.budget:,}",
        f"{gain.uniform.mean():.3f}",
        f"{gain.strategy.mean():.3f}",
        f"{gain.ratio:.2f}",
        f"{gain.difference:+.3f}, {low:+.3f} to {high:+.3f}",
        f"{gain.signal_uniform:.0%} → {gain.signal_strategy:.0%}",
        f"{gain.per_round:.2f}",
        gain.verdict + ("" if came_out(gain) else ", NOT AS CLAIMED"),
    )


def _described(gain: Gain) -> str:
    claim = gain.claim
    probes = f" {gain.probed:.0%} of its rollouts were probes." if gain.probed else ""
    text = f"{claim.name}: {claim.pool}. {claim.why}.{probes}{f' {claim.reason}.' if claim.reason else ''}"
    return textwrap.fill(text, WIDTH, subsequent_indent="    ")
