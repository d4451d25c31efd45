"""The runs that were made: which mixtures, and what came out."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidData, unknown_name
from curri.mixtures.simplex import SUM_SLACK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    from curri.types import Bools, Floats, Ints

__all__ = ["Runs", "distinct_rows"]

_SHOWN = 5
LARGEST = 1e70
"""Of scores: sums of squares of their squares must stay finite."""
_EXACT = 1e-9
_WORTH_TELLING = 1e-5
_DECIMALS = 7


@dataclass(frozen=True, eq=False)
class Runs:
    """Mixtures with their scores.

    Rows whose weights sum to 0.99 to 1.01 are divided by their sum, with a note. Rows with the same weights are
    replicates. What is worth knowing but no error stands in ``notes``.

    Attributes:
        arms: m distinct names.
        weights: shape (R, m), ≥ 0, each row summing to 1.
        targets: name → scores, shape (R,), NaN where a score is missing.
        errors: name → standard errors of those scores, shape (R,), ≥ 0, NaN where unknown; may lack targets.
        names: R names of the runs; "run 1", "run 2", … when none are given.
        notes: sentences about the data, found when it was read.

    Raises:
        InvalidData: names repeat, shapes differ, a weight is negative or no number, a row's sum is outside 0.99 to
            1.01 (the row is named), a score is beyond 1e70, a standard error is negative.

    Example:
        >>> runs = Runs(["math", "code"], [[1, 0], [0, 1], [0.5, 0.5], [0.5, 0.5]], {"score": [0.2, 0.3, 0.4, 0.44]})
        >>> len(runs.distinct), runs.notes
        (3, ('1 mixture was run more than once: "run 3" = "run 4"; their spread tells the noise',))

    """

    arms: tuple[str, ...]
    weights: Floats
    targets: Mapping[str, Floats]
    errors: Mapping[str, Floats] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    if TYPE_CHECKING:  # what may be handed in; the fields above say what is kept

        def __init__(
            self,
            arms: Sequence[str],
            weights: ArrayLike,
            targets: Mapping[str, ArrayLike],
            errors: Mapping[str, ArrayLike] = {},
            names: Sequence[str] = (),
        ) -> None: ...

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        put("arms", _distinct_names("arms", self.arms))
        raw = _matrix(self.weights, len(self.arms))
        names = self.names or tuple(f"run {row + 1}" for row in range(len(raw)))
        put("names", _distinct_names("runs", names))
        if len(self.names) != len(raw):
            raise InvalidData(f"{len(self.names)} names were given for {len(raw)} runs")
        rows, notes = _normalised(raw, self.names)
        put("weights", _frozen(rows))
        put("targets", {name: _scores(name, values, self.names) for name, values in self.targets.items()})
        put("errors", {name: _standard_errors(name, each, self) for name, each in self.errors.items()})
        if not self.targets:
            raise InvalidData("runs need at least one column of scores")
        put("notes", (*notes, *_notes(self)))

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def m(self) -> int:
        """How many arms."""
        return len(self.arms)

    @functools.cached_property
    def _groups(self) -> tuple[Floats, Ints]:
        return distinct_rows(self.weights)

    @property
    def distinct(self) -> Floats:
        """The distinct mixtures, in order of their first run, shape (D, m)."""
        return self._groups[0]

    @property
    def mixture(self) -> Ints:
        """Which of the distinct mixtures each run used, shape (R,)."""
        return self._groups[1]

    def scores(self, target: str) -> Floats:
        """The column of a target.

        Raises:
            UnknownName: there is none of that name.
        """
        if target not in self.targets:
            raise unknown_name("target", target, self.targets)
        return self.targets[target]

    def measured(self, target: str) -> Bools:
        """Which runs have a score, shape (R,)."""
        return np.asarray(np.isfinite(self.scores(target)))

    def standard_errors(self, target: str) -> Floats | None:
        """Standard errors with 0 for unknown ones, shape (R,); None where none were given at all."""
        known = self.errors.get(target)
        return None if known is None or not np.any(known > 0.0) else np.nan_to_num(known, nan=0.0)

    def row_name(self, weights: ArrayLike) -> str | None:
        """The name of the first run with these weights, or None."""
        near = np.abs(self.weights - np.asarray(weights, dtype=float)).max(axis=1) < 10.0**-_DECIMALS
        return self.names[int(np.flatnonzero(near)[0])] if near.any() else None


def distinct_rows(rows: Floats) -> tuple[Floats, Ints]:
    """Distinct rows (to 7 decimals) in order of appearance, and which of them each row is."""
    _, first, inverse = np.unique(rows.round(_DECIMALS), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return rows[first[order]], np.asarray(place[inverse.reshape(-1)], dtype=np.int64)


def _frozen(values: Floats) -> Floats:
    values.flags.writeable = False
    return values


def _distinct_names(what: str, names: Sequence[str]) -> tuple[str, ...]:
    found = tuple(names)
    if not found or not all(isinstance(name, str) and name.strip() for name in found):
        raise InvalidData(f"{what} must have names, as text; got {list(found)[:_SHOWN]}")
    if len(set(found)) < len(found):
        twice = sorted({name for name in found if found.count(name) > 1})
        raise InvalidData(f"names of {what} must be distinct; {_listed(twice)} come more than once")
    return found


def _matrix(weights: ArrayLike, arms: int) -> Floats:
    try:
        rows = np.array(weights, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidData(f"weights must be numbers, one row a run and one column an arm; {error}") from None
    if rows.ndim != 2 or rows.shape[1] != arms or not len(rows):
        raise InvalidData(f"weights must have shape (runs, {arms}), one column an arm; got {rows.shape}")
    return rows


def _normalised(rows: Floats, names: tuple[str, ...]) -> tuple[Floats, list[str]]:
    for wrong, what in ((~np.isfinite(rows), "is not a number"), (rows < 0.0, "is negative")):
        if wrong.any():
            row, column = (int(index[0]) for index in np.nonzero(wrong))
            raise InvalidData(
                f'weight {column + 1} of "{names[row]}" (row {row + 1}) {what}: {float(rows[row, column])}'
            )
    sums = rows.sum(axis=1)
    far = np.abs(sums - 1.0) > SUM_SLACK + _EXACT
    if far.any():
        row = int(np.flatnonzero(far)[0])
        raise InvalidData(
            f'the weights of "{names[row]}" (row {row + 1}) sum to {sums[row]:.6g}; they must sum to 1',
            hint="sums from 0.99 to 1.01 are taken as rounding and divided out; anything else must be mended",
        )
    rounded = np.abs(sums - 1.0) > _EXACT
    told = np.abs(sums - 1.0) > _WORTH_TELLING
    notes = []
    if told.any():
        notes.append(_rounded_note(sums[told], names[int(np.flatnonzero(told)[0])]))
    return np.asarray(np.where(rounded[:, None], rows / sums[:, None], rows)), notes


def _rounded_note(sums: Floats, first: str) -> str:
    low, high = f"{sums.min():.6g}", f"{sums.max():.6g}"
    whose = f'"{first}"' if len(sums) == 1 else _counted(len(sums), "run")
    return f"the weights of {whose} sum to {low if low == high else f'{low} to {high}'} and were divided by their sum"


def _scores(name: str, values: ArrayLike, names: tuple[str, ...]) -> Floats:
    if not isinstance(name, str) or not name.strip():
        raise InvalidData(f"targets must have names, as text; got {name!r}")
    try:
        column = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidData(f'scores of "{name}" must be numbers, or NaN where missing; {error}') from None
    if column.shape != (len(names),):
        raise InvalidData(f'"{name}" must hold one score a run, {len(names)} in all; got shape {column.shape}')
    wrong = np.abs(column) > LARGEST
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        what = "infinite" if np.isinf(column[row]) else f"{column[row]:g}, beyond the {LARGEST:g} that is the limit"
        raise InvalidData(f'the score of "{names[row]}" in "{name}" is {what}')
    return _frozen(column)


def _standard_errors(name: str, values: ArrayLike, runs: Runs) -> Floats:
    if name not in runs.targets:
        raise unknown_name("target", name, runs.targets)
    column = _scores(f"{name} (standard errors)", values, runs.names)
    if np.any(column < 0.0):
        raise InvalidData(f'standard errors of "{name}" must be at least 0')
    return column


def _notes(runs: Runs) -> list[str]:
    return [*_replicate_notes(runs), *_arm_notes(runs), *_score_notes(runs)]


def _replicate_notes(runs: Runs) -> list[str]:
    counts = np.bincount(runs.mixture)
    again = np.flatnonzero(counts > 1)
    if not len(again):
        return []
    shown = [" = ".join(f'"{runs.names[row]}"' for row in np.flatnonzero(runs.mixture == each)) for each in again]
    more = "; …" if len(shown) > _SHOWN else ""
    were = "mixture was" if len(again) == 1 else "mixtures were"
    return [f"{len(again)} {were} run more than once: {'; '.join(shown[:_SHOWN])}{more}; their spread tells the noise"]


def _arm_notes(runs: Runs) -> list[str]:
    if runs.m == 1:
        return ["there is only one arm, so there is nothing to mix"]
    still = [arm for arm, column in zip(runs.arms, runs.weights.T, strict=True) if np.ptp(column) < _EXACT]
    if not still:
        return []
    what = (
        "has the same weight in every run, so its effect"
        if len(still) == 1
        else ("have the same weight in every run, so their effects")
    )
    return [f"{_listed(still)} {what} cannot be told"]


def _score_notes(runs: Runs) -> list[str]:
    notes = []
    for name, column in runs.targets.items():
        known = column[np.isfinite(column)]
        if not len(known):
            notes.append(f'"{name}" has no score at all')
        elif len(known) < len(column):
            notes.append(f'"{name}" lacks {_counted(len(column) - len(known), "score")}; those runs are left out of it')
        if len(known) > 1 and np.ptp(known) == 0.0:
            notes.append(f'"{name}" is the same in every run, so no mixture can be told from another by it')
    return notes


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f'"{name}"' for name in names[:_SHOWN])
    return shown + (f" … ({len(names)} in all)" if len(names) > _SHOWN else "")


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")
