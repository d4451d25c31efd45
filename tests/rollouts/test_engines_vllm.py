"""The engine for vLLM, as far as that goes without vLLM: what it hands over, and what it makes of what comes back.

A module stands in for vLLM here; `make test-vllm` runs the real one.
"""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from curri.errors import EngineError, InvalidParameter, MissingExtra
from curri.rollouts import VLLMEngine
from curri.rollouts.engines.vllm import _weight_version
from curri.rollouts.engines.weights import fingerprint, hub_commit
from curri.types import Prompt, Request, Sampling

if TYPE_CHECKING:
    from pathlib import Path


class StandIn:
    """Takes the place of ``vllm.LLM`` and its engine; refuses prompts that say so, and answers the latest one first."""

    made: list[dict[str, Any]]
    calls: list[tuple[str, Any, Any, Any]]
    given_up: list[str]

    def __init__(self, model: str, **options: Any) -> None:
        if options.get("dtype") == "bad":
            raise RuntimeError("no such dtype\nmore")
        type(self).made.append({"model": model, **options})
        self.llm_engine = self
        self.waiting: dict[str, tuple[str, Any]] = {}

    def enqueue_chat(self, messages: Any, sampling_params: Any, use_tqdm: bool, lora_request: Any) -> list[str]:
        return self._add("chat", messages, sampling_params, lora_request)

    def enqueue(self, prompts: Any, sampling_params: Any, use_tqdm: bool, lora_request: Any) -> list[str]:
        return self._add("generate", prompts, sampling_params, lora_request)

    def _add(self, how: str, prompt: Any, params: Any, lora: Any) -> list[str]:
        type(self).calls.append((how, prompt, params, lora))
        if "too long" in str(prompt):
            raise ValueError("The prompt is longer than the maximum model length")
        if "refuses all" in str(prompt):
            raise RuntimeError("no room")
        name = str(len(type(self).calls))
        self.waiting[name] = (str(prompt), params)
        return [f"{name}-0a1b2c3d"]

    def step(self) -> list[Any]:
        name, (prompt, params) = self.waiting.popitem()
        if "crash" in prompt:
            raise RuntimeError("engine core died")
        unfinished = [SimpleNamespace(request_id=other, finished=False) for other in self.waiting]
        outputs = [_output(params, i) for i in reversed(range(params.n))]
        return [*unfinished, SimpleNamespace(request_id=name, finished=True, outputs=outputs)]

    def abort_request(self, names: list[str]) -> None:
        type(self).given_up.extend(names)
        for name in names:
            del self.waiting[name]


def _output(param: Any, index: int) -> Any:
    logprobs = [{7: SimpleNamespace(logprob=-0.5)}, {9: SimpleNamespace(logprob=-1.5)}]
    return SimpleNamespace(
        index=index,
        text=f"seed {param.seed + index}",
        token_ids=[7, 9],
        finish_reason="length" if index == 1 else "stop",
        logprobs=logprobs if param.logprobs is not None else None,
        weight_versions=[SimpleNamespace(version="s7", start=0, end=2)],
    )


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    """A module in the place of vLLM."""
    stand_in = type("LLM", (StandIn,), {"made": [], "calls": [], "given_up": []})
    module, lora, request = ModuleType("vllm"), ModuleType("vllm.lora"), ModuleType("vllm.lora.request")
    for name, value in (("LLM", stand_in), ("SamplingParams", SimpleNamespace)):
        setattr(module, name, value)
    request.LoRARequest = SimpleNamespace  # type: ignore[attr-defined]
    for name, each in (("vllm", module), ("vllm.lora", lora), ("vllm.lora.request", request)):
        monkeypatch.setitem(sys.modules, name, each)
    return stand_in


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that looks like a model's."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 1000)
    return folder


def prompt(i: int, text: str = "hello") -> Prompt:
    return Prompt(i, text, "1", "a", {})


