"""The files of ``curri mix``: mixtures with their scores, the design to fill in, and the weights that come out."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from curri.errors import InvalidData, InvalidParameter, did_you_mean, unknown_name
from curri.exchange.jsonl import draft_of, is_standard

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike

    from curri.mixtures.runs import Runs

__all__ = ["RunsFile", "named_numbers", "read_runs", "write_design", "write_text", "write_weights"]

WEIGHT = "weight:"
"""Begins the name of a column of weights; the rest is the name of the arm."""
RUN = "run"
"""The column with the names of the runs."""

_SHORT_WEIGHT = "w_"
_ERROR_FORMS = ("se:{}", "{}_se")
_MISSING = frozenset({"", "na", "n/a", "nan", "none", "null", "-"})
_MAX_BYTES = 64 << 20
_SHOWN = 5
_SLACK = 0.01
_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class RunsFile:
    """Runs as they were read.

    Attributes:
        runs: the mixtures with their scores.
        notes: what was left out or read in a particular way, as sentences.
        sources: the files, as they were named.
        digest: SHA-256 of their contents, as hexadecimal digits.
    """

    runs: Runs
    notes: tuple[str, ...]
    sources: tuple[str, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class _Table:
    """A CSV file as text: its header, and its rows by line number."""

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    digest: bytes
    decimal_comma: bool

    def place(self, column: str) -> int:
        return self.header.index(column)

    def cells(self, column: str) -> list[str]:
        place = self.place(column)
        return [cells[place] for _, cells in self.rows]

    def error(self, line: int, what: str, hint: str | None = None) -> InvalidData:
        return InvalidData(f"{self.name}, line {line}: {what}", hint)

    def number(self, line: int, column: str, text: str) -> float:
        """A finite number; NaN where the cell is empty.

        Raises:
            InvalidData: it is neither, with line and column.
        """
        if text.casefold() in _MISSING:
            return math.nan
        value = _as_number(text, decimal_comma=self.decimal_comma)
        if value is None or not math.isfinite(value):
            what = "is not a number" if value is None else "is not finite"
            hint = "where it holds no scores, say which columns do: --columns lisa,sat or --columns 'loss_*'"
            raise self.error(line, f'"{_short(text)}" in column "{_short(column)}" {what}', hint)
        return value


def read_runs(
    path: str | os.PathLike[str],
    *,
    scores: str | os.PathLike[str] | None = None,
    on: str = RUN,
    arms: str | None = None,
    columns: str | None = None,
    wanted: Sequence[str] = (),
    names: str = RUN,
) -> RunsFile:
    """Read mixtures and their scores from one CSV file, or from two that share a column.

    The header names the columns: ``weight:ARM`` (or ``w_ARM``) holds the weight of an arm, ``run`` the name of a run,
    ``TARGET_se`` or ``se:TARGET`` the standard errors of TARGET, and everything else is a target. An empty cell is a
    missing score. Columns of nothing but text, rows without any weight and runs without any score are left out, with a
    note. Cells may be separated by commas, semicolons (then 0,5 is a half) or tabs.

    Args:
        path: the file with the weights, or "-" for standard input.
        scores: the file with the scores, where they are not in the same one.
        on: the column by which two files are matched; several rows of scores for one mixture are replicates.
        arms: which columns are weights, where their names do not say: names separated by commas, or a pattern with a
            star that stands for the name of the arm, such as ``train_the_pile_*``. With two files, by default all
            columns of the first.
        columns: which columns are scores, in the same manner; by default all others.
        wanted: targets as they were typed; a column that none of them mentions and that is not all numbers is left out.
        names: the column with the names of the runs; may be missing.

    Raises:
        InvalidData: a file cannot be read, a cell is not what it should be (with line and column), weights do not sum
            to one, or there are no scores.
        UnknownName: a column that was asked for is not there.
    """
    table = _read_table(path)
    other = None if scores is None else _read_table(scores)
    arm_of = _arm_columns(table, arms, [on, names], alone=other is None)
    notes: list[str] = []
    if other is not None:
        table = _joined(table, other, on, list(arm_of), notes)
    runs = _as_runs(table, arm_of, (columns, wanted), [on, names] if other is not None else [names], notes)
    files = [each for each in (path, scores) if each is not None]
    parts = [table.digest] if other is None else [table.digest, other.digest]
    digest = hashlib.sha256(b"".join(parts)).hexdigest() if len(parts) > 1 else parts[0].hex()
    return RunsFile(runs, (*notes, *runs.notes), tuple(os.fspath(each) for each in files), digest)


# --- a file as text ---------------------------------------------------------------------------------------------------


def _read_table(path: str | os.PathLike[str]) -> _Table:
    name, data = _read_bytes(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidData(f"{name} is not UTF-8 text; byte {error.start} cannot be read") from None
    if "\0" in text:
        raise InvalidData(f"{name} is not a CSV file: it holds zero bytes")
    first = text[: text.find("\n") if "\n" in text else len(text)]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise InvalidData(f"{name}, line {reader.line_num}: {error}") from None
    filled = [(line, cells) for line, cells in lines if any(cells)]
    if not filled:
        raise InvalidData(f"{name} is empty", hint="curri mix design writes a file to fill in")
    header, rows = _squared(name, filled[0][1], filled[1:])
    return _Table(name, header, rows, hashlib.sha256(data).digest(), delimiter == ";")


def _read_bytes(path: str | os.PathLike[str]) -> tuple[str, bytes]:
    if is_standard(path):
        name, data = "standard input", sys.stdin.buffer.read(_MAX_BYTES + 1)
    else:
        name = os.fspath(path)
        try:
            with Path(path).open("rb") as stream:
                data = stream.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            raise InvalidData(f"there is no file {name}", hint="curri mix design writes one to fill in") from None
        except OSError as error:
            raise InvalidData(f"{name} cannot be read: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        raise InvalidData(f"{name} is larger than {_MAX_BYTES >> 20} MiB, which no table of runs is")
    return name, data


def _squared(
    name: str, header: list[str], rows: list[tuple[int, list[str]]]
) -> tuple[tuple[str, ...], tuple[tuple[int, tuple[str, ...]], ...]]:
    """Header and rows of one width, without columns that have neither a name nor a cell."""
    width = len(header)
    for line, cells in rows:
        if len(cells) < width or any(cells[width:]):
            raise InvalidData(f"{name}, line {line} has {len(cells)} cells; the header has {width}")
    kept = [place for place, title in enumerate(header) if title or any(cells[place] for _, cells in rows)]
    titles = [header[place] for place in kept]
    for place, title in zip(kept, titles, strict=True):
        if not title:
            raise InvalidData(f"{name}: column {place + 1} has values but no name in the header")
        if titles.count(title) > 1:
            raise InvalidData(f'{name}: two columns are called "{_short(title)}"')
    return tuple(titles), tuple((line, tuple(cells[place] for place in kept)) for line, cells in rows)


def _as_number(text: str, *, decimal_comma: bool) -> float | None:
    if decimal_comma and "." not in text:
        text = text.replace(",", ".")
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"


def _listed(names: Iterable[object]) -> str:
    known = [f'"{name}"' for name in names]
    return ", ".join(known[:_SHOWN]) + (f" … ({len(known)} in all)" if len(known) > _SHOWN else "")


# --- which column is what ---------------------------------------------------------------------------------------------


def _arm_columns(table: _Table, asked: str | None, aside: Sequence[str], *, alone: bool) -> dict[str, str]:
    """Column → arm."""
    if asked is not None:
        return _distinct(table, _matched(table, asked, "arm", prefix=WEIGHT))
    for prefix in (WEIGHT, _SHORT_WEIGHT):
        found = {column: column[len(prefix) :].strip() for column in table.header if column.startswith(prefix)}
        if found:
            return _distinct(table, found)
    if not alone:
        return {column: column for column in table.header if column not in aside and not _is_text(table, column)}
    raise InvalidData(
        f"{table.name} has no columns of weights; its columns are {_listed(table.header)}",
        hint=f'call them "{WEIGHT}ARM", or say which they are: --arms math,code or --arms "share_*"',
    )


def _distinct(table: _Table, found: dict[str, str]) -> dict[str, str]:
    for arm in found.values():
        if not arm:
            raise InvalidData(f"{table.name}: a column of weights does not name its arm")
        if list(found.values()).count(arm) > 1:
            raise InvalidData(f'{table.name}: two columns hold weights of "{_short(arm)}"')
    return found


def _matched(table: _Table, asked: str, what: str, *, prefix: str = "") -> dict[str, str]:
    """Column → name, for names and patterns."""
    found: dict[str, str] = {}
    for part in (part.strip() for part in asked.split(",")):
        if part.count("*") == 1:
            start, end = part.split("*")
            fits = {
                column: column[len(start) : len(column) - len(end)]
                for column in table.header
                if column.startswith(start) and column.endswith(end) and len(column) > len(start) + len(end)
            }
            if not fits:
                raise unknown_name(f"column of {table.name} like", part, table.header)
            found |= fits
        elif part in table.header:
            found[part] = part.removeprefix(prefix) if prefix else part
        elif prefix + part in table.header:
            found[prefix + part] = part
        else:
            raise unknown_name(f"column of {table.name} for the {what}", part, table.header)
    return found


def _is_text(table: _Table, column: str, *, partly: bool = False) -> bool:
    """Whether a column has cells, and none of them (or, partly, not all of them) is a number."""
    cells = [cell for cell in table.cells(column) if cell.casefold() not in _MISSING]
    text = [_as_number(cell, decimal_comma=table.decimal_comma) is None for cell in cells]
    return bool(cells) and (any(text) if partly else all(text))


def _score_columns(
    table: _Table, asked: str | None, wanted: Sequence[str], taken: set[str], notes: list[str]
) -> dict[str, str]:
    """Column → target. A column that is not all numbers only matters where it is wanted."""
    if asked is not None:
        return _matched(table, asked, "scores")
    free = [column for column in table.header if column not in taken]
    errors = {form.format(column) for column in free for form in _ERROR_FORMS}
    free = [column for column in free if column not in errors]
    mentioned = {column for column in free if any(column in text for text in wanted)}
    spare = set(free) - mentioned if wanted else set()
    text = [column for column in free if _is_text(table, column, partly=column in spare)]
    if text:
        notes.append(f"{_listed(text)} hold text and no scores, and are left out")
    return {column: column for column in free if column not in text}


def _error_columns(table: _Table, score_of: Mapping[str, str]) -> dict[str, str]:
    """Column of standard errors → target."""
    found: dict[str, str] = {}
    for column, target in score_of.items():
        forms = {form.format(name) for name in (column, target) for form in _ERROR_FORMS} - set(score_of)
        there = [form for form in sorted(forms) if form in table.header]
        if len(there) > 1:
            raise InvalidData(f'{table.name}: {_listed(there)} both hold standard errors of "{_short(target)}"')
        found |= dict.fromkeys(there, target)
    return found


# --- two files --------------------------------------------------------------------------------------------------------


def _joined(weights: _Table, scores: _Table, on: str, arms: Sequence[str], notes: list[str]) -> _Table:
    """One table: every row of scores with the weights that have the same value in the column ``on``."""
    for table in (weights, scores):
        if on not in table.header:
            guess = did_you_mean(on, table.header)
            raise InvalidData(
                f'{table.name} has no column "{on}" to match the two files by; it has {_listed(table.header)}',
                hint=f"name the column that both have with --on{'; ' + guess if guess else ''}",
            )
    rows = dict(zip(weights.cells(on), weights.rows, strict=True))
    if len(rows) < len(weights.rows):
        twice = {key for key in rows if weights.cells(on).count(key) > 1}
        raise InvalidData(f'{weights.name}: {_listed(sorted(twice))} in "{on}" come more than once')
    keys = scores.cells(on)
    for table, what, missing in (
        (weights, "scores", set(rows) - set(keys)),
        (scores, "weights", set(keys) - set(rows)),
    ):
        if missing:
            row, has, are = ("row", "has", "is") if len(missing) == 1 else ("rows", "have", "are")
            shown = _listed(sorted(missing))
            notes.append(f"{len(missing)} {row} of {table.name} {has} no {what} and {are} left out: {shown}")
    columns = [column for column in weights.header if column == on or column in arms]
    places = [weights.place(column) for column in columns]
    rest = [place for place, column in enumerate(scores.header) if column not in columns]
    joined = tuple(
        (line, (*(rows[key][1][place] for place in places), *(cells[place] for place in rest)))
        for key, (line, cells) in zip(keys, scores.rows, strict=True)
        if key in rows
    )
    if not joined:
        raise InvalidData(f'{weights.name} and {scores.name} have no value of "{on}" in common')
    header = (*columns, *(scores.header[place] for place in rest))
    comma = weights.decimal_comma or scores.decimal_comma
    return _Table(f"{weights.name} with {scores.name}", header, joined, weights.digest, comma)


# --- runs -------------------------------------------------------------------------------------------------------------


def _as_runs(
    table: _Table,
    arm_of: Mapping[str, str],
    asked: tuple[str | None, Sequence[str]],
    named: Sequence[str],
    notes: list[str],
) -> Runs:
    from curri.mixtures.runs import Runs

    score_of = _score_columns(table, *asked, {*arm_of, *named}, notes)
    error_of = _error_columns(table, score_of)
    rows = _rows_with_weights(table, list(arm_of), notes)
    columns = {
        column: [table.number(line, column, cells[table.place(column)]) for line, cells in rows]
        for column in (*score_of, *error_of)
    }
    for column in error_of:
        _refuse_negative(table, column, rows, columns[column])
    empty = [column for column in score_of if all(math.isnan(value) for value in columns[column])]
    if len(empty) == len(score_of):
        raise InvalidData(
            f"{table.name} has no scores yet",
            hint="fill in a column of scores for each target, one score a run, and come back",
        )
    if empty:
        notes.append(f"{_listed(score_of[column] for column in empty)} hold no score at all and are left out")
    targets = [column for column in score_of if column not in empty]
    scored = [place for place in range(len(rows)) if any(not math.isnan(columns[each][place]) for each in targets)]
    if len(scored) < len(rows):
        without = len(rows) - len(scored)
        notes.append(
            f"{without} {'run has no score and is' if without == 1 else 'runs have no score and are'} left out"
        )
    rows = [rows[place] for place in scored]

    def kept(column: str) -> list[float]:
        return [columns[column][place] for place in scored]

    return Runs(
        list(arm_of.values()),
        [_weights(table, line, cells, list(arm_of)) for line, cells in rows],
        {score_of[column]: kept(column) for column in targets},
        {target: kept(column) for column, target in error_of.items() if target in {score_of[each] for each in targets}},
        _run_names(table, rows, named),
    )


def _rows_with_weights(table: _Table, arms: Sequence[str], notes: list[str]) -> list[tuple[int, tuple[str, ...]]]:
    places = [table.place(column) for column in arms]
    rows = [row for row in table.rows if any(row[1][place].casefold() not in _MISSING for place in places)]
    if not rows:
        raise InvalidData(
            f"{table.name} has no row with weights",
            hint="a row a run: its weights and its scores; curri mix design writes a file to fill in",
        )
    left_out = len(table.rows) - len(rows)
    if left_out:
        notes.append(f"{left_out} of {len(table.rows)} rows have no weights and are left out")
    return rows


def _weights(table: _Table, line: int, cells: tuple[str, ...], arms: Sequence[str]) -> list[float]:
    values = []
    for column in arms:
        value = table.number(line, column, cells[table.place(column)])
        if math.isnan(value):
            raise table.error(line, f'there is no weight in column "{column}"', hint="an arm that is not used weighs 0")
        if value < 0.0:
            raise table.error(line, f'the weight in column "{column}" is negative: {value:g}')
        values.append(value)
    total = math.fsum(values)
    if abs(total - 1.0) > _SLACK + 1e-9:
        hint = "sums from 0.99 to 1.01 are taken as rounding and divided out; anything else must be mended"
        if abs(total - 100.0) <= 100.0 * _SLACK:
            hint = "these look like percentages: divide them by 100"
        raise table.error(line, f"the weights sum to {total:.6g}; they must sum to 1", hint)
    return values


def _refuse_negative(
    table: _Table, column: str, rows: Sequence[tuple[int, tuple[str, ...]]], values: Sequence[float]
) -> None:
    for (line, _), value in zip(rows, values, strict=True):
        if value < 0.0:
            raise table.error(line, f'the standard error in column "{column}" is negative: {value:g}')


def _run_names(table: _Table, rows: Sequence[tuple[int, tuple[str, ...]]], named: Sequence[str]) -> list[str]:
    """Names from the first of the columns that is there; one that comes again gets a number."""
    column = next((each for each in reversed(named) if each in table.header), None)
    seen: dict[str, int] = {}
    names: list[str] = []
    for order, (_, cells) in enumerate(rows, start=1):
        name = cells[table.place(column)] if column is not None else ""
        name = name or f"run {order}"
        seen[name] = seen.get(name, 0) + 1
        while seen[name] > 1 and f"{name} ({seen[name]})" in seen:
            seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
        seen.setdefault(names[-1], 1)
    return names


# --- what the user gives for each arm, and what is written ------------------------------------------------------------


def named_numbers(text: str, *, option: str, arms: Sequence[str] | None = None) -> dict[str, float]:
    """Numbers by name: ``math=0.5,code=0.2``, a JSON object, or ``@FILE`` (or a ``.json`` file) that holds one.

    Args:
        text: as it was typed.
        option: its name, for messages.
        arms: the names that may occur, or None for any.

    Raises:
        InvalidParameter: it is none of these, or a number is negative or not finite.
        InvalidData: the file cannot be read.
        UnknownName: a name is not one of ``arms``.

    Example:
        >>> named_numbers("math=0.5, code=0.2", option="--cap")
        {'math': 0.5, 'code': 0.2}

    """
    source = text.strip()
    if source.startswith("@") or source.endswith(".json"):
        source = _read_bytes(source.removeprefix("@"))[1].decode("utf-8", errors="replace").strip()
    found = _pairs(source)
    if found is None or not all(math.isfinite(value) and value >= 0.0 for value in found.values()):
        raise InvalidParameter(
            f"{option} must be numbers >= 0 by name, such as math=0.5,code=0.2, or a JSON file of them; "
            f"got {_short(text)}"
        )
    for name in found:
        if arms is not None and name not in arms:
            raise unknown_name("arm", name, arms)
    return found


def _pairs(text: str) -> dict[str, float] | None:
    if text.startswith("{"):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
        numeric = all(isinstance(each, int | float) and not isinstance(each, bool) for each in value.values())
        return {str(name): float(each) for name, each in value.items()} if numeric else None
    parts = [part.rpartition("=") for part in text.split(",") if part.strip()]
    numbers = [_as_number(value.strip(), decimal_comma=False) for _, _, value in parts]
    names = [name.strip() for name, _, _ in parts]
    if not parts or not all(names) or len(set(names)) < len(names) or None in numbers:
        return None
    return dict(zip(names, [number for number in numbers if number is not None], strict=True))


def write_design(
    path: str | os.PathLike[str],
    arms: Sequence[str],
    weights: ArrayLike,
    *,
    names: Sequence[str],
    targets: Sequence[str] = ("score",),
) -> None:
    """Write mixtures to train, with empty columns for their scores; six decimals, the largest weight taking the rest.

    Args:
        path: the file, or "-" for standard output.
        arms: m names.
        weights: shape (R, m).
        names: of the runs, R of them.
        targets: columns to fill in.

    Raises:
        InvalidData: the file cannot be written.
    """
    import numpy as np

    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([RUN, *(WEIGHT + arm for arm in arms), *targets])
    rows = np.asarray(weights, dtype=np.float64).round(_DECIMALS)
    largest = rows.argmax(axis=1)
    rows[np.arange(len(rows)), largest] += 1.0 - rows.sum(axis=1)
    for name, row in zip(names, rows.tolist(), strict=True):
        writer.writerow([name, *(f"{value:.{_DECIMALS}g}" for value in row), *([""] * len(targets))])
    write_text(stream.getvalue(), path)


def write_weights(path: str | os.PathLike[str], weights: Mapping[str, float]) -> None:
    """Write a mixture as the JSON object that ``curri select --strategy modomodo --param weights=@FILE`` reads.

    Raises:
        InvalidData: the file cannot be written.
    """
    write_text(json.dumps(dict(weights), ensure_ascii=False, indent=2, allow_nan=False) + "\n", path)


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write a text; a file appears as a whole or not at all. "-" is standard output.

    Raises:
        InvalidData: the file cannot be written.
    """
    if is_standard(path):
        sys.stdout.write(text)
        return
    file = Path(path)
    draft = draft_of(file)
    try:
        if file.exists() and not file.is_file():  # a device or a pipe cannot be replaced
            file.write_text(text, encoding="utf-8", newline="")
            return
        draft.write_text(text, encoding="utf-8", newline="")
        draft.replace(file)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InvalidData(f"{file} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
