"""``curri plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from curri.cli._options import DEFAULT_STORE, DebugOption, JsonOption, ModelOption, StoreOption, opened
from curri.cli._output import document, say, table, write_line
from curri.cli._where import SqlWhereOption, WhereOption, in_sql, matching

if TYPE_CHECKING:
    from curri.planning import Group, Plan, StorePlan


def plan(
    sizes: Annotated[
        list[str] | None,
        typer.Option(
            "-n", "--number", metavar="SIZES", help="Group sizes to compare, such as 4,8,16.", show_default="2,4,8,…,64"
        ),
    ] = None,
    live: Annotated[
        float | None,
        typer.Option("--live", help="Find the smallest group of which this share has signal, such as 0.5."),
    ] = None,
    pass_rate: Annotated[
        list[str] | None,
        typer.Option("--pass-rate", metavar="RATES", help="Prompts of these pass rates, such as 0.1,0.5; no store."),
    ] = None,
    where: WhereOption = None,
    sql_where: SqlWhereOption = None,
    model: ModelOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show how many responses a group should have: what share teaches something, and what the rest costs.

    A group has signal (is live) if some of its responses are right and some wrong.
    """
    from curri.planning import LARGEST, SIZES, plan_rate
    from curri.planning import plan as plan_store

    wanted = SIZES if sizes is None else tuple(_numbers(sizes, "-n", int))
    if live is not None and not 0.0 < live < 1.0:
        raise typer.BadParameter(f"--live must lie between 0 and 1, such as 0.5; got {live}")
    if pass_rate is not None:
        if where is not None or sql_where is not None or model is not None:
            raise typer.BadParameter("--pass-rate needs no store: leave out --where, --sql-where and --model")
        rates = [plan_rate(rate, wanted, live=live) for rate in _numbers(pass_rate, "--pass-rate", float)]
        _answer_rates(rates, live, LARGEST, as_json=as_json)
        return
    chosen = in_sql(store, where, sql_where, model)
    with opened(store, read_only=True) as opened_store:
        name = opened_store.rollouts.evidence_model(model)
        ids = matching(opened_store, where, name) if chosen is None else chosen
        found = plan_store(opened_store, wanted, live=live, model=model, prompt_ids=ids)
    if as_json:
        document(found.document())
    else:
        _show(found, LARGEST)


def _numbers(texts: list[str], option: str, kind: type[Any]) -> list[Any]:
    """Numbers, separated by commas or given one by one."""
    words = [word.strip() for text in texts for word in text.split(",")]
    try:
        return [kind(word) for word in words]
    except ValueError:
        example = "4,8,16" if kind is int else "0.1,0.5"
        raise typer.BadParameter(f'{option} must be numbers such as {example}; got "{",".join(texts)}"') from None


# ---- one pass rate --------------------------------------------------------------------------------------------------


def _answer_rates(plans: list[Plan], live: float | None, largest: int, *, as_json: bool) -> None:
    if as_json:
        import dataclasses

        keys = ("pass_rate", "groups", "smallest", "bound")
        rates = [{key: dataclasses.asdict(each)[key] for key in keys} for each in plans]
        document({"wanted": live, "largest": largest, "rates": rates})
        return
    rows = [[f"{each.pass_rate:.4g}", *_row(group)] for each in plans for group in each.groups]
    _write_table(["pass rate", *_GROUP], rows)
    for each in plans:
        if live is not None:
            write_line(f"pass rate {each.pass_rate:.4g}: {_smallest(each, live, largest)}")


# ---- a store --------------------------------------------------------------------------------------------------------


def _show(found: StorePlan, largest: int) -> None:
    whole = found.together
    if not any(arm.prompts for arm in found.arms):
        say("there are no prompts that may be picked, or the filter is true of none; curri prompts list shows them")
        return
    if not whole.tried:
        say(
            "nothing is known of these prompts: curri rollouts import FILE --model NAME brings in responses",
            "for a pass rate that you know or guess: curri plan --pass-rate 0.1",
        )
        return
    tokens = whole.tokens is not None
    headings = [*_GROUP, *(_TOKENS if tokens else [])]
    _write_table(headings, [[*_row(group), *(_token_row(group) if tokens else [])] for group in whole.groups])
    if found.wanted is not None:
        write_line("")
        write_line(_smallest(whole, found.wanted, largest))
    write_line("")
    headings = ["arm", "prompts", "tried", "solved", "right", "wrong", *(f"n = {group.n}" for group in whole.groups)]
    more = [] if found.wanted is None else [f"{found.wanted:.4g} live"]
    _write_table([*headings, *more], [_arm_row(each, whole, found.wanted, largest) for each in found.arms])
    say(
        "",
        f"{'responses' if found.source == 'rollouts' else 'imported pass rates'} of {found.model}; {_LEGEND}",
        *(f"note: {note}" for note in found.notes),
    )


def _arm_row(arm: Plan, whole: Plan, wanted: float | None, largest: int) -> list[object]:
    shares = [_percent(group.live) for group in arm.groups] or ["-"] * len(whole.groups)
    known = [_percent(share) for share in (arm.pass_rate, arm.always_right, arm.always_wrong)]
    row: list[object] = [arm.name, arm.prompts, arm.tried, *known, *shares]
    if wanted is None:
        return row
    none = "-" if arm.bound is None else f"none; {arm.bound:.1%} at {largest:,}"
    return [*row, none if arm.smallest is None else f"n = {arm.smallest:,}"]


# ---- both -----------------------------------------------------------------------------------------------------------

_GROUP = ["n", "live", "waste", "responses per live group"]
_TOKENS = ["tokens per live group", "waste of tokens"]
_LEGEND = "right, wrong: tried prompts that always were so; n = …: share of groups of n that are live"


def _row(group: Group) -> list[object]:
    return [group.n, _percent(group.live), _percent(group.waste), _cost(group.responses_per_live)]


def _token_row(group: Group) -> list[object]:
    return [_cost(group.tokens_per_live), _percent(group.waste_tokens)]


def _smallest(plan: Plan, wanted: float, largest: int) -> str:
    """Which group reaches the wanted share, or why none does."""
    if plan.smallest is not None:
        return f"{wanted:.4g} live: groups of {plan.smallest:,} or more"
    said = f"{wanted:.4g} live: no group of up to {largest:,} responses gets there"
    if plan.pass_rate in (0.0, 1.0):
        said += f", because all responses are {'right' if plan.pass_rate else 'wrong'}"
    elif plan.responses:
        wrong, right = f"{plan.always_wrong:.1%}", f"{plan.always_right:.1%}"
        said += f" ({wrong} of the tried prompts were wrong every time, {right} right every time)"
    return f"{said}; {largest:,} would give {plan.bound:.2%}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:6.1%}"


def _cost(number: float | None) -> float | None:
    if number is None or number == float("inf"):
        return None
    return round(number, 1) if number < 100 else round(number)


def _write_table(headings: list[str], rows: list[list[object]]) -> None:
    for line in table(headings, rows):
        write_line(line)
