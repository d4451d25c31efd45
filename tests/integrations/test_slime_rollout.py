"""slime's own rollout on the CPU: its reader, its loop, its filters, and a generate function in the place of a model.

slime is not on PyPI; this runs where its sources are installed, with what they import.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import curri
from curri.exchange.export import export_prompts
from curri.store import NewPrompt
from tests.integrations.upstream import is_here

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(not is_here("slime"), reason="slime is not installed"),
    pytest.mark.filterwarnings("ignore"),  # slime's and its libraries' own
]
GROUP, BATCH, OVER = 2, 4, 8


class Router(BaseHTTPRequestHandler):
    """Answers what slime asks sglang's router when it breaks a rollout off: which workers there are."""

    def do_GET(self) -> None:
        body = json.dumps({"workers": []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


async def generate(args: Any, sample: Any, sampling_params: Any) -> Any:
    """Even prompts are answered at once; odd ones only if the rollout waits for them, and are broken off else."""
    from slime.rollout.sglang_rollout import GenerateState

    prompt = sample.metadata["prompt_id"]
    if prompt % 2 and sample.status.value != "aborted":
        for _ in range(1000):
            if GenerateState(args).aborted:
                sample.status = type(sample.status).ABORTED
                return sample
            await asyncio.sleep(0.001)
    sample.response, sample.response_length, sample.tokens = "x", 3, [1, 2, 3]
    sample.status = type(sample.status).COMPLETED
    return sample


async def generate_even(args: Any, sample: Any, sampling_params: Any) -> Any:
    """Odd prompts raise."""
    if sample.metadata["prompt_id"] % 2:
        raise ValueError("no answer")
    return await generate(args, sample, sampling_params)


async def reward(args: Any, sample: Any) -> float:
    """Prompts that four divides are always solved, which slime's filter throws away."""
    return 1.0 if sample.metadata["prompt_id"] % 4 == 0 else float(sample.index % 2)


@pytest.fixture
def args(tmp_path: Path) -> Iterator[Any]:
    from slime.rollout.sglang_rollout import GenerateState
    from slime.utils import http_utils
    from slime.utils.misc import SingletonMeta
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=Tokenizer(WordLevel({"?": 0}, "?"))).save_pretrained(tmp_path / "model")
    with curri.open_store(tmp_path / "prompts.duckdb", create=True) as store:
        store.prompts.add([NewPrompt(f"{i} + {i} = ?", False, str(2 * i), "sums") for i in range(64)])
        export_prompts(store, tmp_path / "prompts.jsonl", format="slime")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Router)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    nothing = """
        apply_chat_template apply_chat_template_kwargs ci_test dump_details group_rm mask_offpolicy_in_partial_rollout
        multimodal_keys reward_key rollout_max_prompt_len rollout_sample_hook_path rollout_shuffle rollout_stop
        rollout_stop_token_ids tool_key use_distributed_post
    """
    given = SimpleNamespace(
        **dict.fromkeys(nothing.split()),
        hf_checkpoint=str(tmp_path / "model"),
        prompt_data=str(tmp_path / "prompts.jsonl"),
        input_key="prompt",
        label_key="label",
        metadata_key="metadata",
        rollout_global_dataset=True,
        rollout_seed=0,
        n_samples_per_prompt=GROUP,
        rollout_batch_size=BATCH,
        over_sampling_batch_size=OVER,
        partial_rollout=False,
        save=str(tmp_path),
        load=str(tmp_path),
        sglang_router_ip="127.0.0.1",
        sglang_router_port=server.server_address[1],
        sglang_server_concurrency=64,
        sglang_dp_size=1,
        rollout_num_engines=1,
        rollout_temperature=1.0,
        rollout_top_p=1.0,
        rollout_top_k=-1,
        rollout_max_response_len=8,
        rollout_skip_special_tokens=True,
        custom_generate_function_path=f"{__name__}.generate",
        custom_rm_path=f"{__name__}.reward",
        dynamic_sampling_filter_path="slime.rollout.filter_hub.dynamic_sampling_filters.check_reward_nonzero_std",
        rollout_sample_filter_path="curri.integrations.slime.note_trained",
        rollout_all_samples_process_path="curri.integrations.slime.hear",
        buffer_filter_path=None,
        curri_store=str(tmp_path / "prompts.duckdb"),
        curri_run="r1",
        curri_strategy="uniform",
        curri_parameters={"seed": 0},
    )
    http_utils._http_client = None
    http_utils.init_http_client(given)
    getattr(SingletonMeta, "_instances", {}).pop(GenerateState, None)
    yield given
    server.shutdown()


def settled(source: Any) -> dict[int, list[tuple[str, str | None]]]:
    found: dict[int, list[tuple[str, str | None]]] = {}
    for prompt, event, why in source.scheduler.store.connection.rows(
        "select prompt_id, event, reason from ledger where event <> 'issued' order by seq, rowid"
    ):
        found.setdefault(int(prompt), []).append((event, why))
    return found


@pytest.mark.parametrize("partial", [False, True])
def test_slimes_own_rollout_is_picked_for_and_heard_of(args: Any, partial: bool) -> None:
    from slime.rollout.sglang_rollout import generate_rollout
    from slime.utils.misc import load_function

    args.partial_rollout = partial
    source = load_function("curri.integrations.slime.CurriculumDataSource")(args)
    source.load(-1)
    trained: Counter[int] = Counter()
    for number in range(3):
        output = generate_rollout(args, number, source)
        assert [len(group) for group in output.samples] == [GROUP] * BATCH
        trained.update(group[0].metadata["prompt_id"] for group in output.samples)
        source.save(number)
    events = settled(source)
    assert {p for p, each in events.items() if ("trained", None) in each} == set(trained)
    assert all(p % 4 for p in trained)
    dropped = {p for p, each in events.items() for event, _ in each if event == "dropped"}
    assert {p for p in dropped if p % 4 == 0}
    lost = {p for p, each in events.items() if ("lost", "slime broke it off") in each}
    assert all(p % 2 for p in lost)
    assert bool(lost) != partial
    assert bool(source.groups.out()) == partial  # handed back by slime, and first in its next rollout
    assert source.scheduler.metrics()["scheduler/groups_told"] == len(trained) + sum(
        event == "dropped" for each in events.values() for event, _ in each
    )
    source.scheduler.store.close()


def test_a_group_that_raises_in_slimes_own_fully_asynchronous_rollout_is_lost(args: Any) -> None:
    from slime.rollout import fully_async_rollout

    from curri.integrations.slime import CurriculumDataSource, generate_rollout_fully_async

    args.custom_generate_function_path = f"{__name__}.generate_even"
    args.sglang_server_concurrency = BATCH
    source = CurriculumDataSource(args)
    source.load(-1)
    groups = generate_rollout_fully_async(args, 0, source)
    fully_async_rollout._stop_global_worker()
    events = settled(source)
    odd = {prompt for prompt in events if prompt % 2}
    assert odd
    assert all(events[prompt] == [("lost", "its generation raised")] for prompt in odd)
    assert {prompt for prompt, each in events.items() if each == [("trained", None)]} == {
        group[0].metadata["prompt_id"] for group in groups
    }
    assert not [group for group in source.groups.out() if group.prompt_id % 2]
    source.scheduler.store.close()
