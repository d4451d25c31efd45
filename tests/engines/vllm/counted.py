"""The command ``curri`` with a count, at the engine, of what its vLLM is asked for.

``counted.py LOG WORDS…`` is one command. ``counted.py`` alone takes one after the other from standard input, a line of
JSON for each, and answers with its exit code and its output; a model that one has loaded is there for the next, since
loading takes longer than all else. A request to vLLM adds its number of responses to the log before it begins, so what
a killed process had begun counts too.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from curri.cli import main
from curri.rollouts import VLLMEngine


def count(log: Path) -> None:
    """Have vLLM write down what it is asked for."""
    enqueue = VLLMEngine._enqueue

    def counted(self: VLLMEngine, request: Any, sampling: Any) -> Any:
        with log.open("a") as out:
            out.write(f"{request.n}\n")
        return enqueue(self, request, sampling)

    VLLMEngine._enqueue = counted  # type: ignore[method-assign]


def serve() -> None:
    """Run commands until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is written to standard output is no answer
    enqueue = VLLMEngine._enqueue
    _keep_models()
    for line in sys.stdin:
        log, *words = json.loads(line)
        VLLMEngine._enqueue = enqueue  # type: ignore[method-assign]
        count(Path(log))
        sys.argv = ["curri", *words]
        output, code = io.StringIO(), 0
        with contextlib.redirect_stdout(output):
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
        print(json.dumps([code, output.getvalue()]), file=answers, flush=True)


def _keep_models() -> None:
    loaded: dict[str, Any] = {}
    load = VLLMEngine.check

    def check(self: VLLMEngine) -> None:
        key = json.dumps([self._place, str(self._lora), self._options], sort_keys=True)
        self._llm = loaded.get(key)
        load(self)
        loaded[key] = self._llm

    VLLMEngine.check = check  # type: ignore[method-assign]
    VLLMEngine.close = lambda _: None  # type: ignore[assignment,method-assign]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        count(Path(sys.argv.pop(1)))
        main()
    else:
        serve()
