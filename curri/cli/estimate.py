"""``curri estimate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curri.cli._options import DEFAULT_STORE, DebugOption, JsonOption, ModelOption, StoreOption, opened
from curri.cli._output import count, document, say, table, write_line
from curri.cli._where import SqlWhereOption, WhereOption, in_sql, matching

if TYPE_CHECKING:
    from polars import DataFrame

# Column of the table of arms → its heading on a screen; --json has all columns.
_HEADINGS = {
    "arm": "arm",
    "prompts": "prompts",
    "prompts_rolled_out": "tried",
    "responses": "responses",
    "mean_reward": "mean_reward",
    "pass_rate": "solved",
    "live_share": "live",
    "always_right": "right",
    "always_wrong": "wrong",
}
_PLAIN = ("arm", "prompts", "prompts_rolled_out", "responses", "mean_reward")
_LEGEND = (
    "tried: prompts with rollouts; solved: share of right answers; right, wrong: tried prompts that always were so",
    "live: share of groups of 8 expected to have both, and so to teach something; --json and --per-prompt have more",
)


def estimate(
    where: WhereOption = None,
    sql_where: SqlWhereOption = None,
    model: ModelOption = None,
    per_prompt: Annotated[
        bool, typer.Option("--per-prompt", help="One row a prompt, as JSON Lines, instead of a table of arms.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write JSON Lines to this file (- for standard output).")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show how hard the prompts are for a model, arm by arm."""
    from curri.analysis import estimate as by_arm
    from curri.analysis import estimate_priors, estimate_prompts, with_priors
    from curri.exchange import write_jsonl

    chosen = in_sql(store, where, sql_where, model)
    with opened(store, read_only=True) as opened_store:
        name = opened_store.rollouts.evidence_model(model)
        wanted = matching(opened_store, where, name) if chosen is None else chosen
        if per_prompt:
            found = with_priors(opened_store, estimate_prompts(opened_store, name, wanted))
        else:
            found = by_arm(opened_store, name, prompt_ids=wanted)
        priors = estimate_priors(opened_store, wanted)
    if output is not None and str(output) != "-":
        n_rows = write_jsonl(found.to_dicts(), output)
        say(f"wrote {count(n_rows, 'row')} to {output}")
    if as_json:
        rows = None if output is not None and str(output) != "-" else found.to_dicts()
        document({"model": name, "rows": rows, "priors": priors, "output": None if output is None else str(output)})
    elif output is None and not per_prompt:
        _show(found, name, priors)
    elif output is None or str(output) == "-":
        write_jsonl(found.to_dicts(), "-")


def _show(found: DataFrame, model: str | None, priors: list[dict[str, Any]]) -> None:
    if model is None:
        say("the store has no rollouts yet; bring some in: curri rollouts import FILE --model NAME")
    rows = [[row[name] if name in _PLAIN else _percent(row[name]) for name in _HEADINGS] for row in found.to_dicts()]
    headings = list(_HEADINGS.values())
    for number, prior in enumerate(priors, start=1):
        rates = {row["arm"]: row["pass_rate"] for row in prior["arms"]}
        headings.append("prior" if len(priors) == 1 else f"prior {number}")
        rows = [[*row, _percent(rates.get(str(row[0])))] for row in rows]
    for line in table(headings, rows):
        write_line(line)
    if model is not None:
        say("", f"rollouts of {model}", *_LEGEND)
    for heading, prior in zip(headings[len(_HEADINGS) :], priors, strict=True):
        prompts, responses = (sum(row[key] for row in prior["arms"]) for key in ("prompts", "responses"))
        used = ", which strategies go by" if prior["in_use"] else ""
        files = ", ".join(prior["sources"])
        known = f"{count(responses, 'response')} to {count(prompts, 'prompt')}"
        say(f"{heading}: pass rate of {prior['model']}{used}: {known}, imported from {files}")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:6.1%}"
