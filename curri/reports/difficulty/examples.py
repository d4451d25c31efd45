"""Prompts to look at: the most informative, the hardest and the easiest ones."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curri.reports.blocks import visible
from curri.reports.wording import WIDTH

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from curri.reports.difficulty.summary import Summary
    from curri.store import PromptStore
    from curri.types import Bools, Floats, Ints

__all__ = ["contrasted", "examples_of", "texts_of"]

INFORMATIVE, EXTREME = 20, 10
LONGEST = 110
"""Characters of a prompt that are shown."""
_READ = 2000
_SPACE = re.compile(r"[\s\x85\u2028\u2029]+")


def examples_of(summary: Summary) -> dict[str, list[dict[str, Any]]]:
    """Rows for the three tables; a prompt is hardest or easiest only where more failed, or succeeded, than not."""
    evidence = summary.evidence
    known = summary.counted & (evidence.known > 0)
    mean = summary.posteriors.mean
    return {
        "informative": _rows(summary, summary.counted, -summary.live, INFORMATIVE),
        "hardest": _rows(summary, known & (mean < 0.5), mean, EXTREME),
        "easiest": _rows(summary, known & (mean > 0.5), -mean, EXTREME),
    }


def _rows(summary: Summary, wanted: Bools, score: Floats, most: int) -> list[dict[str, Any]]:
    rows = np.flatnonzero(wanted)
    order = rows[np.lexsort((rows, -summary.evidence.responses[rows], score[rows].round(12)))]
    return [_row(summary, row) for row in order[:most].tolist()]


def _row(summary: Summary, row: int) -> dict[str, Any]:
    evidence, pool = summary.evidence, summary.evidence.pool
    known = bool(evidence.known[row] > 0)
    return {
        "prompt_id": int(pool.ids[row]),
        "arm": pool.arm_names[pool.arms[row]],
        "responses": int(evidence.responses[row]),
        "pass_rate": float(evidence.rate[row]),
        "mean_reward": float(evidence.mean_reward[row]),
        "estimate": float(summary.posteriors.mean[row]) if known else None,
        "half": float(WIDTH * summary.posteriors.std[row]) if known else None,
        "live": float(summary.live[row]),
        "tokens": float(evidence.tokens[row] / evidence.n_tokens[row]) if evidence.n_tokens[row] else None,
    }


def texts_of(store: PromptStore, prompt_ids: Iterable[int], longest: int = LONGEST) -> dict[str, dict[str, Any]]:
    """Beginnings of prompts and users' own ids, by prompt id as a text; nothing in them can steer a screen."""
    wanted: Ints = np.unique(np.fromiter(prompt_ids, dtype=np.int64))
    found = store.connection.arrow(
        f"""select prompt_id, case when is_chat then prompt else left(prompt, {_READ}) end as prompt, is_chat,
               left(external_id, 200) as external_id
           from prompts join asked on prompt_id = wanted_id order by 1""",  # noqa: S608  a number of ours
        asked=pa.table({"wanted_id": wanted}),
    )
    return {
        str(row["prompt_id"]): {
            "text": shortened(_said(row["prompt"]) if row["is_chat"] else row["prompt"], longest),
            "id": None if row["external_id"] is None else shortened(row["external_id"], 60),
        }
        for row in found.to_pylist()
    }


def _said(chat: str) -> str:
    """What is said in chat messages, each behind its role."""
    messages = json.loads(chat)
    return " ".join(f"[{each.get('role', '')}] {_content(each.get('content'))}" for each in messages)


def _content(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def contrasted(store: PromptStore, prompt_ids: Sequence[int]) -> list[str]:
    """Two prompts, from shortly before the place where their texts part."""
    texts = texts_of(store, prompt_ids, _READ)
    first, second = (texts[str(each)]["text"] for each in prompt_ids)
    same = next((at for at, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), 0)
    begin = 0 if same < LONGEST // 2 else first.rfind(" ", 0, same - LONGEST // 4) + 1
    return [("…" if begin else "") + shortened(text[begin:]) for text in (first, second)]


def shortened(text: str, longest: int = LONGEST) -> str:
    r"""The beginning of a text on one line, with what controls a screen written out.

    >>> shortened("a\n b\x00", 10), shortened("abcdef", 4)
    ('a b\\u0000', 'abc…')
    """
    line = visible(_SPACE.sub(" ", text)).strip()
    return line if len(line) <= longest else line[: longest - 1] + "…"
