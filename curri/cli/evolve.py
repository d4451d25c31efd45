"""``curri evolve``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curri.cli import _completion
from curri.cli._generate import _engine, _pairs, _talk_apart
from curri.cli._group import EXIT_PARTLY
from curri.cli._options import DEFAULT_STORE, DebugOption, JsonOption, StoreOption, opened
from curri.cli._output import count, document, progress, say, table
from curri.cli._where import WhereOption, matching

if TYPE_CHECKING:
    from collections.abc import Iterator

    from curri.evolution import EvolutionReport
    from curri.store import PromptStore
    from curri.types import Creator, Ints

_CREATORS = ("openai", "vllm", "gym")
_STRATEGIES = ("eva", "uniform")
_SHARE = 0.25
_SHOWN = 20

_WHICH = "Which prompts are evolved"
_HOW = "How"
_CHECKS = "Checks (--creator openai or vllm)"
_MODEL = "The model (--creator openai or vllm)"


def evolve(
    creator: Annotated[
        str,
        typer.Option(
            "--creator",
            help="openai or vllm: a language model rewrites; gym: reasoning-gym makes harder tasks.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="The model: what the server calls it, a folder, or org/name.", rich_help_panel=_MODEL
        ),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy",
            "-s",
            help="eva: those whose stored rollouts say that there is most to learn; uniform: any original.",
            show_default="eva",
            rich_help_panel=_WHICH,
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            help="By what this run of eva knows.",
            show_default="by the stored rollouts of a model",
            autocompletion=_completion.run_names,
            rich_help_panel=_WHICH,
        ),
    ] = None,
    rollouts_of: Annotated[
        str | None,
        typer.Option(
            "--rollouts-of",
            metavar="MODEL",
            help="Whose rollouts to go by; needed where the store has several models'.",
            rich_help_panel=_WHICH,
        ),
    ] = None,
    where: WhereOption = None,
    parents: Annotated[
        int | None,
        typer.Option(
            "--parents",
            min=1,
            help="How many prompts to evolve.",
            show_default="a quarter of those in question",
            rich_help_panel=_WHICH,
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="Children of each.", rich_help_panel=_HOW)] = 4,
    chain: Annotated[
        bool,
        typer.Option(
            "--chain/--no-chain",
            help="Each child is made out of the one before, or all out of the parent.",
            rich_help_panel=_HOW,
        ),
    ] = True,
    breadth: Annotated[
        float,
        typer.Option(
            "--breadth",
            min=0.0,
            max=1.0,
            help="Share of children that are another prompt of the kind, and not a harder one.",
            rich_help_panel=_HOW,
        ),
    ] = 0.2,
    max_generation: Annotated[
        int | None,
        typer.Option(
            "--max-generation", min=1, help="No child beyond it.", show_default="no limit", rich_help_panel=_HOW
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of everything random.", rich_help_panel=_HOW)] = 0,
    verifier: Annotated[
        list[str] | None,
        typer.Option(
            "--verifier",
            help="What will score responses to the children; it must be able to read their answers. May be repeated.",
            show_default="none: numbers and plain texts are compared",
            rich_help_panel=_CHECKS,
        ),
    ] = None,
    votes: Annotated[
        int | None,
        typer.Option(
            "--votes",
            min=0,
            help="How often the model solves each child; 0 trusts the answer it gave.",
            show_default="5; 0 with a verifier of yours",
            rich_help_panel=_CHECKS,
        ),
    ] = None,
    agreement: Annotated[
        float,
        typer.Option(
            "--agreement",
            min=0.0,
            max=1.0,
            help="Share of the solutions that must come to the answer.",
            rich_help_panel=_CHECKS,
        ),
    ] = 0.6,
    verify_timeout: Annotated[
        float,
        typer.Option(
            "--verify-timeout",
            min=0.001,
            help="Seconds that scoring one response may take.",
            rich_help_panel=_CHECKS,
        ),
    ] = 10.0,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0.0, help="0 is greedy.", rich_help_panel=_MODEL)
    ] = 0.9,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, help="Tokens of a reply at most.", rich_help_panel=_MODEL)
    ] = 1024,
    other: Annotated[
        list[str] | None,
        typer.Option(
            "--sampling",
            metavar="NAME=VALUE",
            help="Another sampling parameter of the engine, such as top_k=20; may be repeated.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    api: Annotated[
        str,
        typer.Option(
            "--api", help="chat (through the chat template) or completions (as it is).", rich_help_panel=_MODEL
        ),
    ] = "chat",
    url: Annotated[
        str | None,
        typer.Option("--url", help="Where the API is: http://localhost:8000/v1.", rich_help_panel=_MODEL),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", min=1, help="Requests at a time.", show_default="32", rich_help_panel=_MODEL),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", min=0.001, help="Seconds to wait for one reply.", show_default="300", rich_help_panel=_MODEL
        ),
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            "--deadline",
            min=0.001,
            help="Seconds for a request with all its retries.",
            show_default="900",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option(
            "--retries", min=0, help="How often a request is sent again.", show_default="6", rich_help_panel=_MODEL
        ),
    ] = None,
    key_variable: Annotated[
        str | None,
        typer.Option(
            "--key-variable",
            help="The environment variable with the API key, which is never stored or shown.",
            show_default="OPENAI_API_KEY, over https or to this machine",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    tensor_parallel: Annotated[
        int | None,
        typer.Option(
            "--tensor-parallel", min=1, help="GPUs to spread the model over.", show_default="1", rich_help_panel=_MODEL
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--engine-option",
            metavar="NAME=VALUE",
            help="Of vllm.LLM, such as max_model_len=4096; may be repeated.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    batch: Annotated[
        int, typer.Option("--batch", min=1, help="Parents that are worked on, and written, together.")
    ] = 16,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be evolved; ask and store nothing.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Make new prompts out of stored ones, check them, and store what is left with its ancestry.

    Stopped in any way, the same command goes on; what it has stored is not asked for again.
    """
    if creator not in _CREATORS:
        raise typer.BadParameter(f"--creator must be one of {', '.join(_CREATORS)}; got {creator}")
    _check_which(creator, model, strategy, run)
    given = {
        "url": url,
        "concurrency": concurrency,
        "timeout": timeout,
        "deadline": deadline,
        "retries": retries,
        "key_variable": key_variable,
        "tensor_parallel_size": tensor_parallel,
        "lora": None,
        "options": _pairs("--engine-option", option),
        "label": None,
        "weight_version": None,
        "api": api,
        "batch": 1024,
    }
    checks = {"spec": verifier, "votes": votes, "agreement": agreement, "seconds": verify_timeout}
    drawing = {"temperature": temperature, "max_tokens": max_tokens, "other": _pairs("--sampling", other)}
    how = {"per_parent": n, "chain": chain, "seed": seed, "max_generation": max_generation}
    with opened(store, read_only=dry_run) as opened_store:
        ids = _parents(opened_store, strategy, run, rollouts_of, where=where, n=parents, seed=seed)
        if dry_run:
            _tell_plan(opened_store, ids, n, votes_of=checks, creator=creator, as_json=as_json)
            return
        with _creator(creator, model, given, checks, drawing, breadth) as made, _talk_apart(creator):
            report = _run(opened_store, made, ids, how, chunk=batch, skip_made=creator != "gym", quiet=as_json)
    if as_json:
        document(_as_dict(report))
    else:
        _tell(report)
    if report.stopped is not None or {"not_tried", "no_reply", "failed"} & report.rejected.keys():
        raise typer.Exit(EXIT_PARTLY)