def test_what_is_handed_over_and_what_comes_back(vllm: type[StandIn], model: Path) -> None:
    engine = VLLMEngine(str(model), tensor_parallel_size=2, max_model_len=64)
    assert vllm.made == []
    sampling = Sampling(temperature=0.5, top_p=0.9, max_tokens=9, stop=("x",), system="brief", other={"top_k": 3},
                        logprobs=True)  # fmt: skip
    (found,) = engine.generate([Request(prompt(1), 3, 100)], sampling)
    assert vllm.made == [{"model": str(model), "tensor_parallel_size": 2, "max_model_len": 64}]
    ((how, given, params, lora),) = vllm.calls
    assert (how, lora) == ("chat", None)
    assert given == [{"role": "system", "content": "brief"}, {"role": "user", "content": "hello"}]
    assert vars(params) == {
        "n": 3, "seed": 100, "temperature": 0.5, "top_p": 0.9, "max_tokens": 9, "stop": ["x"], "logprobs": 0,
        "top_k": 3,
    }  # fmt: skip
    assert [response.text for response in found.responses] == ["seed 100", "seed 101", "seed 102"]
    assert [response.truncated for response in found.responses] == [False, True, False]
    first = found.responses[0]
    assert (first.token_ids, first.tokens, first.logprobs, first.weight_version) == ((7, 9), 2, (-0.5, -1.5), "s7")


def test_texts_as_they_are(vllm: type[StandIn], model: Path) -> None:
    engine = VLLMEngine(str(model), api="completions")
    chat = Prompt(2, [{"role": "user", "content": "hello"}], "1", "a", {})
    found = list(engine.generate([Request(prompt(1), 1, 0), Request(chat, 1, 0)], Sampling()))
    assert sorted((answered.request.prompt.prompt_id, len(answered.responses)) for answered in found) == [
        (1, 1),
        (2, 0),
    ]
    assert [call[:2] for call in vllm.calls] == [("generate", "hello")]


def test_it_always_has_a_batch_to_work_on_and_loads_the_model_once(vllm: type[StandIn], model: Path) -> None:
    taken = []

    def requests() -> Any:
        for i in range(1, 8):
            taken.append(i)
            yield Request(prompt(i), 4, 0)

    stream = VLLMEngine(str(model), batch=8).generate(requests(), Sampling())
    found = []
    for last in (2, 3, 4):
        found.append(next(stream).request.prompt.prompt_id)
        assert taken == list(range(1, last + 1)), "one more for each that is answered"
    found += [answered.request.prompt.prompt_id for answered in stream]
    assert found == [2, 3, 4, 5, 6, 7, 1], "each with its own answer, in the order in which they are done"
    assert len(vllm.made) == 1


def test_a_request_for_more_than_a_batch_is_asked_for_alone(vllm: type[StandIn], model: Path) -> None:
    requests = [Request(prompt(i), 9, 0) for i in range(1, 4)]
    found = list(VLLMEngine(str(model), batch=8).generate(requests, Sampling()))
    assert [answered.request for answered in found] == requests


def test_what_nobody_waits_for_is_given_up(vllm: type[StandIn], model: Path) -> None:
    engine = VLLMEngine(str(model))
    stream: Any = engine.generate([Request(prompt(i), 2, 0) for i in range(1, 5)], Sampling())
    assert next(stream).request.prompt.prompt_id == 4
    stream.close()
    assert vllm.given_up == ["1", "2", "3"]
    (again,) = engine.generate([Request(prompt(9), 1, 0)], Sampling())
    assert (again.request.prompt.prompt_id, len(again.responses)) == (9, 1)


def test_a_trouble_with_the_requests_leaves_nothing_behind(vllm: type[StandIn], model: Path) -> None:
    def requests() -> Any:
        yield Request(prompt(1), 1, 0)
        raise KeyError("the store is full")

    with pytest.raises(KeyError):
        list(VLLMEngine(str(model)).generate(requests(), Sampling()))
    assert vllm.given_up == ["1"]


def test_one_prompt_that_is_refused_does_not_cost_the_others(vllm: type[StandIn], model: Path) -> None:
    requests = [Request(prompt(i, "too long" if i == 3 else "hello"), 1, 0) for i in range(1, 9)]
    found = {a.request.prompt.prompt_id: a for a in VLLMEngine(str(model)).generate(requests, Sampling())}
    assert [len(found[i].responses) for i in range(1, 9)] == [1, 1, 0, 1, 1, 1, 1, 1]
    assert found[3].failure == "ValueError: The prompt is longer than the maximum model length"


