"""Responses from a model in this process, by vLLM."""

from __future__ import annotations

import json
import os
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curri.errors import EngineError, InvalidParameter, MissingExtra
from curri.rollouts.engines.openai_reply import shown
from curri.rollouts.engines.prompt_form import NO_TEXT, Api, check_api, messages, plain_text
from curri.rollouts.engines.weights import fingerprint, folder_of, hub_commit, is_path
from curri.types import Answered, Generated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from curri.types import Request, Sampling

_ONLY_SPEED = frozenset(
    {
        "block_size",
        "compilation_config",
        "cpu_offload_gb",
        "data_parallel_size",
        "disable_custom_all_reduce",
        "disable_log_stats",
        "distributed_executor_backend",
        "download_dir",
        "enable_chunked_prefill",
        "enable_prefix_caching",
        "enforce_eager",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "load_format",
        "max_logprobs",
        "max_lora_rank",
        "max_model_len",
        "max_num_batched_tokens",
        "max_num_seqs",
        "max_parallel_loading_workers",
        "pipeline_parallel_size",
        "seed",
        "swap_space",
        "tensor_parallel_size",
        "trust_remote_code",
        "worker_extension_cls",
    }
)
"""Options of ``LLM`` that have no influence on what is drawn, but for rounding, so they are no part of the key."""


_INDEX = attrgetter("index")
_UNNAMED = "default"
"""What vLLM calls weights that nobody has named."""


class VLLMEngine:
    """Loads a model with ``vllm.LLM`` when the first response is wanted, and keeps it until ``close``.

    It has ``batch`` responses to work on as long as there are requests: a new one is asked for when one is answered.
    Seeds of the n responses of a request follow one another, which is what vLLM makes of one seed and n > 1.

    Args:
        model: a folder, or a name on the Hugging Face hub.
        api: "chat", through the model's chat template, or "completions", texts as they are.
        weight_version: by default a fingerprint of the folder, or the hub's commit.
        label: what stored rollouts call the model; ``model`` if None.
        lora: folder of a LoRA adapter to use.
        tensor_parallel_size: GPUs to spread the model over.
        batch: responses of one call of vLLM.
        options: further keywords of ``vllm.LLM``, such as ``max_model_len`` or ``dtype``.

    Raises:
        EngineError: there is no model, or no adapter, at that place.
        InvalidParameter: a value is outside its range.
    """

    name = "vllm"

    def __init__(
        self,
        model: str,
        *,
        api: Api = "chat",
        weight_version: str | None = None,
        label: str | None = None,
        lora: str | None = None,
        tensor_parallel_size: int = 1,
        batch: int = 1024,
        **options: Any,
    ) -> None:
        check_api(api)
        for name, value in (("batch", batch), ("tensor_parallel_size", tensor_parallel_size)):
            if value < 1:
                raise InvalidParameter(f"`{name}` of `VLLMEngine` must be an integer >= 1; got {value!r}")
        self.api = api
        self.batch = batch
        self._place = str(folder_of(model)) if is_path(model) else model
        self._lora = None if lora is None else folder_of(lora, "LoRA adapter")
        self._options = {"tensor_parallel_size": tensor_parallel_size, **options}
        self._llm: Any = None
        self.model = (os.path.normpath(model) if is_path(model) else model) if label is None else label
        self.weight_version = self._weights() if weight_version is None else weight_version
        shaping = {name: value for name, value in options.items() if name not in _ONLY_SPEED}
        self.settings: Mapping[str, Any] = {"api": api, **shaping}

    def _weights(self) -> str:
        if is_path(self._place):
            base = fingerprint(Path(self._place))
        else:
            base = hub_commit(self._place, self._options.get("revision"))
        return base if self._lora is None else f"{base}+lora-{fingerprint(self._lora).removeprefix('w-')}"

    def check(self) -> None:
        """Load the model, if it is not loaded.

        Raises:
            MissingExtra: vLLM is not installed, or too old.
            EngineError: vLLM cannot load the model.
        """
        if self._llm is None:
            vllm = _vllm()
            if not hasattr(vllm.LLM, "enqueue_chat"):
                message = f"the engine `vllm` needs a vLLM with `LLM.enqueue_chat`; got version {vllm.__version__}"
                raise MissingExtra(message, hint="pip install -U vllm, or use a server: --engine openai")
            try:
                self._llm = vllm.LLM(model=self._place, **self._options, **self._lora_options())
            except Exception as error:
                message = f"vLLM cannot load {self.model}: {_told(error)}"
                raise EngineError(message, hint="its own log above says more") from error

    def _lora_options(self) -> dict[str, Any]:
        if self._lora is None:
            return {}
        config = self._lora / "adapter_config.json"
        try:
            rank = json.loads(config.read_text(encoding="utf-8")).get("r", 16)
        except (OSError, ValueError, AttributeError) as error:
            raise EngineError(f"{self._lora} is no LoRA adapter: {config.name} cannot be read ({error})") from error
        return {"enable_lora": True, "max_lora_rank": next((r for r in (16, 32, 64, 128, 256) if r >= rank), 512)}

    def close(self) -> None:
        """Let go of the model and its processes."""
        llm, self._llm = self._llm, None
        core: Any = getattr(getattr(llm, "llm_engine", None), "engine_core", None)
        if hasattr(core, "shutdown"):
            core.shutdown()

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Answered]:
        """Answer requests, each when it is done; see :class:`curri.types.Engine`.

        Raises:
            MissingExtra: vLLM is not installed, or too old.
            EngineError: vLLM cannot load the model, or fails.
            InvalidInput: a system message where there is no chat.
        """
        check_api(self.api, sampling)
        coming = iter(requests)
        asked: dict[str, Request] = {}
        size = each = 0
        try:
            while True:
                while (size == 0 or size + each <= self.batch) and (request := next(coming, None)) is not None:
                    name, failure = self._ask(request, sampling)
                    if failure:
                        yield Answered(request, [], failure)
                        continue
                    asked[name] = request
                    each = request.n
                    size += each
                if not asked:
                    return
                try:
                    done = self._step()
                except EngineError:
                    asked.clear()  # it is lost, and nothing is left to be given up
                    raise
                for output in done:
                    request = asked.pop(str(output.request_id))
                    size -= request.n
                    yield _answer(request, output)
        finally:
            if asked:
                self._llm.llm_engine.abort_request(list(asked))

    def _ask(self, request: Request, sampling: Sampling) -> tuple[str, str]:
        """Have vLLM begin with a request; gives what vLLM calls it, or why it is refused."""
        self.check()
        if self.api == "completions" and plain_text(request.prompt) is None:
            return "", NO_TEXT
        try:
            names = self._enqueue(request, sampling)
        except _refusals() as error:  # a prompt that is too long, a parameter that is none
            return "", _told(error)
        except Exception as error:
            raise self._failed(error) from error
        return str(names[0]).partition("-")[0], ""  # what follows is vLLM's own, and not in its answers

    def _enqueue(self, request: Request, sampling: Sampling) -> Sequence[Any]:
        params = _vllm().SamplingParams(
            n=request.n,
            seed=request.seed,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            stop=list(sampling.stop) or None,
            logprobs=0 if sampling.logprobs else None,
            **sampling.other,
        )
        how = {"sampling_params": params, "use_tqdm": False, "lora_request": self._lora_request()}
        names: Sequence[Any]
        if self.api == "chat":
            names = self._llm.enqueue_chat(messages(request.prompt, sampling.system), **how)
        else:
            names = self._llm.enqueue(plain_text(request.prompt), **how)
        return names

    def _step(self) -> list[Any]:
        """Wait for vLLM to go on; gives what is done."""
        try:
            return [output for output in self._llm.llm_engine.step() if output.finished]
        except Exception as error:
            raise self._failed(error) from error

    @staticmethod
    def _failed(error: Exception) -> EngineError:
        return EngineError(f"vLLM failed: {_told(error)}", hint="its own log above says more")

    def _lora_request(self) -> Any:
        if self._lora is None:
            return None
        from vllm.lora.request import LoRARequest

        return LoRARequest(lora_name=self._lora.name, lora_int_id=1, lora_path=str(self._lora))