# ---- what was asked for ---------------------------------------------------------------------------------------------


def _check_which(creator: str, model: str | None, strategy: str | None, run: str | None) -> None:
    if strategy is not None and strategy not in _STRATEGIES:
        raise typer.BadParameter(f"--strategy must be one of {', '.join(_STRATEGIES)} here; got {strategy}")
    if run is not None and strategy == "uniform":
        raise typer.BadParameter("--strategy uniform goes by nothing, so it does not go with --run")
    if creator == "gym" and model is not None:
        raise typer.BadParameter("--model has no meaning for --creator gym")
    if creator != "gym" and model is None:
        raise typer.BadParameter(f"--creator {creator} needs --model")


def _parents(
    store: PromptStore,
    strategy: str | None,
    run: str | None,
    model: str | None,
    *,
    where: str | None,
    n: int | None,
    seed: int,
) -> Ints:
    """Ids of the prompts to evolve, in the order drawn."""
    if strategy == "uniform":
        return _any_originals(store, where, n, seed)
    from curri.curricula import Eva
    from curri.errors import InvalidInput
    from curri.scheduler import Scheduler, informed

    if run is not None:
        curriculum: Any = Scheduler(store, run=run).curriculum
        if not isinstance(curriculum, Eva):
            raise InvalidInput(
                f'the run "{run}" has the strategy {curriculum.name}, which does not say what to evolve',
                hint="name a run of eva, or leave --run out to go by the stored rollouts",
            )
        among = matching(store, where, store.runs.get(run).evidence_model)
        ids = curriculum.parents(n, among=among)
    else:
        curriculum, evidence = informed(store, "eva", model, {"seed": seed})
        among = matching(store, where, evidence)
        ids = curriculum.parents(n, among=among)
    if not ids.size:
        raise InvalidInput(
            "no prompt is to be evolved: a quarter of those with rollouts"
            + (" that match --where" if where else "")
            + " is less than one",
            hint="say how many with --parents, generate rollouts first (curri rollouts generate), "
            "or take any prompts with --strategy uniform",
        )
    return ids


