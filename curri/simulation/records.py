"""What a run brought: right answers and responses at every visit of every prompt, and curves made of them."""

from __future__ import annotations

import csv
import gzip
import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidData, InvalidInput, InvalidParameter
from curri.pool import PromptPool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from curri.store import PromptStore
    from curri.types import Bools, Floats, Ints, Strings

__all__ = ["WINDOW", "Curves", "Records", "read_counts", "smoothed", "stored_counts"]

WINDOW = 9
"""Visits that the moving average spans."""
_COUNTS = re.compile(r"successes_of_(\d+)_per_visit")
_FAILURES = re.compile(r"(?:mean_)?failures_of_(\d+)(?:_.*)?")
_FIFTHS = ("hardest", "hard", "middle", "easy", "easiest")
_STORED = """
    select r.prompt_id, r.source_id, coalesce(r.round, -1) as round, coalesce(r.policy_version, -1) as version,
        sum(r.solved) as solved, count(*) as n
    from rollouts r join sources s using (source_id)
    where s.model = ? and not coalesce(r.probe, false) and r.solved is not null group by all order by 1, 4, 3, 2"""


@dataclass(frozen=True, eq=False)
class Curves:
    """The pass rates that are taken for the truth; prompts by ascending id.

    Attributes:
        ids: shape (_P,).
        arms: names, shape (_P,).
        rates: in [0, 1], a row a step, shape (_T, _P).
        prior: pass rates of another model, NaN where none is known, shape (_P,); None without any.
    """

    ids: Ints
    arms: Strings
    rates: Floats
    prior: Floats | None = None

    @property
    def steps(self) -> int:
        """_T."""
        return int(self.rates.shape[0])

    def pool(self, *, with_prior: bool) -> PromptPool:
        """The prompts, with what another model is known to make of them or without."""
        return PromptPool(self.ids, self.arms, prior_rate=self.prior if with_prior else None)


@dataclass(frozen=True, eq=False)
class Records:
    """Visits of prompts, one after the other: all of the first prompt, then all of the second; ids ascending.

    Attributes:
        ids: shape (_P,).
        arms: names, shape (_P,).
        prior: pass rates of another model, NaN where none is known, shape (_P,); None without any.
        visits: of each prompt, ≥ 1, shape (_P,).
        successes: right answers of each visit, shape (_V,); a sum where answers are partly right.
        trials: responses of each visit, ≥ 1, shape (_V,).
        position: when each visit was, as a share of the run, in [0, 1], shape (_V,).
        source: where it comes from, in words.
        left_out: prompts with too few visits.
        by: what the position goes by: "visit", "policy version" or "round".
    """

    ids: Ints
    arms: Strings
    prior: Floats | None
    visits: Ints
    successes: Floats
    trials: Floats
    position: Floats
    source: str
    left_out: int = 0
    by: str = "visit"
    _starts: Ints = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_starts", np.concatenate([[0], np.cumsum(self.visits)]).astype(np.int64))

    def __len__(self) -> int:
        """Number of prompts."""
        return int(self.ids.size)

    @property
    def starts(self) -> Ints:
        """The first visit of each prompt, and the end of the last one's, shape (_P + 1,)."""
        return self._starts

    @property
    def moments(self) -> Ints:
        """When each visit was, in whole numbers: its number, or the rank of its position where that is known, (_V,)."""
        if self.by == "visit":
            return np.arange(self.successes.size) - np.repeat(self._starts[:-1], self.visits)
        return np.unique(self.position, return_inverse=True)[1].astype(np.int64)

    @property
    def group_size(self) -> int:
        """The most frequent number of responses of a visit."""
        sizes, counts = np.unique(self.trials, return_counts=True)
        return int(sizes[np.argmax(counts)])

    def fingerprint(self) -> str:
        """SHA-256 of all of it."""
        hasher = hashlib.sha256("\0".join(self.arms.tolist()).encode())
        prior = np.full(len(self), np.nan) if self.prior is None else self.prior
        for array in (self.ids, prior, self.visits, self.successes, self.trials, self.position):
            hasher.update(np.ascontiguousarray(array).tobytes())
        return hasher.hexdigest()

    def curves(self, steps: int = 500, window: int = WINDOW) -> Curves:
        """Pass rates at every step: a moving average over visits, and straight lines between their positions.

        Args:
            steps: of the replay, ≥ 1; the whole record is stretched over them.
            window: visits that the average spans, odd, ≥ 1; fewer at both ends.

        Raises:
            InvalidParameter: an argument is out of range.
        """
        if steps < 1 or window < 1 or window % 2 == 0:
            raise InvalidParameter(
                f"`steps` of `curves` must be at least 1 and `window` odd and at least 1; got {steps} and {window}"
            )
        at = np.arange(steps, dtype=np.float64)
        rates = np.empty((steps, len(self)))
        for place, (first, last) in enumerate(zip(self._starts[:-1], self._starts[1:], strict=True)):
            mine = slice(int(first), int(last))
            mean = smoothed(self.successes[mine], self.trials[mine], window)
            rates[:, place] = np.interp(at, self.position[mine] * steps, mean)
        return Curves(self.ids, self.arms, np.clip(rates, 0.0, 1.0), self.prior)


