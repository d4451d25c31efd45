"""Groups without signal: how many there were, why, and what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from curri.reports.difficulty.evidence import Evidence
    from curri.reports.difficulty.question import Question
    from curri.store import PromptStore
    from curri.types import Bools

__all__ = ["runs_of", "signal_of"]

KINDS = ("signal", "right", "wrong", "same")
"""What a group of two or more is: with signal; all right; all wrong; or equal rewards where neither is known."""

_OUTCOMES = """
    with told as (
        select s.run_id, r.round, r.prompt_id, count(*) as n, min(r.reward) < max(r.reward) as signal,
            sum(coalesce(r.tokens, 0))::bigint as tokens, count(r.tokens) as n_tokens
        from rollouts r join sources s using (source_id) where s.run_id >= 0 group by all),
    issued as (
        select run_id, round, prompt_id, sum(coalesce(n_rollouts, 0)) as wanted,
            max(event) filter (event in ('trained', 'dropped', 'observed', 'lost')) as outcome,
            max(coalesce(reason, '')) filter (event in ('trained', 'dropped', 'observed', 'lost')) as reason
        from ledger group by all)
    select run_id, arms.name as arm, case when issued.run_id is null and round < 0 then 'never handed out'
            when outcome is null then 'in flight' else outcome end as outcome,
        coalesce(reason, '') as reason, n > 1 as whole, coalesce(signal, false) as signal, count(*) as groups,
        sum(coalesce(n, 0))::bigint as responses, sum(coalesce(tokens, 0))::bigint as tokens,
        sum(coalesce(n_tokens, 0))::bigint as n_tokens,
        sum(greatest(coalesce(wanted, 0) - coalesce(n, 0), 0))::bigint as missing
    from told full join issued using (run_id, round, prompt_id)
    join prompts using (prompt_id) join arms using (arm_id) {condition}
    group by all order by all"""
_NAMES = {
    "trained": "trained on",
    "observed": "probe",
    "dropped": "dropped",
    "lost": "lost",
    "in flight": "in flight",
    "never handed out": "told without being handed out",
}
_REASONS = 8
"""Reasons of one run that are told apart; the rest is put together."""


def signal_of(evidence: Evidence) -> dict[str, Any] | None:
    """What the groups of the rollouts were, in all and by arm; None where there is none of two or more."""
    groups, pool = evidence.groups, evidence.pool
    whole = groups.n > 1
    if not whole.any():
        return None
    kinds = {
        "signal": groups.signal,
        "right": ~groups.signal & groups.right,
        "wrong": ~groups.signal & groups.wrong,
        "same": ~groups.signal & ~groups.right & ~groups.wrong,
    }
    arms = pool.arms[groups.rows]

    def part(mine: Bools) -> dict[str, Any]:
        dead = mine & ~groups.signal
        sizes = groups.n[mine]
        return {
            "groups": int(mine.sum()),
            **{kind: int((mine & held).sum()) for kind, held in kinds.items()},
            "dead": int(dead.sum()),
            "responses": int(sizes.sum()),
            "responses_dead": int(groups.n[dead].sum()),
            "tokens": int(groups.tokens[mine].sum()),
            "tokens_dead": int(groups.tokens[dead].sum()),
            "with_tokens": int(groups.n_tokens[mine].sum()),
            "size": float(np.median(sizes)),
        }

    held = np.unique(arms[whole]).tolist()
    return {
        **part(whole),
        "single": int((~whole).sum()),
        "arms": [{"arm": pool.arm_names[arm], **part(whole & (arms == arm))} for arm in held],
    }


def runs_of(store: PromptStore, question: Question) -> list[dict[str, Any]]:
    """What became of the groups of each run, by the ledger: a row an outcome, reason and signal, and by arm."""
    wanted = store.runs.names() if question.run is None else [question.run]
    runs = {run.run_id: run for run in map(store.runs.get, wanted)}
    if not runs:
        return []
    views = {}
    condition = "where coalesce(prompts.split, 'train') = 'train'"
    if question.prompt_ids is not None:
        condition += " and prompt_id in (select wanted_id from asked)"
        views = {"asked": pa.table({"wanted_id": question.prompt_ids})}
    with store.connection.all_cores():
        rows = store.connection.arrow(_OUTCOMES.format(condition=condition), **views).to_pylist()
    found = []
    for run_id, run in runs.items():
        mine = [row for row in rows if row["run_id"] == run_id]
        found.append(
            {
                "run": run.name,
                "strategy": run.strategy,
                "group_size": run.parameters.get("group_size"),
                "outcomes": _outcomes(mine),
                "arms": _arms(mine),
                **_sums([row for row in mine if _counts(row)]),
            }
        )
    return found


def _counts(row: dict[str, Any]) -> bool:
    """Whether a row is of groups that were handed out to train on, and are done."""
    return row["outcome"] in ("trained", "dropped", "lost")


def _useless(row: dict[str, Any]) -> bool:
    """Whether nothing was learned from these groups: without signal, thrown away, or never come."""
    return row["outcome"] != "trained" or not row["signal"]


def _sums(rows: list[dict[str, Any]]) -> dict[str, Any]:
    wasted = [row for row in rows if _useless(row)]
    return {
        "groups": sum(row["groups"] for row in rows),
        "wasted": sum(row["groups"] for row in wasted),
        "responses": sum(row["responses"] for row in rows),
        "responses_wasted": sum(row["responses"] for row in wasted),
        "tokens": sum(row["tokens"] for row in rows),
        "tokens_wasted": sum(row["tokens"] for row in wasted),
        "with_tokens": sum(row["n_tokens"] for row in rows),
    }


def _outcomes(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows put together by what happened, the most frequent first."""
    often: dict[str, int] = {}
    for row in rows:
        often[row["reason"]] = often.get(row["reason"], 0) + row["groups"]
    shown = set(sorted(often, key=lambda reason: (-often[reason], reason))[:_REASONS])
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in rows:
        reason = row["reason"] if row["reason"] in shown else "other reasons"
        signal = "yes" if row["signal"] else "no" if row["whole"] else "–"
        key = (_NAMES[row["outcome"]], reason, signal)
        at = found.setdefault(
            key,
            {
                "outcome": key[0],
                "reason": reason,
                "signal": signal,
                "wasted": _counts(row) and _useless(row),
                **dict.fromkeys(("groups", "responses", "missing", "tokens", "with_tokens"), 0),
            },
        )
        for name, column in (("groups", "groups"), ("responses", "responses"), ("missing", "missing")):
            at[name] += row[column]
        at["tokens"] += row["tokens"]
        at["with_tokens"] += row["n_tokens"]
    return sorted(found.values(), key=lambda each: (each["wasted"], -each["groups"], each["outcome"], each["reason"]))


def _arms(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = sorted({row["arm"] for row in rows if _counts(row)})
    return [{"arm": name, **_sums([row for row in rows if row["arm"] == name and _counts(row)])} for name in names]