@pytest.mark.parametrize(("text", "says"), [("crash", "engine core died"), ("refuses all", "no room")])
def test_an_engine_that_dies_is_an_error(vllm: type[StandIn], model: Path, text: str, says: str) -> None:
    with pytest.raises(EngineError, match=f"vLLM failed: RuntimeError: {says}"):
        list(VLLMEngine(str(model)).generate([Request(prompt(1, text), 1, 0)], Sampling()))
    assert vllm.given_up == []


def test_a_vllm_that_is_too_old_is_told(vllm: type[StandIn], model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(StandIn, "enqueue_chat")
    monkeypatch.setattr(sys.modules["vllm"], "__version__", "0.15.0", raising=False)
    with pytest.raises(MissingExtra, match=r"needs a vLLM with `LLM\.enqueue_chat`; got version 0\.15\.0"):
        VLLMEngine(str(model)).check()


@pytest.mark.parametrize(
    ("spans", "version"),
    [(None, None), ([], None), (["default"], None), (["s7"], "s7"), (["s7", "s8", "s7"], "s7+s8")],
)
def test_weights_that_somebody_has_named(vllm: type[StandIn], spans: list[str] | None, version: str | None) -> None:
    named = None if spans is None else [SimpleNamespace(version=name) for name in spans]
    assert _weight_version(named) == version


def test_a_model_that_cannot_be_loaded_is_an_error(vllm: type[StandIn], model: Path) -> None:
    with pytest.raises(EngineError, match=r"vLLM cannot load .*: RuntimeError: no such dtype\n"):
        VLLMEngine(str(model), dtype="bad").check()


def test_without_vllm_the_extra_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtra, match="needs vLLM") as caught:
        VLLMEngine(str(model)).check()
    assert "pip install 'curri[vllm]'" in str(caught.value.hint)


@pytest.mark.parametrize("place", ["./nowhere", "/nowhere/at/all", "~/nowhere"])
def test_a_path_where_nothing_is(place: str) -> None:
    with pytest.raises(EngineError, match=f"there is no model at {place}"):
        VLLMEngine(place)


def test_a_folder_that_holds_no_model(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="holds no model"):
        VLLMEngine(str(tmp_path))


def test_an_adapter_is_handed_over_and_part_of_the_version(vllm: type[StandIn], model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 20}))
    engine = VLLMEngine(str(model), lora=str(adapter))
    assert engine.weight_version == f"{fingerprint(model)}+lora-{fingerprint(adapter)[2:]}"
    list(engine.generate([Request(prompt(1), 1, 0)], Sampling()))
    assert (vllm.made[0]["enable_lora"], vllm.made[0]["max_lora_rank"]) == (True, 32)
    assert vars(vllm.calls[0][3]) == {"lora_name": "adapter", "lora_int_id": 1, "lora_path": str(adapter)}
    with pytest.raises(EngineError, match="no LoRA adapter at"):
        VLLMEngine(str(model), lora=str(tmp_path / "none"))


def test_weights_are_known_by_their_content(model: Path, tmp_path: Path) -> None:
    engine = VLLMEngine(str(model))
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in model.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert (engine.model, engine.weight_version) == (str(model), fingerprint(copy))
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[1234] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    assert fingerprint(copy) != engine.weight_version


def test_large_weights_are_looked_at_in_places(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    with file.open("wb") as content:
        content.truncate(200_000_000)
    before = fingerprint(tmp_path)
    with file.open("r+b") as content:
        content.seek(-1, 2)
        content.write(b"x")
    assert fingerprint(tmp_path) != before


def test_options_that_only_matter_for_speed_are_no_part_of_the_settings(model: Path) -> None:
    engine = VLLMEngine(str(model), tensor_parallel_size=4, gpu_memory_utilization=0.5, dtype="float32")
    assert engine.settings == {"api": "chat", "dtype": "float32"}


def test_a_name_on_the_hub_is_known_by_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub, "hf_hub_download", lambda *_, **__: "/cache/snapshots/abc123/config.json")
    assert hub_commit("org/name", None) == "abc123"

    def offline(*_: object, **__: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr(hub, "hf_hub_download", offline)
    assert hub_commit("org/name", None) == ""
    assert hub_commit("org/name", "main") == "main"


@pytest.mark.parametrize("bad", [{"batch": 0}, {"tensor_parallel_size": 0}, {"api": "post"}])
def test_values_out_of_range_are_refused(model: Path, bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match=next(iter(bad))):
        VLLMEngine(str(model), **bad)