def _any_originals(store: PromptStore, where: str | None, n: int | None, seed: int) -> Ints:
    """Originals in an order that depends on the seed alone, so that children which join do not change the draw."""
    import numpy as np

    from curri.errors import PoolExhausted
    from curri.selectors import stable_hash

    found = store.connection.arrow(
        """select prompt_id from prompts
           where not retired and coalesce(split, 'train') = 'train' and parent_id is null order by 1"""
    )
    ids: Ints = found.column(0).to_numpy()
    among = matching(store, where)
    ids = ids if among is None else np.intersect1d(ids, among)
    wanted = max(1, int(_SHARE * ids.size)) if n is None else n
    if wanted > ids.size:
        raise PoolExhausted(
            f"asked for {wanted} parents; {ids.size} originals for training"
            + (" match --where" if where else " are there"),
            hint="ask for fewer with --parents",
        )
    return ids[np.argsort(stable_hash(ids, seed), kind="stable")][:wanted]


@contextlib.contextmanager
def _creator(
    creator: str,
    model: str | None,
    given: dict[str, Any],
    checks: dict[str, Any],
    drawing: dict[str, Any],
    breadth: float,
) -> Iterator[Creator]:
    from curri.rollouts import GymCreator, LLMCreator, VerifierPool
    from curri.types import Sampling

    if creator == "gym":
        if checks["spec"] or checks["votes"]:
            raise typer.BadParameter(
                "--verifier and --votes have no meaning for --creator gym: its tasks score themselves"
            )
        if given["url"]:
            raise typer.BadParameter("--url has no meaning for --creator gym")
        yield GymCreator(breadth=breadth)
        return
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(contextlib.closing(_engine(creator, str(model), given, "--creator")))
        pool = None
        if checks["spec"]:
            pool = stack.enter_context(VerifierPool(checks["spec"], time_limit=checks["seconds"]))
        yield LLMCreator(
            engine,
            verifier=pool,
            breadth=breadth,
            votes=checks["votes"],
            agreement=checks["agreement"],
            sampling=Sampling(**drawing),
        )


def _run(
    store: PromptStore, creator: Creator, ids: Ints, how: dict[str, Any], *, chunk: int, skip_made: bool, quiet: bool
) -> EvolutionReport:
    from curri.evolution import EvolutionProgress
    from curri.evolution import evolve as run

    with progress("evolve", quiet=quiet) as update:

        def show(at: EvolutionProgress) -> None:
            update(at.done, at.total, f"{count(at.done, 'parent')}, {count(at.stored, 'child', 'children')} stored")

        return run(store, creator, ids, **how, chunk=chunk, skip_made=skip_made, progress=show)


# ---- what is said ---------------------------------------------------------------------------------------------------


def _tell_plan(store: PromptStore, ids: Ints, n: int, *, votes_of: dict[str, Any], creator: str, as_json: bool) -> None:
    prompts = store.texts.fetch(ids[:_SHOWN])
    wanted = int(ids.size) * n
    if as_json:
        document({"dry_run": True, "parents": int(ids.size), "wanted": wanted, "parent_ids": ids.tolist()})
        return
    rows = [[prompt.prompt_id, prompt.arm, _short(prompt.prompt)] for prompt in prompts]
    say(*table(["parent", "arm", "prompt"], rows))
    if ids.size > _SHOWN:
        say(f"… and {count(int(ids.size) - _SHOWN, 'more parent')}")
    say(f"dry run: {count(wanted, 'child', 'children')} of {count(int(ids.size), 'parent')} would be asked for")
    if creator != "gym":
        votes = votes_of["votes"]
        solutions = "5 solutions" if votes is None else count(votes, "solution")
        say(f"  a reply each, and {solutions} of each with an answer")


def _short(prompt: Any) -> str:
    text = prompt if isinstance(prompt, str) else str(prompt[-1].get("content", "")) if prompt else ""
    return text[:60] + ("…" if len(text) > 60 else "")


def _tell(report: EvolutionReport) -> None:
    from curri.evolution import REASONS

    say(
        f"{report.creator}: {count(report.stored, 'child', 'children')} stored of {report.wanted:,} wanted, "
        f"of {count(report.parents, 'parent')}"
    )
    if report.operations:
        say(*(f"  {line}" for line in table(["made by", "stored"], sorted(report.operations.items()))))
    if report.rejected:
        rows = [[reason, number, REASONS[reason]] for reason, number in report.rejected.items()]
        say("left out:", *(f"  {line}" for line in table(["reason", "children", ""], rows)))
    shown = [example for example in report.examples if example[1] not in ("present", "not_tried")][:_SHOWN]
    if shown:
        say("for example:", *(f"  {line}" for line in table(["parent", "reason", "why"], shown)))
    if report.stopped is not None:
        say(f"stopped: {report.stopped.message}")
        if report.stopped.hint:
            say(f"  hint: {report.stopped.hint}")
        say("what was made is stored; the same command goes on with the rest")


def _as_dict(report: EvolutionReport) -> dict[str, Any]:
    stopped = report.stopped
    return {
        "creator": report.creator,
        "parents": report.parents,
        "wanted": report.wanted,
        "stored": report.stored,
        "prompt_ids": report.prompt_ids.tolist(),
        "operations": report.operations,
        "rejected": report.rejected,
        "examples": [{"parent": parent, "reason": reason, "why": why} for parent, reason, why in report.examples],
        "surplus": report.surplus,
        "stopped": stopped and {"code": stopped.code, "message": stopped.message, "hint": stopped.hint},
    }
