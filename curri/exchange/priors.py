"""Pass rates of prompts that are known from another model, from files into the store."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curri.errors import InvalidData, InvalidInput, InvalidParameter
from curri.exchange.fields import INT32, integer, number
from curri.exchange.jsonl import Progress, RejectedRows, is_standard
from curri.exchange.layouts import NAMED_BY, PRIOR_COLUMNS, TranslatedRows, translation
from curri.exchange.lookup import Reference, find_prompts, reference
from curri.exchange.sources import is_hub, open_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from curri.exchange.jsonl import Row
    from curri.store import PromptStore

CHUNK = 10_000
"""Rows of one transaction."""

TOLERANCE = 1e-9
"""How far a rate may be from k / n where a row has all three."""


@dataclass(frozen=True, kw_only=True)
class PriorsReport:
    """What became of the rows of a file of pass rates; ``added + changed + repeated + rejected == rows``.

    Attributes:
        source: file name.
        model: whose rates they are.
        rows: rows read.
        added: prompts that had no rate of this model.
        changed: prompts that had another one, which is gone.
        repeated: rows that changed nothing.
        rejected: rows that were refused.
        rejected_path: the file they are in, or None.
        rejected_examples: the first of them, as (line, reason).
        in_use: the model whose rates are the pool's now, or None.
        notes: what the user should know besides.
        unit: what the number of a row counts, "line" or "row".
    """

    source: str
    model: str
    rows: int
    added: int
    changed: int
    repeated: int
    rejected: int
    rejected_path: Path | None = None
    rejected_examples: tuple[tuple[int, str], ...] = ()
    in_use: str | None = None
    notes: tuple[str, ...] = ()
    unit: str = "line"


@dataclass(frozen=True, slots=True)
class _Prior:
    row: Row
    reference: Reference
    rate: float
    n: int


class _Loader:
    """Writes rates, one transaction a call, and counts what became of them."""

    def __init__(self, store: PromptStore, model: str, source: str) -> None:
        self._store = store
        self._model = model
        self._source = source
        size = len(store.prompts) + 1
        self._line = np.zeros(size, dtype=np.int64)
        self._rate = np.zeros(size)
        self._n = np.zeros(size, dtype=np.int64)
        self.added = self.changed = self.repeated = 0

    @property
    def any(self) -> bool:
        """Whether a row could be used."""
        return bool(self._line.any())

    def add(self, priors: Sequence[_Prior]) -> list[tuple[Row, str]]:
        """Write a chunk; gives the rows that had to be refused, with reasons."""
        refused: list[tuple[Row, str]] = []
        new: dict[int, _Prior] = {}
        found = find_prompts(self._store, [prior.reference for prior in priors])
        for prompt, prior in zip(found, priors, strict=True):
            if isinstance(prompt, str):
                refused.append((prior.row, prompt))
            elif not self._line[prompt]:
                new[prompt] = prior
                self._line[prompt], self._rate[prompt], self._n[prompt] = prior.row.number, prior.rate, prior.n
            elif (self._rate[prompt], self._n[prompt]) == (prior.rate, prior.n):
                self.repeated += 1
            else:
                said = f"{self._rate[prompt]:g} of {self._n[prompt]}"
                refused.append((prior.row, f"prompt {prompt} has another rate in row {self._line[prompt]}: {said}"))
        if new:
            self._write(new)
        return refused

    def _write(self, new: Mapping[int, _Prior]) -> None:
        ids = np.array(list(new), dtype=np.int64)
        rates = np.array([prior.rate for prior in new.values()], dtype=np.float64)
        n = np.array([prior.n for prior in new.values()], dtype=np.int64)
        n_present, n_changed = self._store.priors.set(self._model, ids, rates, n, source=self._source)
        self.added += ids.size - n_present
        self.changed += n_changed
        self.repeated += n_present - n_changed


def import_priors(
    store: PromptStore,
    path: str | os.PathLike[str],
    *,
    model: str,
    n: int | None = None,
    use: bool = False,
    form: str | None = None,
    columns: Mapping[str, str] | None = None,
    prompt_template: str | None = None,
    rejected: str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], None] | None = None,
    chunk: int = CHUNK,
) -> PriorsReport:
    """Add pass rates of another model.

    A row names its prompt (``prompt_id``, ``id`` or ``prompt``) and holds ``k`` right answers of ``n``, or a ``rate``
    and ``n``. Rates are kept apart from the store's rollouts, with model, file and n. Those of one model are in use,
    as ``prior_rate`` of the pool: the first that is imported, or the one for which ``use`` is said.

    Args:
        store: an open store.
        path: the file, "-" for standard input, a folder saved by ``datasets``, or ``hf:NAME?split=train&config=…``.
        model: whose rates they are.
        n: of rows that have none.
        use: make this model's rates the ones in use.
        form: the format, one of ``Format``; by default what the name says.
        columns: our column → the file's, for those that are named otherwise.
        prompt_template: text with ``{prompt}`` in it that stands around every prompt of the file.
        rejected: where refused rows go.
        progress: called after every chunk.
        chunk: rows of one transaction.

    Returns:
        counts of what became of the rows.

    Raises:
        InvalidData: the file cannot be read, or no row has what it takes.
        InvalidParameter: ``model`` or ``n`` cannot be used.
        InvalidInput: columns that are not there.
    """
    if not model.strip():
        raise InvalidParameter(f"`model` of `import_priors` must be a name; got {model!r}")
    if n is not None and not 1 <= n <= INT32:
        raise InvalidParameter(f"`n` of `import_priors` must be an int in [1, {INT32}]; got {n}")
    with open_rows(path, form) as source:
        rows = source.rewindable()
        how = translation(rows, layout="curri", columns=columns, prompt_template=prompt_template, known=PRIOR_COLUMNS)
        translated = TranslatedRows(rows, how)
        loader = _Loader(store, model, _where(path))
        n_rows = 0
        with RejectedRows(path, rejected, unit=rows.unit) as refused:
            present: dict[str, None] = {}
            for part, bad in _chunks(translated, n, chunk, present):
                if not n_rows and not part:
                    _refuse_useless(rows.name, present, n)
                unknown = loader.add(part)
                for row, reason in sorted([*bad, *unknown], key=lambda pair: pair[0].number):
                    refused.add(row, reason)
                n_rows += len(part) + len(bad)
                if progress is not None:
                    progress(Progress(rows.done, rows.total, n_rows))
        if loader.any and (use or store.priors.in_use in (None, model)):
            store.priors.use(model)
        return PriorsReport(
            source=rows.name,
            model=model,
            rows=n_rows,
            added=loader.added,
            changed=loader.changed,
            repeated=loader.repeated,
            rejected=refused.count,
            rejected_path=refused.path if refused.count else None,
            rejected_examples=tuple(refused.examples),
            in_use=store.priors.in_use,
            notes=tuple(rows.notes),
            unit=rows.unit,
        )


def _where(path: str | os.PathLike[str]) -> str:
    name = os.fspath(path)
    return "standard input" if is_standard(path) else name if is_hub(path) else str(Path(name).resolve())


def _chunks(
    rows: TranslatedRows, n: int | None, size: int, columns: dict[str, None]
) -> Iterator[tuple[list[_Prior], list[tuple[Row, str]]]]:
    """Rows of one transaction, good ones and bad ones; the columns that were seen are noted in ``columns``."""
    part: list[_Prior] = []
    bad: list[tuple[Row, str]] = []
    rendered = rows.translation.template is not None
    for row in rows:
        columns.update(dict.fromkeys(row.value or ()))
        short = row._replace(value=None, raw=row.raw[:2000])
        try:
            part.append(_Prior(short, *_read(row, n, rendered=rendered)))
        except InvalidData as error:
            bad.append((short, error.message))
        if len(part) + len(bad) >= size:
            yield part, bad
            part, bad = [], []
    yield part, bad


def _read(row: Row, n: int | None, *, rendered: bool) -> tuple[Reference, float, int]:
    if row.value is None:
        raise InvalidData(row.reason)
    value = row.value
    named = reference(row, rendered=rendered)
    k, rate, size = (value.get(name) for name in ("k", "rate", "n"))
    size = n if size is None else size
    if k is None and rate is None:
        raise InvalidData('no pass rate: a row needs "k" right answers of "n", or a "rate" and "n"')
    if size is None:
        raise InvalidData('"n" is missing: how many responses the rate comes from; in the row or by --n')
    size = integer("n", size, low=1, high=INT32)
    if k is None:
        return named, number("rate", rate, low=0.0, high=1.0), size
    right = number("k", k, low=0.0, high=float(size))
    if rate is not None and abs(number("rate", rate, low=0.0, high=1.0) - right / size) > TOLERANCE:
        raise InvalidData(f'"rate" {rate} is not "k" / "n", {right:g} / {size}')
    return named, right / size, size


def _refuse_useless(name: str, columns: Mapping[str, None], n: int | None) -> None:
    """Refuse a file of which no row can be used because it lacks a column."""
    wanted: list[tuple[str, tuple[str, ...]]] = [
        ("names the prompt", NAMED_BY),
        ('holds the pass rate ("k" right answers of "n", or a "rate")', ("k", "rate")),
    ]
    wanted += [('says how many responses it comes from ("n")', ("n",))] if n is None else []
    for what, names in wanted:
        if columns and not any(column in columns for column in names):
            shown = ", ".join(f'"{column}"' for column in list(columns)[:20])
            hint = f"say which one it is: --column {names[0]}=NAME" + (
                ", or --n 8 for all rows" if "n" in names else ""
            )
            raise InvalidInput(f"{name} has no column that {what}; its columns: {shown}", hint=hint)
