"""The command line as a whole: every way out of it has one form and one exit code."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from curri.cli._commands import Commands
from curri.cli._config import place_of
from curri.cli._output import error_document, say
from curri.cli._values import PlainValues
from curri.errors import CurriError

# What typer builds on, by way of names that every version of it exports.
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_PARTLY = 4
_EXIT_INTERRUPTED = 130
_EXIT_PIPE = 141

_INTERRUPTED = "stopped; what was written is safe, and the same command goes on from there"


class _Interrupted(Exception):
    """Ctrl-C; the libraries in between would turn a KeyboardInterrupt into other things."""


class _PipeClosed(Exception):
    """Whoever read our output has gone."""


class CommandLine(PlainValues, TyperGroup):
    """Runs commands; errors become one message (or one JSON document) and an exit code, never a traceback.

    Exit codes: 0 done, 1 refused, 2 wrong usage, 3 the store is locked, 4 partly done, 130 interrupted.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs | {"commands": Commands()})

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands; none is built for it."""
        return [*self.commands]

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run, and leave the process with an exit code."""
        given = kwargs.get("args") or (args[0] if args else None)
        words = list(sys.argv[1:] if given is None else given)
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
            sys.stdout.flush()
            if code == _EXIT_INTERRUPTED:  # what typer makes of Ctrl-C before a command runs
                say(_INTERRUPTED)
        except (_PipeClosed, BrokenPipeError):
            _discard_output()
            code = _EXIT_PIPE
        except (_Interrupted, typer.Abort):
            say(_INTERRUPTED)
            code = _EXIT_INTERRUPTED
        except Exception as error:  # noqa: BLE001  the last stop: everything becomes a message
            code = _reported(error, words)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _Interrupted from None
        except BrokenPipeError:
            raise _PipeClosed from None
        except RuntimeError as error:
            if _is_interrupt(error):
                raise _Interrupted from None
            raise


def _is_interrupt(error: BaseException | None) -> bool:
    """DuckDB answers Ctrl-C with a RuntimeError of these words; something else may have been raised in its wake."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or (type(error) is RuntimeError and str(error) == "Query interrupted"):
            return True
        error = error.__context__
    return False


def _reported(error: Exception, words: list[str]) -> int:
    """Tell the user; gives the exit code."""
    code, message, hint, exit_code = _described(error, words)
    if exit_code == EXIT_USAGE and not message and "--json" not in words:
        return exit_code  # a group without a command: its help has been shown
    if "--debug" in words:
        traceback.print_exception(error)
    if "--json" in words:
        try:
            error_document(code, message, hint)
            sys.stdout.flush()
            return exit_code
        except OSError:  # a full disk, or nobody there: it is said where it can be
            _discard_output()
    say(f"error: {message}", *([f"  hint: {hint}"] if hint else []))
    return exit_code


def _described(error: Exception, words: list[str]) -> tuple[str, str, str | None, int]:
    if isinstance(error, CurriError):
        return error.code, error.message, error.hint, error.exit_code
    if isinstance(error, _USAGE_ERROR):
        context = getattr(error, "ctx", None)
        command = getattr(context, "command_path", "curri")
        message = error.format_message()  # type: ignore[attr-defined]
        name = getattr(getattr(error, "param", None), "name", None)
        place = None if context is None or name is None else place_of(context, name)
        return "usage", f"{place}: {message}" if place else message, f"{command} --help", EXIT_USAGE
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return "os_error", f"{where}{error.strerror or error}", None, EXIT_REFUSED
    again = f"curri {' '.join(words)} --debug"
    return (
        "internal",
        f"{type(error).__name__}: {error}",
        f"this is a fault of curri; `{again}` shows where",
        EXIT_REFUSED,
    )


def _discard_output() -> None:
    """Let nothing more be written to a closed pipe while Python shuts down."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  a device
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
