"""What to do next, with the commands that do it. Every filter is run here, so that each says what it is about."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.reports.difficulty.rates import edge_of_signal
from curri.reports.difficulty.summary import KINDS
from curri.reports.wording import probability
from curri.store import RUN_MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from curri.reports.difficulty.question import Question
    from curri.reports.difficulty.summary import Summary
    from curri.store import PromptStore
    from curri.types import Ints

__all__ = ["advice_of"]

SURE = 0.9
"""Mean probability of being too easy, or too hard, of prompts that are to be retired by advice."""
_COUNTS = (2, 4, 8, 16, 32, 64, 128, 256)
_SHARES = (1.0, 0.99, 0.98, 0.97, 0.96, 0.95, 0.94, 0.93, 0.92, 0.91, 0.9, 0.85, 0.8)
_PLACE = {kind: place for place, kind in enumerate(KINDS)}
_BATCH = 64
_WASTEFUL = 0.25
_FORETELLS = 0.5


@dataclass(frozen=True)
class _Adviser:
    store: PromptStore
    question: Question
    summary: Summary
    has_others: bool

    def command(self, *words: str, where: str | None = None, model: bool = True) -> str:
        """A line for a shell."""
        line = ["curri", *words]
        if where is not None:
            line += ["--where", self.narrowed(where)]
        if model and self._must_name_model:
            line += ["--model", str(self.question.model)]
        if str(self.store.path) != "curri.duckdb":
            line += ["--store", str(self.store.path)]
        return shlex.join(line)

    @property
    def _must_name_model(self) -> bool:
        name = self.question.model
        return name is not None and (name.startswith(RUN_MODEL) or len(self.store.rollouts.models()) != 1)

    def narrowed(self, where: str) -> str:
        """A filter, within what the report is about."""
        parts = [f"({self.question.where})"] if self.question.where else []
        parts += ['split == "train"'] if self.has_others else []
        parts += ["not retired"] if not self.summary.evidence.pool.active.all() else []
        return " and ".join([*parts, where])

    def matching(self, where: str) -> Ints:
        """Rows of the prompts that a filter is true of, as far as they are tried and may be picked."""
        pool = self.summary.evidence.pool
        found = self.store.prompts.where(self.narrowed(where), model=self.question.model)
        return np.flatnonzero(np.isin(pool.ids, found) & pool.active)


def advice_of(
    store: PromptStore, question: Question, summary: Summary, report: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Things to do, the most useful first; ``matches`` is how many prompts a command is about, where it has a filter.

    Where the report is about prompts that the filter language did not choose, there are no commands with filters.
    """
    adviser = _Adviser(store, question, summary, has_others=bool(report["counts"]["held_out"]))
    evidence = summary.evidence
    if not len(evidence.pool):
        if question.prompt_ids is not None:
            return []
        return [_item("ingest", "Bring prompts in", "The store has none for training.",
                      adviser.command("ingest", "FILE.jsonl", model=False))]  # fmt: skip
    found: list[dict[str, Any]] = []
    if not evidence.tried.any():
        why = "Nothing is known of these prompts yet."
        line = adviser.command("rollouts", "import", "FILE", "--model", "NAME", model=False)
        found.append(_item("rollouts", "Bring rollouts in, or start a run", why, line))
    elif question.prompt_ids is None or question.where:
        found += _by_filter(adviser)
    found += _spare(adviser, report["duplicates"])
    found += _priors(adviser, report["priors"])
    found += _strategy(report["signal"])
    return found


def _item(kind: str, title: str, why: str, command: str, matches: int | None = None) -> dict[str, Any]:
    return {"kind": kind, "title": title, "why": why, "command": command, "matches": matches}


