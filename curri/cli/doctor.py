"""``curri doctor``."""

from __future__ import annotations

import typer

from curri.cli._group import EXIT_REFUSED
from curri.cli._options import DEFAULT_STORE, DebugOption, JsonOption, StoreOption
from curri.cli._output import document, say, table, write_line

_SHOWN = {"green": "ok", "yellow": "look", "red": "BAD"}


def doctor(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Look whether this machine and the store are fit for work; exit code 1 if not.

    Each line is ok, look (works, with something to know) or BAD (with the command that mends it).
    """
    from curri.diagnostics import BAD, diagnose

    lines = diagnose(store)
    bad = [line for line in lines if line.verdict == BAD]
    if as_json:
        found = {"store": str(store), "lines": [line.document() for line in lines]}
        error = bad and {"code": "unfit", "message": f"{bad[0].name}: {bad[0].message}", "hint": bad[0].hint}
        document({**found, **({"ok": False, "error": error} if bad else {})})
    else:
        for text in table(["", "what", "found"], [[_SHOWN[line.verdict], line.name, line.message] for line in lines]):
            write_line(text)
        for line in lines:
            if line.hint is not None:
                say(f"{_SHOWN[line.verdict]}: {line.name}: {line.hint}")
    if bad:
        raise typer.Exit(EXIT_REFUSED)
