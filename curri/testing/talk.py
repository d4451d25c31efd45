"""Checks: what a strategy says of itself."""

from __future__ import annotations

import json
import math

from curri.errors import UnknownPrompt
from curri.testing.case import Case, expect, promise, refused
from curri.testing.scenario import expect_same_state, experienced, play


@promise()
def check_metrics(case: Case) -> None:
    """Metrics are finite floats named ``curriculum/<strategy>/…``, count the rounds, and change nothing."""
    for rounds in (0, 3):
        curriculum = experienced(case, rounds)
        before = curriculum.state_dict()
        metrics = curriculum.metrics()
        start = f"curriculum/{curriculum.name}/"
        for name, value in metrics.items():
            expect(name.startswith(start) and len(name) > len(start), f"the metric {name!r} must start with {start!r}")
            expect(type(value) is float and math.isfinite(value), f"the metric {name!r} is {value!r}")
        for name in ("rounds_asked", "rounds_closed"):
            expect(metrics[start + name] == rounds, f"{name} is {metrics[start + name]} after {rounds} rounds")
        expect_same_state(curriculum.state_dict(), before, "after metrics")


@promise()
def check_explain(case: Case) -> None:
    """``explain`` says of every prompt, picked or not, retired or not, what is known: JSON, and it changes nothing."""
    curriculum = experienced(case)
    curriculum.extend(curriculum.pool.retired(curriculum.pool.ids[:2]).extended([9000], ["arm new"]))
    play(curriculum, 2)
    before = curriculum.state_dict()
    for row, prompt_id in enumerate(curriculum.pool.ids.tolist()):
        known = curriculum.explain(prompt_id)
        again = json.loads(json.dumps(known, allow_nan=False))
        expect(again == known, f"explain({prompt_id}) is not plain JSON: {known}")
        expect(known["prompt_id"] == prompt_id, f"explain({prompt_id}) speaks of {known['prompt_id']}")
        expect(known["active"] == bool(curriculum.pool.active[row]), f"explain({prompt_id}): active is wrong")
        expect(known["arm"] in curriculum.pool.arm_names, f"explain({prompt_id}) names the arm {known['arm']!r}")
    refused("explain of an unknown id", UnknownPrompt, lambda: curriculum.explain(10**9))
    expect_same_state(curriculum.state_dict(), before, "after explain")
