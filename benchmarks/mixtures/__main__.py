"""``python -m benchmarks.mixtures --data DIR [--quick] [--figure FILE]``: mixtures on public tables; see README.md."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

# One thread a process: the matrices are small, and two threads that wait for each other are slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def main() -> int:
    """Run what the data allow."""
    from benchmarks.mixtures import data, figure, regmix, simulated, table2

    parser = argparse.ArgumentParser(prog="python -m benchmarks.mixtures", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with regmix/ and modomodo_table2.csv")
    parser.add_argument("--quick", action="store_true", help="less of everything, in under three minutes")
    parser.add_argument("--figure", type=Path, default=Path("regret.svg"), help="where the figure goes (.svg or .png)")
    options = parser.parse_args()
    start = time.perf_counter()
    print("Data:\n  " + "\n  ".join(data.SOURCES))
    if options.data is None or not options.data.is_dir():
        print("No --data DIR: the public tables are left out.")
    else:
        table2.run(data.modomodo(options.data))
        regmix.run(data.regmix(options.data), quick=options.quick)
    print(figure.save(simulated.run(quick=options.quick), options.figure))
    print(f"{time.perf_counter() - start:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