def _answer(request: Request, output: Any) -> Answered:
    found = sorted(output.outputs, key=_INDEX)
    missing = request.n - len(found)
    return Answered(
        request,
        [_generated(completion) for completion in found[: request.n]],
        f"vLLM gave {len(found)} responses of {request.n}" if missing > 0 else "",
    )


def _generated(completion: Any) -> Generated:
    token_ids = tuple(completion.token_ids)
    finish = completion.finish_reason
    return Generated(
        text=completion.text,
        tokens=len(token_ids),
        truncated=finish == "length",
        finish=finish or "",
        token_ids=token_ids,
        logprobs=_logprobs(completion.logprobs, token_ids),
        weight_version=_weight_version(getattr(completion, "weight_versions", None)),
    )


def _weight_version(spans: Any) -> str | None:
    """Of the weights by their names, where somebody has named them."""
    if not spans or (len(spans) == 1 and spans[0].version == _UNNAMED):
        return None
    versions = dict.fromkeys([str(span.version) for span in spans if span.version != _UNNAMED])
    return "+".join(versions) or None


def _logprobs(given: Any, token_ids: tuple[int, ...]) -> tuple[float, ...] | None:
    """Of the drawn tokens, from vLLM's mapping of candidates at each place."""
    if given is None:
        return None
    return tuple(float(given[place][token].logprob) for place, token in enumerate(token_ids))


def _vllm() -> Any:
    # Its log goes to standard error, where talk belongs, and nothing is sent to anybody.
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    try:
        import vllm
    except ImportError as error:
        message = f"the engine `vllm` needs vLLM, which cannot be imported ({error})"
        raise MissingExtra(message, hint="pip install 'curri[vllm]', or use a server: --engine openai") from error
    return vllm


def _refusals() -> tuple[type[Exception], ...]:
    """Errors by which vLLM refuses a request and stays well."""
    try:
        from vllm.exceptions import VLLMClientError
    except ImportError:  # older ones raise ValueError
        return ValueError, TypeError
    return ValueError, TypeError, VLLMClientError


def _told(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {shown(lines[0])}" if lines else type(error).__name__