def _by_filter(adviser: _Adviser) -> Iterator[dict[str, Any]]:
    yield from _retire(adviser, "easy")
    yield from _retire(adviser, "hard")
    edge = math.floor(100.0 * edge_of_signal(adviser.question.group_size)) / 100.0
    where = f"pass_rate in {1.0 - edge:.2f}..{edge:.2f}"
    rows = adviser.matching(where)
    if rows.size:
        why = "Their share of right answers so far lies where groups have signal. With few rollouts that is a guess."
        line = adviser.command("export", "keep.parquet", where=where)
        yield _item("keep", "Write out the prompts in between", why, line, int(rows.size))
    untried = adviser.matching("responses == 0")
    if untried.size:
        n = str(min(_BATCH, untried.size))
        line = adviser.command("select", "--strategy", "uniform", "-n", n, where="responses == 0")
        yield _item("untried", "Try prompts that have no rollouts", "How hard they are is not known.", line,
                    int(untried.size))  # fmt: skip


def _retire(adviser: _Adviser, kind: str) -> Iterator[dict[str, Any]]:
    """Prompts that are too easy, or too hard, almost for sure; by the widest filter that says so."""
    where = _widest(adviser, kind)
    if where is None:
        return
    rows = adviser.matching(where)
    if not rows.size:
        return
    sure = probability(float(adviser.summary.verdicts[rows, _PLACE[kind]].mean()))
    why = f"On average, one of them is too {kind} with a probability of {sure}."
    if kind == "hard":
        why += " A better policy may solve them later; “curri prompts restore” brings them back."
    line = adviser.command("prompts", "retire", "--dry-run", where=where)
    title = f"Retire what is too {kind} (without --dry-run it is done)"
    yield _item(kind, title, why, line, int(rows.size))


def _widest(adviser: _Adviser, kind: str) -> str | None:
    """The filter on share of right answers and responses that most prompts match, all being nearly sure; or None."""
    evidence, verdicts = adviser.summary.evidence, adviser.summary.verdicts[:, _PLACE[kind]]
    easy = kind == "easy"
    share = evidence.rate if easy else 1.0 - evidence.rate
    edge = edge_of_signal(adviser.question.group_size)
    best, most = None, 0
    for bound in (each for each in _SHARES if each > edge):
        for least in reversed(_COUNTS):  # of those that match as many, the one that asks for most
            rows = np.flatnonzero((share >= bound - 1e-12) & (evidence.responses >= least) & adviser.summary.counted)
            if rows.size > most and verdicts[rows].mean() >= SURE:
                best, most = (bound, least), rows.size
    if best is None:
        return None
    bound, least = best
    if bound == 1.0:
        return f"pass_rate == {1 if easy else 0} and responses >= {least}"
    condition = f"pass_rate >= {bound:g}" if easy else f"pass_rate <= {1.0 - bound:.2f}".rstrip("0")
    return f"{condition} and responses >= {least}"


def _spare(adviser: _Adviser, duplicates: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    ids = duplicates["spare_ids"]
    if not ids:
        return
    listed = []
    for each in ids:
        listed.append(str(each))
        if len(", ".join(listed)) > 9000:
            break
    why = "Of each group with the same text and answer, the prompt with the lowest id stays."
    if len(listed) < duplicates["spare"]:
        why += f" These are the first {len(listed):,} of {duplicates['spare']:,}; a new report has the next ones."
    words = ["curri", "prompts", "retire", "--dry-run", "--where", f"prompt_id in [{', '.join(listed)}]"]
    if str(adviser.store.path) != "curri.duckdb":
        words += ["--store", str(adviser.store.path)]
    title = "Retire duplicates (without --dry-run it is done)"
    yield _item("duplicates", title, why, shlex.join(words), len(listed))


def _priors(adviser: _Adviser, priors: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    good = [each for each in priors if (each["rank"] or 0.0) >= _FORETELLS]
    best = max(good, key=lambda each: each["rank"], default=None)
    if best is not None and not best["in_use"]:
        why = f"Of all that were imported, these foretell the rollouts best (rank correlation {best['rank']:.2f})."
        line = adviser.command("priors", "use", best["model"], model=False)
        yield _item("priors", "Let strategies start from another model's pass rates", why, line)


def _strategy(signal: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    if signal is None or signal["dead"] < _WASTEFUL * signal["groups"]:
        return
    why = "Many groups had no signal. Strategies that predict which prompts have it pick fewer of those."
    yield _item("strategy", "See which strategies there are", why, "curri strategies")
