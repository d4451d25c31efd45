"""``python -m benchmarks.mixtures --data DIR [--quick] [--write]``: mixtures on public tables; see README.md here."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

# One thread a process: the matrices are small, and two threads that wait for each other are slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if TYPE_CHECKING:
    from benchmarks.mixtures.tables import Shown

HERE = Path(__file__).parent
RESULT, PICTURE, PAGE = HERE / "results.json", HERE / "regret.svg", HERE / "README.md"
BEGIN, END = "<!-- figures: written by the command, from results.json -->", "<!-- end of figures -->"
PACKAGES = ("numpy", "scipy", "lightgbm")


def main() -> int:
    """Measure or read what was measured, print the tables; exit 1 where a bound is missed."""
    from benchmarks.mixtures import figure
    from benchmarks.mixtures.goals import goals

    parser = argparse.ArgumentParser(prog="python -m benchmarks.mixtures", description=__doc__)
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with regmix/ and modomodo_table2.csv")
    parser.add_argument("--quick", action="store_true", help="less of everything, in under three minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file too")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the regrets (.svg or .png; needs matplotlib)")
    parser.add_argument(
        "--from", type=Path, metavar="FILE", dest="stored", help="show a file of figures, measure nothing"
    )
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes at a time, of one thread each (2)")
    parser.add_argument(
        "--write", action="store_true", help="put results.json, the picture and the tables into this folder"
    )
    given = parser.parse_args()
    if given.stored:
        result = json.loads(given.stored.read_text(encoding="utf-8"))
    else:
        result = measure(given.data, quick=given.quick, jobs=given.jobs)
    print("\n\n".join(each.text() for each in shown(result)))
    for path in [given.json, RESULT if given.write else None]:
        if path is not None:
            path.write_text(as_text(result), encoding="utf-8")
    for path in [given.figure, PICTURE if given.write else None]:
        if path is not None:
            print("\n" + figure.save(result["simulated"], path))
    if given.write:
        PAGE.write_text(with_figures(PAGE.read_text(encoding="utf-8"), result), encoding="utf-8")
    return 0 if all(goal.holds for goal in goals(result)) else 1


def measure(folder: Path | None, *, quick: bool, jobs: int) -> dict[str, Any]:
    """Everything the data allow, as plain JSON."""
    from benchmarks.mixtures import data, regmix, simulated, table2

    start, used = time.perf_counter(), _cpu_seconds()
    tables = "the public tables are left out: no --data DIR" if folder is None else "MoDoMoDo's Table 2, RegMix"
    print(f"{tables}; simulated runs …", file=sys.stderr, flush=True)
    with ProcessPoolExecutor(jobs) as pool:
        modomodo = None if folder is None else pool.submit(table2.measure, data.modomodo(folder))
        split = None if folder is None else regmix.ask(pool, data.regmix(folder), quick=quick)
        family = simulated.measure(pool, quick=quick)
        public = {"table2": modomodo and modomodo.result(), "regmix": split and split.result()}
    return {
        "sources": list(data.SOURCES),
        "quick": quick,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cpus": os.cpu_count(),
        "jobs": jobs,
        "seconds": round(time.perf_counter() - start),
        "cpu_seconds": round(_cpu_seconds() - used),
        **public,
        "simulated": family,
    }


def _cpu_seconds() -> float:
    """Of this process and of those it started and that have ended."""
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def shown(result: dict[str, Any]) -> list[Shown]:
    """All tables in the order of reading."""
    from benchmarks.mixtures import goals, regmix, simulated, table2
    from benchmarks.mixtures.tables import Shown

    packages = ", ".join(f"{name} {version}" for name, version in result["packages"].items() if version)
    took = (
        f"{'Quick run: ' if result['quick'] else ''}{result['seconds']:,} s, {result['cpu_seconds']:,} s of CPU time, "
        f"{result['jobs']} processes of one thread; {result['cpus']} CPUs, Python {result['python']}, {packages}."
    )
    found = [Shown("Measured", notes=[took]), *goals.shown(result)]
    found += table2.shown(result["table2"]) if result["table2"] else []
    found += regmix.shown(result["regmix"]) if result["regmix"] else []
    return found + simulated.shown(result["simulated"])


def as_text(result: dict[str, Any]) -> str:
    """JSON with a line for each surrogate, table and list, so that a new result can be compared with the old one."""
    parts = []
    for key, value in result.items():
        if not isinstance(value, dict):
            parts.append(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
            continue
        inner = ",\n  ".join(
            f"{json.dumps(name)}: {json.dumps(each, ensure_ascii=False)}" for name, each in value.items()
        )
        parts.append(f"{json.dumps(key)}: {{\n  {inner}\n }}")
    return "{\n " + ",\n ".join(parts) + "\n}\n"


def with_figures(page: str, result: dict[str, Any]) -> str:
    """The README with the tables of a result between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    tables = "\n\n".join(each.markdown() for each in shown(result))
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


if __name__ == "__main__":
    sys.exit(main())
