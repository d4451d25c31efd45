"""The command ``curri`` with a count, at the engine, of what its vLLM is asked for: ``counted.py LOG WORDS…``.

A call of vLLM adds its number of responses to the log before it begins, so what a killed process had begun counts too.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from curri.cli import main


def count(log: Path) -> None:
    """Have ``LLM.generate`` write down what it is asked for."""
    import vllm

    generate = vllm.LLM.generate

    def counted(self: Any, prompts: Any, sampling_params: Any, **how: Any) -> Any:
        with log.open("a") as out:
            out.write(f"{sum(params.n for params in sampling_params)}\n")
        return generate(self, prompts, sampling_params=sampling_params, **how)

    vllm.LLM.generate = counted


if __name__ == "__main__":
    count(Path(sys.argv.pop(1)))
    main()
