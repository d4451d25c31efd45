"""``python -m benchmarks [NAME ...] [--quick]``: run the benchmarks and print one table; exit 1 when a budget fails.

``python -m benchmarks gain [STRATEGY ...] [--quick] [--json FILE]`` is another table: what strategies gain over
``uniform`` on a simulated learner.
"""

from __future__ import annotations

import sys
from importlib import import_module

from benchmarks.table import render

NAMES = ("picker", "strategies", "scheduling", "rollouts", "startup", "integrations", "report")


def main() -> int:
    """Run what was asked for."""
    words = sys.argv[1:]
    if words[:1] == ["gain"]:
        gain: int = import_module("benchmarks.gain.run").main(words[1:])
        return gain
    quick = "--quick" in words
    names = [word for word in words if not word.startswith("-")] or list(NAMES)
    rows = []
    for name in names:
        print(f"running {name} …", file=sys.stderr, flush=True)
        rows += import_module(f"benchmarks.{name}.run").run(quick=quick)
    print(render(rows))
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