def smoothed(successes: Floats, trials: Floats, window: int) -> Floats:
    """Right answers by responses in a window around each visit, shape of both; the window ends where the visits do.

    >>> smoothed(np.array([0.0, 8.0, 4.0]), np.array([8.0, 8.0, 8.0]), 3).round(3)
    array([0.5 , 0.5 , 0.75])
    """
    half = window // 2
    place = np.arange(successes.size)
    low, high = np.maximum(place - half, 0), np.minimum(place + half + 1, successes.size)
    right, all_ = (np.concatenate([[0.0], np.cumsum(values)]) for values in (successes, trials))
    return np.asarray((right[high] - right[low]) / (all_[high] - all_[low]))


# --- from files -------------------------------------------------------------------------------------------------------


def read_counts(path: Path, prior: Path | None = None, *, least_visits: int = 3) -> Records:
    """Read visit counts from a CSV file, gzipped or not.

    A row is a prompt: ``prompt_index`` and ``successes_of_N_per_visit``, the right answers of N at every visit in
    order, with blanks between them. The visits of a prompt are taken to lie evenly over the run.

    Args:
        path: the file.
        prior: another one with ``prompt_index`` and ``failures_of_N…`` or ``mean_failures_of_N…`` of another model.
            Its fifths become arms, "unknown" where it says nothing; without it there is one arm.
        least_visits: prompts with fewer visits are left out.

    Raises:
        InvalidData: a file that cannot be read as that.
        InvalidInput: no prompt is left.
    """
    rows = _rows(path, _COUNTS, "successes_of_8_per_visit")
    ids, visits, size = [], [], 0
    for line, index, size_, text in rows:
        size = size_
        visits.append(_visits(path, line, text, size))
        ids.append(index)
    order = np.argsort(np.array(ids, dtype=np.int64), kind="stable")
    enough = [place for place in order.tolist() if visits[place].size >= max(least_visits, 1)]
    kept = np.array([ids[place] for place in enough], dtype=np.int64)
    if np.unique(kept).size < kept.size:
        raise InvalidData(f"{path} has the same prompt_index in several rows")
    rates = None if prior is None else _prior_of(prior, kept)
    arms = np.full(kept.size, "default") if rates is None else _fifths(rates)
    successes = [visits[place] for place in enough]
    return _records(
        kept, arms, rates, successes, size=size, source=path.name, left_out=len(ids) - kept.size, least=least_visits
    )


def _records(
    ids: Ints,
    arms: Strings,
    prior: Floats | None,
    successes: list[Floats],
    *,
    size: int,
    source: str,
    left_out: int,
    least: int,
) -> Records:
    _refuse_none(ids, source, left_out, least)
    whole = np.concatenate(successes)
    position = np.concatenate([(np.arange(each.size) + 0.5) / each.size for each in successes])
    return Records(
        ids=ids,
        arms=arms,
        prior=prior,
        visits=np.array([each.size for each in successes], dtype=np.int64),
        successes=whole,
        trials=np.full(whole.size, float(size)),
        position=position,
        source=source,
        left_out=left_out,
    )


def _refuse_none(ids: Ints, source: str, left_out: int, least: int) -> None:
    if not ids.size:
        raise InvalidInput(
            f"no prompt of {source} has {least} or more visits ({left_out:,} have fewer), so nothing can be replayed",
            hint="--least-visits takes prompts with fewer",
        )


