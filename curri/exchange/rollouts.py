"""Files of rollouts into the store."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curri.errors import InvalidData, InvalidInput
from curri.exchange.fields import INT32, Group, integer, joined, read_group
from curri.exchange.ingest import as_text
from curri.exchange.jsonl import Progress, RejectedRows, compact_json, described, dumped
from curri.exchange.layouts import NAMED_BY, TranslatedRows, translation
from curri.exchange.loading import CHUNK_BYTES
from curri.exchange.lookup import Reference, find_prompts, reference
from curri.exchange.sources import open_rows
from curri.store import RUN_MODEL, Source
from curri.store.rollouts import occurrence
from curri.types import in_unit_interval

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from curri.exchange.jsonl import Row
    from curri.store import PromptStore
    from curri.types import Ints

CHUNK = 10_000
"""Responses of one transaction, or a few more."""

_SOURCE_COLUMNS = ("model", "weight_version", "settings", "verifier")


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What became of the rows of a file of rollouts.

    Attributes:
        source: file name.
        rows: rows read, blank lines left out.
        added: responses that are new.
        repeated: responses that were there already; they changed nothing.
        rejected: rows that were refused.
        rejected_path: the file they are in, or None.
        rejected_examples: the first of them, as (line, reason).
        models: responses of each model in the file, those that were there already among them.
        solved_unknown: models whose rewards leave [0, 1] and whose rows have no ``solved``.
        notes: what the user should know besides.
        unit: what the number of a row counts, "line" or "row".
    """

    source: str
    rows: int
    added: int
    repeated: int
    rejected: int
    rejected_path: Path | None = None
    rejected_examples: tuple[tuple[int, str], ...] = ()
    models: dict[str, int] = field(default_factory=dict)
    solved_unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unit: str = "line"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A row that can be read."""

    row: Row
    source: Source
    reference: Reference
    group: Group
    extras: str | None
    sample: int | None


def import_rollouts(
    store: PromptStore,
    path: str | os.PathLike[str],
    *,
    model: str | None = None,
    form: str | None = None,
    layout: str | None = None,
    columns: Mapping[str, str] | None = None,
    reward_weights: Mapping[str, float] | None = None,
    prompt_template: str | None = None,
    append: bool = False,
    rejected: str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], None] | None = None,
    chunk: int = CHUNK,
) -> ImportReport:
    """Add rollouts from a file.

    A row names its prompt (``prompt_id``, ``id`` or ``prompt``) and holds ``reward``, or ``rewards`` for a group; and
    as far as known ``solved``, ``model``, ``weight_version``, ``settings``, ``verifier``, ``sample``, ``tokens``,
    ``truncated``, ``policy_version``, ``advantage``, ``response``, ``rollout_id``, ``kind``; all else is kept as
    extras. Where ``solved`` is nowhere given for a source, it is the reward if all rewards of the source lie in [0, 1];
    to see that, the file is read twice.

    A response is the same as another if prompt, source (model, weight version, settings, verifier) and sample number
    are. Without ``sample`` it is the number of the response among those of its prompt and source in the file. So
    importing a file twice changes nothing, and after an interruption the same call finishes the rest.

    Args:
        store: an open store.
        path: the file, "-" for standard input, a folder saved by ``datasets``, or ``hf:NAME?split=train&config=…``.
        model: of rows that name none.
        form: the format, one of ``Format``; by default what the name says.
        layout: "curri" for the columns above, "trl" for what TRL's ``log_completions`` writes, "verl" for verl's
            ``rollout_data_dir``; by default what the columns say.
        columns: our column → the file's, for those that are named otherwise.
        reward_weights: columns whose weighted sum is the reward.
        prompt_template: text with ``{prompt}`` in it that stands around every prompt of the file; what is inside may
            also be the last message of a chat.
        append: the responses are new samples whatever their numbers: they are numbered after those that are there, and
            all are written in one transaction.
        rejected: where refused rows go.
        progress: called after every chunk.
        chunk: responses of one transaction.

    Returns:
        counts of what became of the rows.

    Raises:
        InvalidData: the file cannot be read, or no row has what it takes.
        InvalidInput: no model is named, or columns that are not there.
    """
    with open_rows(path, form) as source:
        rows = source.rewindable()
        how = translation(
            rows, layout=layout, columns=columns, reward_weights=reward_weights, prompt_template=prompt_template
        )
        translated = TranslatedRows(rows, how)
        survey = _Survey(translated, model, progress)
        rows.rewind()
        importer = _Importer(store, survey.defaults_solved, append=append)
        n_rows = 0
        with (
            RejectedRows(path, rejected, unit=rows.unit) as refused,
            store.transaction() if append else contextlib.nullcontext(),
        ):
            for part, bad in _chunks(translated, model, chunk):
                unknown = importer.add(part)
                for row, reason in sorted([*bad, *unknown], key=lambda pair: pair[0].number):
                    refused.add(row, reason)
                n_rows += len(part) + len(bad)
                if progress is not None:
                    progress(Progress(*survey.second_pass(rows.done), n_rows))
        return ImportReport(
            source=rows.name,
            rows=n_rows,
            added=importer.added,
            repeated=importer.repeated,
            rejected=refused.count,
            rejected_path=refused.path if refused.count else None,
            rejected_examples=tuple(refused.examples),
            models=importer.models,
            solved_unknown=survey.solved_unknown,
            notes=tuple(rows.notes),
            unit=rows.unit,
        )


def import_rollouts_jsonl(store: PromptStore, path: str | os.PathLike[str], **options: Any) -> ImportReport:
    """Add rollouts from a JSON Lines file, whatever its name: :func:`import_rollouts` with ``form="jsonl"``."""
    return import_rollouts(store, path, form="jsonl", **options)


def _chunks(rows: TranslatedRows, model: str | None, size: int) -> Iterator[tuple[list[_Entry], list[tuple[Row, str]]]]:
    part: list[_Entry] = []
    bad: list[tuple[Row, str]] = []
    n_responses = n_bytes = 0
    rendered = rows.translation.template is not None
    for row in rows:
        try:
            part.append(_entry(row, model, rendered=rendered))
            n_responses += len(part[-1].group)
        except InvalidData as error:
            bad.append((_shortened(row), error.message))
        n_bytes += len(row.raw)
        if n_responses + len(bad) >= size or n_bytes >= CHUNK_BYTES:
            yield part, bad
            part, bad, n_responses, n_bytes = [], [], 0, 0
    yield part, bad


def _shortened(row: Row) -> Row:
    return row._replace(value=None, raw=row.raw[:2000])


def _entry(row: Row, model: str | None, *, rendered: bool) -> _Entry:
    if row.value is None:
        raise InvalidData(row.reason)
    named = reference(row, rendered=rendered)
    used = {"prompt", named.column, "sample", *_SOURCE_COLUMNS, *(("answer",) if named.column == "prompt" else ())}
    group = read_group(row.value, aside=used)
    sample = row.value.get("sample")
    if sample is not None:
        sample = integer("sample", sample, low=0, high=INT32 - len(group))
    extras = dumped(group.rest, None, compact_json) if group.rest else None
    return _Entry(_shortened(row), _source(row, model), named, group, extras, sample)


def _source(row: Row, model: str | None) -> Source:
    value = row.value or {}
    name = value.get("model")
    name = model if name is None else name
    if not isinstance(name, str) or not name.strip():
        reason = "no model is named; name it in the row or with --model" if name is None else None
        raise InvalidData(reason or f'"model" must be a text; got {described(name)}')
    if name.startswith(RUN_MODEL):
        raise InvalidData(f'"model" must not begin with "{RUN_MODEL}", which stands for rollouts of runs')
    settings = value.get("settings")
    return Source(
        model=name,
        weight_version=as_text(row, "weight_version") or "",
        settings=dumped(settings, "settings") if isinstance(settings, (dict, list)) else as_text(row, "settings") or "",
        verifier=as_text(row, "verifier") or "",
    )


class _Survey:
    """What has to be known of the whole file before its first row is written.

    Attributes:
        defaults_solved: for each source, whether ``solved`` is the reward.
        solved_unknown: models for which it can be neither read nor concluded.
    """

    def __init__(self, rows: TranslatedRows, model: str | None, progress: Callable[[Progress], None] | None) -> None:
        self._says_solved: dict[Source, bool] = {}
        self._in_unit: dict[Source, bool] = {}
        source = rows.source
        self._size = source.total
        columns: dict[str, None] = {}
        for row in rows:
            columns.update(dict.fromkeys(row.value or ()))
            with contextlib.suppress(InvalidData):  # refused, and said so, when it is read for the second time
                self._note(_source(row, model), read_group(row.value or {}))
            if progress is not None and row.number % CHUNK == 0:
                progress(Progress(source.done, self._whole, 0))
        self.first_pass = source.done
        if columns:
            _refuse_useless(source.name, columns, model)
        self.defaults_solved = {key: ok and not self._says_solved[key] for key, ok in self._in_unit.items()}
        unknown = (key.model for key, ok in self._in_unit.items() if not ok and not self._says_solved[key])
        self.solved_unknown = tuple(dict.fromkeys(unknown))

    @property
    def _whole(self) -> int | None:
        return None if self._size is None else 2 * self._size

    def second_pass(self, done: int) -> tuple[int, int]:
        """Progress of the second reading, as (done, total)."""
        return self.first_pass + done, 2 * self.first_pass

    def _note(self, source: Source, group: Group) -> None:
        self._says_solved[source] = self._says_solved.get(source, False) or group.says_solved
        in_unit = in_unit_interval(min(group.rewards, default=0.0), max(group.rewards, default=0.0))
        self._in_unit[source] = self._in_unit.get(source, True) and in_unit


def _refuse_useless(name: str, columns: Mapping[str, None], model: str | None) -> None:
    shown = ", ".join(f'"{column}"' for column in list(columns)[:20])
    wanted = {
        "names the prompt": NAMED_BY,
        'holds rewards ("reward", or "rewards" for a group)': ("reward", "rewards"),
    }
    for what, names in wanted.items():
        if not any(column in columns for column in names):
            raise InvalidData(f"{name} has no column that {what}; its columns: {shown}",
                              hint=f"rename one of them to {' or '.join(names)}")  # fmt: skip
    if model is None and "model" not in columns:
        message = f'{name} does not say which model generated the responses: it has no column "model"'
        raise InvalidInput(message, hint="name it: --model NAME")


class _Importer:
    """Writes entries, one transaction a call, and counts what became of them."""

    def __init__(self, store: PromptStore, defaults_solved: Mapping[Source, bool], *, append: bool) -> None:
        self._store = store
        self._defaults_solved = defaults_solved
        self._append = append
        self._numberings: dict[Source, _Numbering] = {}
        self.added = self.repeated = 0
        self.models: dict[str, int] = {}

    def add(self, entries: Sequence[_Entry]) -> list[tuple[Row, str]]:
        """Write a chunk; gives the rows that had to be refused, with reasons."""
        refused: list[tuple[Row, str]] = []
        of_source: dict[Source, list[tuple[int, _Entry]]] = {}
        found = find_prompts(self._store, [entry.reference for entry in entries])
        for prompt, entry in zip(found, entries, strict=True):
            reason = prompt if isinstance(prompt, str) else self._numbering(entry.source).refuses(entry.sample)
            if isinstance(prompt, str) or reason is not None:
                refused.append((entry.row, str(reason)))
            else:
                of_source.setdefault(entry.source, []).append((prompt, entry))
        with self._store.transaction():
            for source, mine in of_source.items():
                self._write(source, mine)
        return refused

    def _numbering(self, source: Source) -> _Numbering:
        if source not in self._numberings:
            base = self._store.rollouts.next_samples(source) if self._append else {}
            self._numberings[source] = _Numbering(base)
        return self._numberings[source]

    def _write(self, source: Source, entries: Sequence[tuple[int, _Entry]]) -> None:
        sizes = [len(entry.group) for _, entry in entries]
        prompts = np.repeat(np.array([prompt for prompt, _ in entries], dtype=np.int64), sizes)
        starts = np.repeat(np.array([-1 if e.sample is None else e.sample for _, e in entries], dtype=np.int64), sizes)
        samples = self._numbering(source).numbers(prompts, starts, np.concatenate([np.arange(size) for size in sizes]))
        if int(samples.max(initial=0)) > INT32:
            raise InvalidData(f"sample numbers go up to {INT32}; got {int(samples.max())}")
        rows = _table(entries, prompts, samples, defaults_solved=self._defaults_solved.get(source, False))
        firsts = np.unique(np.stack([prompts, samples]), axis=1, return_index=True)[1]
        if firsts.size < prompts.size:
            rows = rows.take(pa.array(np.sort(firsts)))
        added = self._store.rollouts.add(source, rows)
        self.added += added
        self.repeated += prompts.size - added
        self.models[source.model] = self.models.get(source.model, 0) + prompts.size


class _Numbering:
    """Sample numbers of one source.

    Args:
        base: for each prompt, the first number to give; 0 where missing.
    """

    def __init__(self, base: Mapping[int, int]) -> None:
        self._explicit: bool | None = None
        self._next = np.zeros(0, dtype=np.int64)
        self._base = np.zeros(0, dtype=np.int64)
        if base:
            self._grow(max(base))
            self._base[list(base)] = list(base.values())

    def refuses(self, sample: int | None) -> str | None:
        """Why a row cannot be numbered, or None: either all rows of a source have ``sample``, or none."""
        if self._explicit is None:
            self._explicit = sample is not None
        if self._explicit == (sample is not None):
            return None
        return '"sample" must be given in all rows of a model or in none; ' + (
            "earlier rows have it" if self._explicit else "earlier rows do not have it"
        )

    def numbers(self, prompts: Ints, starts: Ints, place_in_row: Ints) -> Ints:
        """The number of each response.

        Args:
            prompts: prompt ids, shape (_R,).
            starts: the number its row gives, or -1, shape (_R,).
            place_in_row: place of the response in its row, shape (_R,).
        """
        self._grow(int(prompts.max(initial=0)))
        if self._explicit:
            return self._base[prompts] + starts + place_in_row
        numbers = self._base[prompts] + self._next[prompts] + occurrence(prompts)
        np.add.at(self._next, prompts, 1)
        return numbers

    def _grow(self, prompt_id: int) -> None:
        if prompt_id >= self._next.size:
            size = max(prompt_id + 1, 2 * self._next.size)
            self._next, self._base = (_padded(array, size) for array in (self._next, self._base))


def _padded(array: Ints, size: int) -> Ints:
    grown = np.zeros(size, dtype=np.int64)
    grown[: array.size] = array
    return grown


def _table(entries: Sequence[tuple[int, _Entry]], prompts: Ints, samples: Ints, *, defaults_solved: bool) -> pa.Table:
    groups = [entry.group for _, entry in entries]
    kinds = {
        "solved": pa.float64(),
        "advantages": pa.float64(),
        "tokens": pa.int32(),
        "truncated": pa.bool_(),
        "policy_version": pa.int64(),
        "responses": pa.string(),
    }
    columns = {name: pa.array(joined(groups, name), kind) for name, kind in kinds.items()}
    rewards = pa.array(joined(groups, "rewards"), pa.float64())
    names = [None if name is None else str(name) for name in joined(groups, "rollout_ids")]
    extras = [entry.extras for _, entry in entries for _ in entry.group.rewards]
    return pa.table(
        {
            "prompt_id": prompts,
            "sample": pa.array(samples.astype(np.int32)),
            "reward": rewards,
            "solved": np.clip(rewards.to_numpy(), 0.0, 1.0) if defaults_solved else columns["solved"],
            "advantage": columns["advantages"],
            "tokens": columns["tokens"],
            "truncated": columns["truncated"],
            "policy_version": columns["policy_version"],
            "probe": pa.array([group.kind == "probe" for group in groups for _ in group.rewards], pa.bool_()),
            "rollout_id": pa.array(names, pa.string()),
            "response": columns["responses"],
            "extras": pa.array(extras, pa.string()),
        }
    )
