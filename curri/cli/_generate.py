"""``curri rollouts generate``."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curri.cli._group import EXIT_PARTLY, EXIT_REFUSED
from curri.cli._options import DEFAULT_STORE, DebugOption, JsonOption, StoreOption, opened
from curri.cli._output import count, document, progress, say, table
from curri.cli._where import WhereOption, matching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from curri.rollouts import AdaptiveCost, Elimination, GenerationProgress, GenerationReport
    from curri.store import PromptStore
    from curri.types import Engine, Ints

_ADAPTIVE = "reinforce-ada"
_GROUP_SIZE = {None: 8, _ADAPTIVE: 4}

_SAMPLING = "Sampling"
_SERVER = "A server (--engine openai)"
_LOCAL = "A model in this process (--engine vllm or simulated)"
_HOW_MANY = "How many"


def generate(
    engine: Annotated[
        str,
        typer.Option("--engine", help="openai (any OpenAI-compatible server), vllm, or simulated.", show_default=False),
    ],
    model: Annotated[
        str,
        typer.Option("--model", help="The model: what the server calls it, a folder, or org/name.", show_default=False),
    ],
    verifier: Annotated[
        list[str] | None,
        typer.Option(
            "--verifier",
            help="What scores responses, such as math, numeric:tolerance=1e-3 or python:module:function; may be "
            "repeated, with weights: math@0.8.",
            show_default="gym for prompts of reasoning-gym, else math",
        ),
    ] = None,
    where: WhereOption = None,
    split: Annotated[str, typer.Option("--split", help="The split that prompts are taken from.")] = "train",
    n: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--number",
            min=1,
            help=f"Responses of each prompt; with --strategy {_ADAPTIVE}, the size of a group.",
            show_default="8; 4 with a strategy",
            rich_help_panel=_HOW_MANY,
        ),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy",
            "-s",
            help=f"{_ADAPTIVE}: draw in rounds, and more only for prompts that are not decided yet.",
            show_default="the same number for every prompt",
            rich_help_panel=_HOW_MANY,
        ),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            "-p",
            metavar="NAME=VALUE",
            help="Of the strategy: round_size, max_rounds, exit or positive_threshold; may be repeated.",
            rich_help_panel=_HOW_MANY,
        ),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(
            "--budget",
            min=1,
            metavar="TOKENS",
            help="Generate at most so many tokens.",
            show_default="no limit",
            rich_help_panel=_HOW_MANY,
        ),
    ] = None,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0.0, help="0 is greedy.", rich_help_panel=_SAMPLING)
    ] = 1.0,
    top_p: Annotated[
        float, typer.Option("--top-p", help="Nucleus sampling; 1 keeps all tokens.", rich_help_panel=_SAMPLING)
    ] = 1.0,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, help="Tokens of a response at most.", rich_help_panel=_SAMPLING)
    ] = 1024,
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", help="A text that ends a response; may be repeated.", rich_help_panel=_SAMPLING),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(
            "--system",
            help="A system message, for prompts that have none. @FILE reads it from a file.",
            rich_help_panel=_SAMPLING,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Another seed draws other responses.", rich_help_panel=_SAMPLING)
    ] = 0,
    other: Annotated[
        list[str] | None,
        typer.Option(
            "--sampling",
            metavar="NAME=VALUE",
            help="Another sampling parameter of the engine, such as top_k=20; may be repeated.",
            rich_help_panel=_SAMPLING,
        ),
    ] = None,
    api: Annotated[
        str,
        typer.Option(
            "--api", help="chat (through the chat template) or completions (as it is).", rich_help_panel=_SAMPLING
        ),
    ] = "chat",
    url: Annotated[
        str | None,
        typer.Option("--url", help="Where the API is: http://localhost:8000/v1.", rich_help_panel=_SERVER),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", min=1, help="Requests at a time.", show_default="32", rich_help_panel=_SERVER),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", min=0.001, help="Seconds to wait for one reply.", show_default="300", rich_help_panel=_SERVER
        ),
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            "--deadline",
            min=0.001,
            help="Seconds for a request with all its retries.",
            show_default="900",
            rich_help_panel=_SERVER,
        ),
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option(
            "--retries", min=0, help="How often a request is sent again.", show_default="6", rich_help_panel=_SERVER
        ),
    ] = None,
    key_variable: Annotated[
        str | None,
        typer.Option(
            "--key-variable",
            help="The environment variable with the API key, which is never stored or shown.",
            show_default="OPENAI_API_KEY, over https or to this machine",
            rich_help_panel=_SERVER,
        ),
    ] = None,
    tensor_parallel: Annotated[
        int | None,
        typer.Option(
            "--tensor-parallel",
            min=1,
            help="GPUs to spread the model over.",
            show_default="1",
            rich_help_panel=_LOCAL,
        ),
    ] = None,
    lora: Annotated[
        str | None, typer.Option("--lora", help="Folder of a LoRA adapter.", rich_help_panel=_LOCAL)
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--engine-option",
            metavar="NAME=VALUE",
            help="Of vllm.LLM, such as max_model_len=4096, or of the simulation, such as ability=1; may be repeated.",
            rich_help_panel=_LOCAL,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="What stored rollouts call the model.", show_default="what --model says"),
    ] = None,
    weight_version: Annotated[
        str | None,
        typer.Option(
            "--weight-version",
            help="Which weights these are: rollouts of others are not theirs.",
            show_default="found out for a folder or a hub model, else empty",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch",
            min=1,
            help="Responses that may be asked for and not yet stored: what is lost at most.",
            show_default="4096, or 96 times --concurrency",
        ),
    ] = None,
    verify_timeout: Annotated[
        float, typer.Option("--verify-timeout", min=0.001, help="Seconds that scoring one response may take.")
    ] = 10.0,
    logprobs: Annotated[bool, typer.Option("--logprobs", help="Store the log probability of every token too.")] = False,
    token_ids: Annotated[bool, typer.Option("--token-ids", help="Store token ids too.")] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Generate responses, score and store them. What is in the store is not paid for again.

    A response is known by prompt, model, weight version, sampling settings, verifier and number: asking for 8 where 5
    are there generates 3, and another verifier scores what is there. Stopped in any way, the same command goes on.
    """
    from curri.rollouts import ENGINES, VerifierPool
    from curri.rollouts import generate as run
    from curri.rollouts.generation import BATCH, PARTS
    from curri.types import Sampling

    if engine not in ENGINES:
        raise typer.BadParameter(f"--engine must be one of {', '.join(ENGINES)}; got {engine}")
    most = batch or max(BATCH, 32 * PARTS * (concurrency or 0))
    given = {
        "url": url,
        "concurrency": concurrency,
        "timeout": timeout,
        "deadline": deadline,
        "retries": retries,
        "key_variable": key_variable,
        "tensor_parallel_size": tensor_parallel,
        "lora": lora,
        "options": _pairs("--engine-option", option),
        "label": name,
        "weight_version": weight_version,
        "api": api,
        "batch": max(most // PARTS, 1),
    }
    sampling = Sampling(
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        stop=tuple(stop or ()),
        system=_text("--system", system),
        seed=seed,
        other=_pairs("--sampling", other),
        logprobs=logprobs,
        token_ids=token_ids,
    )
    elimination = _elimination(strategy, parameter)
    with (
        opened(store) as opened_store,
        contextlib.closing(_engine(engine, model, given)) as made,
        _talk_apart(engine),
    ):
        ids = _prompts(opened_store, where, split, made.model)
        spec = verifier or _default_verifier(opened_store, ids)
        with VerifierPool(spec, time_limit=verify_timeout) as pool, progress("generate", quiet=as_json) as update:
            report = run(
                opened_store,
                made,
                pool,
                prompt_ids=ids,
                n=n or _GROUP_SIZE[strategy],
                sampling=sampling,
                elimination=elimination,
                budget=budget,
                batch=most,
                progress=_shown(update),
            )
    if as_json:
        document(_as_dict(report))
    else:
        _tell(report)
    if not report.complete:
        raise typer.Exit(EXIT_PARTLY if report.cached or report.generated else EXIT_REFUSED)


# ---- what was asked for ---------------------------------------------------------------------------------------------


def _engine(engine: str, model: str, given: dict[str, Any], flag: str = "--engine") -> Engine:
    """The engine that an option, ``flag``, has named; options that are not its own are refused."""
    from curri.rollouts import OpenAIEngine, SimulatedEngine, VLLMEngine

    own = {
        "openai": ("url", "concurrency", "timeout", "deadline", "retries", "key_variable", "weight_version", "batch"),
        "vllm": ("tensor_parallel_size", "lora", "options", "weight_version", "batch"),
        "simulated": ("options",),
    }
    for name in {name for names in own.values() for name in names} - {*own[engine], "batch"}:
        if given[name]:
            option = {"options": "engine-option", "tensor_parallel_size": "tensor-parallel"}.get(name, name)
            raise typer.BadParameter(f"--{option.replace('_', '-')} has no meaning for {flag} {engine}")
    mine = {name: given[name] for name in own[engine] if given[name] is not None and name not in ("url", "options")}
    options = given["options"] if "options" in own[engine] else {}
    shared = {name: given[name] for name in ("label", "api")}
    try:
        if engine == "simulated":
            return SimulatedEngine(given["label"] or model, **options)
        if engine == "vllm":
            return VLLMEngine(model, **shared, **mine, **options)
    except TypeError as error:
        raise typer.BadParameter(f"--engine-option: {error}") from None
    if not given["url"]:
        raise typer.BadParameter(f"{flag} openai needs --url, such as --url http://localhost:8000/v1")
    return OpenAIEngine(model, given["url"], **shared, **mine)


def _pairs(option: str, words: list[str] | None) -> dict[str, Any]:
    """What NAME=VALUE options say; values are JSON where they can be, else texts."""
    found: dict[str, Any] = {}
    for word in words or []:
        name, equals, text = word.partition("=")
        if not equals or not name.isidentifier():
            raise typer.BadParameter(f'{option} must be NAME=VALUE, such as top_k=20; got "{word}"')
        if name in found:
            raise typer.BadParameter(f"{option} names {name} twice")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _text(option: str, given: str | None) -> str | None:
    from pathlib import Path

    if given is None or not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{option} cannot read {given[1:]}: {error}") from None


def _elimination(strategy: str | None, parameter: list[str] | None) -> Elimination | None:
    if strategy is None:
        if parameter:
            raise typer.BadParameter(f"--param belongs to a strategy: --strategy {_ADAPTIVE}")
        return None
    if strategy != _ADAPTIVE:
        raise typer.BadParameter(f"--strategy must be {_ADAPTIVE} here; got {strategy}")
    from curri.parameters import declared
    from curri.registry import strategy as strategy_class
    from curri.rollouts import Elimination

    names = {"round_size": "round_size", "max_rounds": "max_rounds", "exit": "exit", "positive_threshold": "threshold"}
    owner = strategy_class(_ADAPTIVE)
    known = declared(owner)
    values = {ours: known[theirs].default for theirs, ours in names.items()}
    for word in parameter or []:
        name, equals, text = word.partition("=")
        if not equals or name not in names:
            raise typer.BadParameter(f'--param must be NAME=VALUE, with a name of {", ".join(names)}; got "{word}"')
        values[names[name]] = known[name].parsed(text, name=name, owner=owner.__name__)
    return Elimination(**values)


def _prompts(store: PromptStore, where: str | None, split: str, model: str) -> Ints:
    """Prompts of a split that are not retired, and that a filter is true of."""
    import numpy as np

    from curri.errors import InvalidInput

    table_ = store.connection.arrow(
        "select prompt_id from prompts where not retired and coalesce(split, 'train') = ? order by 1", [split]
    )
    ids: Ints = table_.column(0).to_numpy()
    known = store.rollouts.all_models()
    wanted = matching(store, where, model if model in known else None)
    ids = ids if wanted is None else np.intersect1d(ids, wanted)
    if not ids.size:
        raise InvalidInput(
            f'no prompt of the split "{split}" is to be generated for: none is there that is not retired'
            + ("" if where is None else " and matches --where"),
            hint="curri prompts list shows what is there",
        )
    return ids


def _default_verifier(store: PromptStore, ids: Ints) -> str:
    import pyarrow as pa

    found = store.connection.arrow(
        """select bool_and(json_extract(nullif(metadata, ''), '$.gym') is not null) as gym
           from asked join prompts on prompt_id = id""",
        asked=pa.table({"id": ids}),
    )
    spec = "gym" if found.column("gym")[0].as_py() else "math"
    say(f"scored by {spec} (--verifier names another)")
    return spec


@contextlib.contextmanager
def _talk_apart(engine: str) -> Iterator[None]:
    """Send to standard error what libraries of an engine in this process write to standard output."""
    if engine != "vllm":
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


# ---- what is said ---------------------------------------------------------------------------------------------------


def _shown(update: Callable[[int, int | None, str], None]) -> Callable[[GenerationProgress], None]:
    def show(at: GenerationProgress) -> None:
        seconds = max(at.seconds, 1e-9)
        if at.rescoring:
            update(at.done, at.total, f"{count(at.done, 'stored rollout')} scored anew, {at.done / seconds:,.1f}/s")
            return
        rates = f"{at.generated / seconds:,.1f} rollouts/s, {at.tokens / seconds:,.0f} tokens/s"
        update(at.done, at.total, f"{count(at.generated, 'rollout')}, {rates}")

    return show


def _tell(report: GenerationReport) -> None:
    version = f", weights {report.source.weight_version}" if report.source.weight_version else ""
    say(f"{report.source.model}{version}: {count(report.prompts, 'prompt')}, {report.wanted:,} rollouts wanted")
    say(*(f"  {line}" for line in _facts(report)))
    if report.adaptive is not None:
        _tell_cost(report.adaptive)
    if report.stopped is not None:
        say(f"stopped: {report.stopped.message}")
        if report.stopped.hint:
            say(f"  hint: {report.stopped.hint}")
    if not report.complete:
        say("what was generated is stored; the same command goes on with the rest")


def _facts(report: GenerationReport) -> Iterator[str]:
    if report.cached:
        yield f"{report.cached:,} were there: {count(report.tokens_saved, 'token')} not paid for again"
    if report.rescored:
        yield f"{report.rescored:,} of them were scored by {report.source.verifier} now; that took no generating"
    if report.generated:
        seconds = max(report.seconds, 1e-9)
        yield (
            f"{report.generated:,} generated in {seconds:,.1f} s, {count(report.tokens, 'token')}: "
            f"{report.generated / seconds:,.1f} rollouts/s, {report.tokens / seconds:,.0f} tokens/s"
        )
        yield f"{report.truncated:,} of them truncated at the length limit"
    for reason, number in report.failed.items():
        yield f"{number:,} failed: {reason}"
    for status, number in report.unscored.items():
        yield f"{number:,} without a score: {status}; they are kept, and are no evidence"
    if report.budget is not None:
        yield f"{report.tokens:,} of {count(report.budget, 'token')} of the budget spent"
    if report.left:
        yield f"{report.left:,} were not tried"


def _tell_cost(cost: AdaptiveCost) -> None:
    rows = [
        ["successive elimination", cost.rollouts, cost.with_signal, _each(cost.rollouts, cost.with_signal)],
        [
            f"fixed n = {cost.fixed_n} (the first round)",
            cost.fixed_n * cost.prompts,
            cost.fixed_with_signal,
            _each(cost.fixed_n * cost.prompts, cost.fixed_with_signal),
        ],
        [f"fixed n = {cost.most} (as many chances)", cost.most * cost.prompts, None, None],
    ]
    headings = ["", "rollouts", "prompts with signal", "rollouts each"]
    say(f"  {count(cost.prompts, 'prompt')} drawn for, {cost.resolved:,} of them decided:")
    say(*(f"  {line}" for line in table(headings, rows)))


def _each(rollouts: int, prompts: int) -> float | None:
    return rollouts / prompts if prompts else None


def _as_dict(report: GenerationReport) -> dict[str, Any]:
    import dataclasses

    source = report.source
    stopped = report.stopped
    return {
        "engine": report.engine,
        "model": source.model,
        "weight_version": source.weight_version,
        "settings": json.loads(source.settings),
        "verifier": source.verifier,
        **{
            name: getattr(report, name)
            for name in (
                "prompts",
                "wanted",
                "cached",
                "rescored",
                "generated",
                "tokens",
                "tokens_saved",
                "truncated",
                "failed",
                "unscored",
                "left",
                "budget",
                "seconds",
                "complete",
            )
        },
        "stopped": stopped and {"code": stopped.code, "message": stopped.message, "hint": stopped.hint},
        "adaptive": report.adaptive and dataclasses.asdict(report.adaptive),
    }
