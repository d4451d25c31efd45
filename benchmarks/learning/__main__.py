"""``python -m benchmarks.learning``: GRPO on a real, small policy with every strategy; see README.md.

Needs TRL and reasoning-gym: ``make bench-learning`` makes an environment for it. Runs that are done are kept in a
folder and not done again, so that Ctrl-C loses the runs under way and nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.learning import settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

HERE = Path(__file__).resolve().parent
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


class Job(NamedTuple):
    """One run."""

    entry: str
    pool: str
    seed: int

    def path(self, runs: Path) -> Path:
        """Where its result is."""
        return runs / f"{self.pool}--{self.entry.replace(', ', '-').replace(' ', '_')}--{self.seed}.json"


def main(words: Sequence[str] | None = None) -> int:
    """Do the runs that are missing, then write results and page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__)
    parser.add_argument("names", nargs="*", help='strategies, or "main", "findings"; "main" without one')
    parser.add_argument("--runs", type=Path, default=HERE / "runs", help="folder of finished runs")
    parser.add_argument("--pools", nargs="+", default=list(settings.POOLS), choices=list(settings.POOLS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(settings.REPORTED))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs side by side")
    parser.add_argument("--size", default="small", choices=list(settings.SIZES), help="of the policy")
    parser.add_argument("--smoke", action="store_true", help="three strategies, one seed, a sixth of the tokens")
    parser.add_argument("--write", action="store_true", help="write results.parquet, figures and tables from the runs")
    parser.add_argument("--one", nargs=3, metavar=("ENTRY", "POOL", "SEED"), help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    given.runs.mkdir(parents=True, exist_ok=True)
    if given.one is not None:
        _one(Job(given.one[0], given.one[1], int(given.one[2])), given.runs, given.size, smoke=given.smoke)
        return 0
    if given.smoke:
        jobs = [Job(name, "mixed", settings.TUNING[0]) for name in ("uniform", "frontier", "mopps")]
    elif given.names == ["none"]:
        jobs = []
    else:
        jobs = [Job(n, pool, seed) for n in _entries(given.names) for seed in given.seeds for pool in given.pools]
    failed = _all(jobs, given.runs, given.jobs, given.size, smoke=given.smoke)
    if given.smoke:
        _say_smoke(jobs, given.runs)
    if given.write and not failed:
        from benchmarks.learning.page import write

        write(given.runs)
    return 1 if failed else 0


def _entries(names: Iterable[str]) -> list[str]:
    chosen: list[str] = []
    for name in list(names) or ["main"]:
        of = {"main": settings.MAIN, "findings": settings.FINDINGS}.get(name)
        if of is None and name not in settings.ENTRIES:
            raise SystemExit(f'no entry "{name}"; there are main, findings, {", ".join(settings.ENTRIES)}')
        chosen += [name] if of is None else [entry.name for entry in of]
    return chosen


def _all(jobs: Sequence[Job], runs: Path, side_by_side: int, size: str, *, smoke: bool) -> int:
    """Do what is not done, side by side, each in a process of its own; gives how many failed."""
    missing = [job for job in jobs if not job.path(runs).is_file()]
    if len(jobs) > len(missing):
        print(f"{len(jobs) - len(missing)} of {len(jobs)} runs are done already", flush=True)
    _warm_starts(missing, runs, side_by_side, size)
    start, failed = time.monotonic(), 0
    for number, (job, code) in enumerate(_done(missing, runs, side_by_side, size, smoke=smoke), 1):
        failed += bool(code)
        minutes = (time.monotonic() - start) / 60
        left = minutes / number * (len(missing) - number)
        said = "FAILED" if code else _said(job, runs)
        print(
            f"{number}/{len(missing)} {job.pool} {job.entry} seed {job.seed}: {said}; {left:.0f} min left", flush=True
        )
    return failed


def _warm_starts(jobs: Sequence[Job], runs: Path, side_by_side: int, size: str) -> None:
    """Make the warm starts that are missing, so that no two runs make the same."""
    places = sorted({(job.pool, job.seed) for job in jobs})
    wanted = [Job("warm", *place) for place in places if not (runs / "warm" / f"{place[0]}-{size}-{place[1]}").is_dir()]
    for number, (job, code) in enumerate(_done(wanted, runs, side_by_side, size, smoke=False), 1):
        print(f"warm start {number}/{len(wanted)}: {job.pool}, seed {job.seed}", flush=True)
        if code:
            raise SystemExit(f"the warm start of {job.pool}, seed {job.seed} failed")


def _done(jobs: Sequence[Job], runs: Path, side_by_side: int, size: str, *, smoke: bool) -> Iterator[tuple[Job, int]]:
    command = [sys.executable, "-m", "benchmarks.learning", "--runs", str(runs), "--size", size]
    command += ["--smoke"] if smoke else []

    def one(job: Job) -> int:
        log = job.path(runs).with_suffix(".log")
        with log.open("w", encoding="utf-8") as out:
            given = [*command, "--one", job.entry, job.pool, str(job.seed)]
            code = subprocess.run(given, stdout=out, stderr=subprocess.STDOUT, check=False).returncode
        if not code:
            log.unlink()
        return code

    with ThreadPoolExecutor(side_by_side) as pool:
        waiting = {pool.submit(one, job): job for job in jobs}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True, wait=False)
            raise


def _one(job: Job, runs: Path, size: str, *, smoke: bool) -> None:
    """A run in this process."""
    import dataclasses
    import warnings

    import torch

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    from benchmarks.learning.run import run, warm_model, written

    pool, policy_size = settings.POOLS[job.pool], settings.SIZES[size]
    warm = runs / "warm"
    warm.mkdir(exist_ok=True)
    if job.entry == "warm":
        warm_model(pool, policy_size, job.seed, warm)
        return
    if smoke:
        pool = dataclasses.replace(pool, budget=pool.budget // 6, points=5)
    written(job.path(runs), run(settings.ENTRIES[job.entry], pool, policy_size, job.seed, warm))


def _said(job: Job, runs: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        last = json.loads(job.path(runs).read_text(encoding="utf-8"))["curve"][-1]
        return f"accuracy {last['accuracy']:.3f}, live {last['live'] / max(last['groups'], 1):.0%}"
    return "done"


def _say_smoke(jobs: Sequence[Job], runs: Path) -> None:
    for job in jobs:
        curve = json.loads(job.path(runs).read_text(encoding="utf-8"))["curve"]
        print(f"{job.entry}: {' '.join(format(point['accuracy'], '.3f') for point in curve)}")


if __name__ == "__main__":
    sys.exit(main())
