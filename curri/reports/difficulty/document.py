"""Everything that is known of how hard prompts are, as one plain JSON document."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from curri._version import __version__
from curri.reports.difficulty.advice import advice_of
from curri.reports.difficulty.coverage import calibration_of, coverage_of
from curri.reports.difficulty.drift import drift_of
from curri.reports.difficulty.duplicates import duplicates_of
from curri.reports.difficulty.evidence import gather
from curri.reports.difficulty.examples import contrasted, examples_of, texts_of
from curri.reports.difficulty.rates import edge_of_signal
from curri.reports.difficulty.summary import Summary
from curri.reports.difficulty.waste import runs_of, signal_of
from curri.reports.difficulty.wording import headline, lead
from curri.reports.documents import fingerprint, finite

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from curri.reports.difficulty.evidence import Evidence
    from curri.reports.difficulty.question import Question
    from curri.store import PromptStore

__all__ = ["FORMAT", "difficulty_report"]

FORMAT = "curri difficulty report 1"
LEVEL = 0.9
"""Of every interval."""


def difficulty_report(
    store: PromptStore,
    question: Question,
    settings: Mapping[str, Any] | None = None,
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Collect what the page, the text and ``--json`` show.

    Args:
        store: an open store; nothing in it is changed.
        question: which prompts, whose rollouts, groups of which size.
        settings: what the user asked for, plain JSON, kept with the document.
        tell: is told what is being done.

    Returns:
        A document of plain JSON; numbers that do not exist are null.

    Example:
        >>> import tempfile, curri
        >>> from curri.reports.difficulty import Question, difficulty_report
        >>> with tempfile.TemporaryDirectory() as folder, curri.open_store(folder + "/p.duckdb", create=True) as store:
        ...     difficulty_report(store, Question(model=None))["headline"]
        'The store has no training prompts yet, so there is nothing to report on.'

    """
    tell("reading rollouts")
    evidence = gather(store, question)
    summary = Summary(evidence, question.group_size)
    tell("working out pass rates")
    report: dict[str, Any] = {
        "format": FORMAT,
        "curri": __version__,
        "level": LEVEL,
        "model": question.model,
        "run": question.run,
        "where": question.where,
        "filtered": question.prompt_ids is not None,
        "group_size": {"size": question.group_size, "source": question.group_source},
        "counts": _counts(store, evidence),
        "verdicts": {"edge": edge_of_signal(question.group_size), **summary.totals()},
        "arms": summary.arms(),
        "histogram": summary.histogram(),
        "group_sizes": summary.group_sizes(),
        "signal": signal_of(evidence),
        "drift": drift_of(evidence),
        "coverage": coverage_of(evidence),
        "priors": calibration_of(store, evidence),
        "examples": examples_of(summary),
    }
    tell("reading the ledger")
    report["runs"] = runs_of(store, question)
    tell("looking for duplicates")
    report["duplicates"] = duplicates_of(store, evidence.pool)
    for group in report["duplicates"]["near"]["shown"]:
        group["texts"] = contrasted(store, group["ids"][:2])
    report["advice"] = advice_of(store, question, summary, report)
    report["prompts"] = texts_of(store, _named(report))
    report["data"] = _data(store, evidence) | {"sha256": _digest(evidence, report["runs"])}
    report["settings"] = dict(settings or {})
    found: dict[str, Any] = finite(report)
    found["fingerprint"] = fingerprint(
        {"data": found["data"]["sha256"], "settings": found["settings"], "curri": found["curri"]}
    )
    return {"headline": headline(found), "lead": lead(found), **found}


def _counts(store: PromptStore, evidence: Evidence) -> dict[str, Any]:
    pool = evidence.pool
    n = evidence.responses[evidence.tried]
    return {
        "prompts": int(pool.active.sum()),
        "retired": int((~pool.active).sum()),
        "held_out": _held_out(store),
        "arms": len(pool.arm_names),
        "tried": int((evidence.tried & pool.active).sum()),
        "tried_retired": int((evidence.tried & ~pool.active).sum()),
        "responses": int(n.sum()),
        "per_prompt": {"least": int(n.min()), "median": float(np.median(n)), "most": int(n.max())} if n.size else None,
        "known": int(evidence.known.sum()),
        "fractional": int((evidence.tried & ~evidence.judged & (evidence.known > 0)).sum()),
        "unjudged": int((evidence.tried & (evidence.known == 0)).sum()),
        "shaped": _shaped(evidence),
        "tokens": int(evidence.tokens.sum()),
        "with_tokens": int(evidence.n_tokens.sum()),
    }


def _held_out(store: PromptStore) -> int:
    return int(store.connection.value("select count(*) from prompts where coalesce(split, 'train') != 'train'"))


def _shaped(evidence: Evidence) -> bool:
    """Whether there are rewards that differ from what is right or wrong."""
    cells = evidence.cells
    known = ~np.isnan(cells.solved)
    return bool((cells.reward[known] != cells.solved[known]).any())


def _named(report: Mapping[str, Any]) -> set[int]:
    """Ids of all prompts that the report shows."""
    found = {row["prompt_id"] for rows in report["examples"].values() for row in rows}
    return found | {group["first"] for group in report["duplicates"]["same"]["shown"]}


def _data(store: PromptStore, evidence: Evidence) -> dict[str, Any]:
    file = store.connection.path
    written = dt.datetime.fromtimestamp(file.stat().st_mtime, dt.UTC)
    return {
        "store": store.path.name,
        "store_id": store.store_id,
        "copy": store.snapshot_age is not None,
        "written": written.isoformat(timespec="seconds"),
        "prompts": len(store.prompts),
        "responses": len(store.rollouts),
        "models": store.rollouts.all_models(),
        "runs": len(store.runs.names()),
        "cells": int(evidence.cells.rows.size),
    }


def _digest(evidence: Evidence, runs: list[dict[str, Any]]) -> str:
    """SHA-256 of prompts, rollouts and outcomes that the report is about."""
    pool, cells = evidence.pool, evidence.cells
    hasher = hashlib.sha256(json.dumps([pool.arm_names, finite(runs)], sort_keys=True).encode())
    for array in (pool.ids, pool.arms, pool.active, pool.prior_rate, *vars(cells).values()):
        if isinstance(array, np.ndarray):
            hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()