def _rows(path: Path, pattern: re.Pattern[str], example: str) -> Iterator[tuple[int, int, int, str]]:
    """Line, prompt_index, the N of the column's name, and its cell."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            names = list(reader.fieldnames or [])
            found = [match for name in names if (match := pattern.fullmatch(name))]
            if "prompt_index" not in names or len(found) != 1:
                has = ", ".join(names) or "none"
                raise InvalidData(f"{path} must have a column prompt_index and one such as {example}; it has {has}")
            size = int(found[0][1])
            for row in reader:
                yield reader.line_num, _index(path, reader.line_num, row["prompt_index"]), size, row[found[0][0]] or ""
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidData(f"cannot read {path}: {error}") from error


def _index(path: Path, line: int, text: str | None) -> int:
    try:
        return int(text or "")
    except ValueError:
        raise InvalidData(f"{path}, line {line}: prompt_index must be an integer; got {text!r}") from None


def _visits(path: Path, line: int, text: str, size: int) -> Floats:
    try:
        counts = np.array([int(word) for word in text.split()], dtype=np.float64)
    except ValueError:
        counts = np.array([-1.0])
    if np.any((counts < 0) | (counts > size)):
        raise InvalidData(f"{path}, line {line}: visits must be integers from 0 to {size}, with blanks between them")
    return counts


def _prior_of(path: Path, ids: Ints) -> Floats:
    """Pass rates of another model for the prompts, NaN where none is given."""
    rates = np.full(ids.size, np.nan)
    for line, index, size, text in _rows(path, _FAILURES, "mean_failures_of_128_qwen"):
        place = int(np.searchsorted(ids, index))
        if place < ids.size and ids[place] == index and text.strip():
            rates[place] = 1.0 - _failures(path, line, text, size) / size
    if np.isnan(rates).all():
        raise InvalidData(f"{path} has no prompt_index in common with the curves")
    return rates


def _failures(path: Path, line: int, text: str, size: int) -> float:
    try:
        failures = float(text)
    except ValueError:
        failures = float("nan")
    if not 0.0 <= failures <= size:
        raise InvalidData(f"{path}, line {line}: failures must be a number from 0 to {size}; got {text!r}")
    return failures


def _fifths(prior: Floats) -> Strings:
    """The arm of each prompt: its fifth by another model's pass rate, shape of ``prior``."""
    known = ~np.isnan(prior)
    edges = np.quantile(prior[known], [0.2, 0.4, 0.6, 0.8])
    names = np.array([f"{place + 1} {word}" for place, word in enumerate(_FIFTHS)])
    return np.where(known, names[np.searchsorted(edges, np.where(known, prior, 0.0))], "unknown")


# --- from a store -----------------------------------------------------------------------------------------------------


def stored_counts(store: PromptStore, model: str, *, least_visits: int = 3, prompt_ids: Ints | None = None) -> Records:
    """Visit counts from the rollouts of a model, or of a run, in a store; probes are left out.

    A visit is what a prompt got under one policy version, or in one round where no versions are known. Its place in the
    run is the version's, or the round's, between the first and the last one.

    Args:
        store: an open store.
        model: a model's name, or "run:NAME".
        least_visits: prompts with fewer visits are left out.
        prompt_ids: these prompts only.

    Raises:
        InvalidInput: no prompt is left, or nothing says when its rollouts were made.
    """
    pool = store.pool()
    with store.connection.all_cores():
        table = store.connection.arrow(_STORED, [model])
    cells = {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}
    wanted = pool.contains(cells["prompt_id"])
    if prompt_ids is not None:
        wanted &= np.isin(cells["prompt_id"], prompt_ids)
    cells = {name: column[wanted] for name, column in cells.items()}
    by, moment = _moments(cells, model)
    visits = _merged(cells, moment)
    return _of_store(store, pool, visits, by=by, least=least_visits, model=model)


def _moments(cells: dict[str, Any], model: str) -> tuple[str, Ints]:
    """What says when, and the moment of each cell."""
    for by, name in (("policy version", "version"), ("round", "round")):
        moment = cells[name]
        if np.unique(moment[moment >= 0]).size > 1:
            return by, moment
    n = int(cells["n"].sum()) if cells["n"].size else 0
    raise InvalidInput(
        f"{n:,} judged rollouts of {model} are all of one moment, so there are no curves to replay",
        hint="record a run with `curri select --run` and `curri record`, or import rollouts with a policy_version",
    )


def _merged(cells: dict[str, Any], moment: Ints) -> dict[str, Any]:
    """One row for each prompt and moment."""
    dated = moment >= 0
    ids, moment = cells["prompt_id"][dated], moment[dated]
    keys = np.stack([ids, moment])
    pairs, place = np.unique(keys, axis=1, return_inverse=True)
    place = place.ravel()
    solved = np.bincount(place, cells["solved"][dated], pairs.shape[1])
    n = np.bincount(place, cells["n"][dated], pairs.shape[1])
    low, high = moment.min(), moment.max()
    return {"ids": pairs[0], "solved": solved, "n": n, "position": (pairs[1] - low + 0.5) / (high - low + 1.0)}


def _of_store(
    store: PromptStore, pool: PromptPool, visits: dict[str, Any], *, by: str, least: int, model: str
) -> Records:
    ids, counts = np.unique(visits["ids"], return_counts=True)
    enough = counts >= max(least, 1)
    source = f"{model} in {store.path.name}"
    _refuse_none(ids[enough], source, int((~enough).sum()), least)
    kept: Bools = np.isin(visits["ids"], ids[enough])
    rows = pool.rows(ids[enough])
    return Records(
        ids=ids[enough].astype(np.int64),
        arms=pool.arm_of(rows),
        prior=None if pool.prior_rate is None or np.isnan(pool.prior_rate[rows]).all() else pool.prior_rate[rows],
        visits=counts[enough].astype(np.int64),
        successes=visits["solved"][kept],
        trials=visits["n"][kept],
        position=visits["position"][kept],
        source=source,
        left_out=int((~enough).sum()),
        by=by,
    )
