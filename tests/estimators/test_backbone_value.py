"""The value model on a frozen language model, with tiny ones made on the spot; and its way to and from files."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from curri import Prompt
from curri.errors import InvalidData, InvalidParameter, MissingExtra, StateMismatch
from curri.estimators.backbone_value import BackboneValue, last_token
from curri.estimators.text_value import TextValue
from curri.integrations.hf import load_backbone, load_head, save_head
from curri.state import pack, same_state, unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from curri.types import Floats

torch = pytest.importorskip("torch", reason="needs curri[torch]")
transformers = pytest.importorskip("transformers", reason="needs curri[hf]")
tokenizers = pytest.importorskip("tokenizers", reason="needs curri[hf]")

WIDTH, VOCABULARY = 32, 257


@cache
def tokenizer(padding_side: str = "right") -> Any:
    """Every byte is a token; made here, so that nothing is downloaded."""
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.models.BPE({letter: i for i, letter in enumerate(letters)}, [])
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",  # noqa: S106
        padding_side=padding_side,
        model_max_length=4096,
    )


def backbone(kind: str = "llama", seed: int = 0) -> Any:
    """Two layers of width 32 with random weights; torch's generator is put back."""
    before = torch.get_rng_state()
    torch.manual_seed(seed)
    sizes = {"vocab_size": VOCABULARY, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": WIDTH}
    if kind == "gpt2":
        config = transformers.GPT2Config(vocab_size=VOCABULARY, n_layer=2, n_head=2, n_embd=WIDTH, n_positions=4096)
        module = transformers.GPT2LMHeadModel(config)
    elif kind == "bert":
        module = transformers.BertModel(transformers.BertConfig(**sizes, intermediate_size=64))
    else:
        config = transformers.LlamaConfig(**sizes, intermediate_size=64, num_key_value_heads=2)
        module = transformers.LlamaForCausalLM(config)
    torch.set_rng_state(before)
    return module.eval()


def prompts(n: int, start: int = 0) -> list[Prompt]:
    return [
        Prompt(i, f"What is {i} plus {i * i}{' please' * (i % 5)}?", None, "sums", {}) for i in range(start, start + n)
    ]


def plain_hidden_states(module: Any, texts: list[str]) -> Floats:
    """One prompt at a time, without any padding."""
    body, rows = module.base_model, []
    for text in texts:
        with torch.no_grad():
            hidden = body(input_ids=torch.tensor([tokenizer()(text)["input_ids"]])).last_hidden_state
        rows.append(hidden[0, -1].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert"])
@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_hidden_states_are_those_of_the_last_token_whatever_the_padding(kind: str, padding_side: str) -> None:
    module = backbone(kind)
    model = BackboneValue(module, tokenizer(padding_side), batch=5)
    some = prompts(12)
    expected = plain_hidden_states(module, [str(prompt.prompt) for prompt in some])
    assert model.hidden_states(some) == pytest.approx(expected, abs=1e-5)
    assert model.hidden_states(some[:1]) == pytest.approx(expected[:1], abs=1e-5)


def test_a_tokenizer_without_a_padding_token_will_do() -> None:
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer().backend_tokenizer)
    assert made.pad_token_id is None
    module = backbone()
    with_padding = BackboneValue(module, tokenizer()).hidden_states(prompts(6))
    assert BackboneValue(module, made).hidden_states(prompts(6)) == pytest.approx(with_padding, abs=1e-6)


def test_long_and_empty_prompts() -> None:
    module = backbone()
    model = BackboneValue(module, tokenizer(), max_tokens=10)
    long = Prompt(0, "abcdefghij" + "x" * 5000, None, "a", {})
    assert model.hidden_states([long]) == pytest.approx(plain_hidden_states(module, ["abcdefghij"]), abs=1e-5)
    assert model.predict([Prompt(1, "", None, "a", {})]) == pytest.approx(0.5)
    assert model.predict([]).shape == (0,)
    assert model.fit([], []).shape == (0,)


def test_chat_prompts_are_their_contents() -> None:
    module = backbone()
    chat = Prompt(0, [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}], None, "a", {})
    found = BackboneValue(module, tokenizer()).hidden_states([chat])
    assert found == pytest.approx(plain_hidden_states(module, ["one\ntwo"]), abs=1e-5)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ([[1, 1, 1], [1, 1, 0], [1, 0, 0]], [2, 1, 0]),
        ([[1, 1, 1], [0, 1, 1], [0, 0, 1]], [2, 2, 2]),
        ([[0, 1, 0]], [1]),
    ],
)
def test_last_token(mask: list[list[int]], expected: list[int]) -> None:
    assert last_token(mask).tolist() == expected


def test_first_predictions_are_the_initial_mean() -> None:
    model = BackboneValue(backbone(), tokenizer(), initial_mean=0.3)
    assert model.predict(prompts(7)) == pytest.approx(0.3, abs=1e-6)
    assert not model.state()["weight"].any()
    assert model.state()["bias"] == pytest.approx(np.log(0.3 / 0.7))


def test_it_learns_a_head_online_and_leaves_the_backbone_alone() -> None:
    module = backbone()
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    flags = {name: value.requires_grad for name, value in module.named_parameters()}
    model = BackboneValue(module, tokenizer(), learning_rate=0.02, passes=4)
    direction = np.random.default_rng(0).standard_normal(WIDTH)

    def rate(some: list[Prompt]) -> Floats:
        score = (model.hidden_states(some) - centre) @ direction
        return np.asarray(1.0 / (1.0 + np.exp(-2.0 * score / spread)))

    states = model.hidden_states(prompts(300))
    centre, spread = states.mean(axis=0), ((states - states.mean(axis=0)) @ direction).std()
    for round_ in range(20):
        batch = prompts(32, start=32 * round_)
        before = model.predict(batch)
        assert model.fit(batch, rate(batch)) == pytest.approx(before, abs=1e-6)
    unseen = prompts(100, start=2000)
    error = np.square(model.predict(unseen) - rate(unseen)).mean()
    assert error < 0.3 * np.var(rate(unseen))
    assert all(torch.equal(weights[name], value) for name, value in module.state_dict().items())
    assert {name: value.requires_grad for name, value in module.named_parameters()} == flags
    assert all(value.grad is None for value in module.parameters())


def test_the_step_is_adamw_on_the_mean_squared_error() -> None:
    model = BackboneValue(backbone(), tokenizer(), learning_rate=0.01, weight_decay=0.1)
    reference: list[Any] = [torch.zeros(WIDTH, 1), torch.zeros(1)]
    groups = [{"params": reference[:1], "weight_decay": 0.1}, {"params": reference[1:], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=0.01)
    rng = np.random.default_rng(0)
    for _ in range(5):
        inputs, targets = torch.tensor(rng.standard_normal((9, WIDTH))).float(), torch.tensor(rng.random(9)).float()
        weights = torch.tensor(rng.random(9)).float()
        model._step(inputs, targets, weights)
        for parameter in reference:
            parameter.requires_grad_()
        value = torch.sigmoid((inputs @ reference[0])[:, 0] + reference[1])
        optimiser.zero_grad()
        (weights * (value - targets) ** 2).mean().backward()
        optimiser.step()
    assert model.state()["weight"] == pytest.approx(reference[0].detach().numpy(), abs=1e-6)
    assert model.state()["bias"] == pytest.approx(reference[1].detach().numpy(), abs=1e-6)


def test_the_backbone_reads_in_evaluation_mode_and_gets_its_mode_back() -> None:
    module = backbone("gpt2").train()  # with dropout
    module.transformer.h[0].eval()
    modes = [part.training for part in module.modules()]
    model = BackboneValue(module, tokenizer())
    assert np.array_equal(model.hidden_states(prompts(5)), model.hidden_states(prompts(5)))
    assert [part.training for part in module.modules()] == modes


def test_device_and_dtype() -> None:
    model = BackboneValue(backbone(), tokenizer(), device="cpu", dtype="bfloat16")
    model.fit(prompts(20), np.linspace(0, 1, 20))
    assert {value.dtype for value in model._module.parameters()} == {torch.bfloat16}
    assert model.state()["weight"].dtype == np.float32
    same = BackboneValue(backbone(), tokenizer(), dtype=torch.float64)
    exact = BackboneValue(backbone(), tokenizer())
    assert same.hidden_states(prompts(3)) == pytest.approx(exact.hidden_states(prompts(3)), abs=1e-5)
    for wrong in ("int32", "nonsense"):
        with pytest.raises(InvalidParameter, match="`dtype`"):
            BackboneValue(backbone(), tokenizer(), dtype=wrong)


def test_hidden_states_that_are_not_finite_are_refused() -> None:
    module = backbone()
    with torch.no_grad():
        module.model.norm.weight[0] = np.inf
    with pytest.raises(InvalidParameter, match=r"(?s)not finite.*bfloat16"):
        BackboneValue(module, tokenizer()).predict(prompts(2))


@pytest.mark.parametrize(
    "wrong",
    [
        {"initial_mean": 1.0},
        {"learning_rate": 0.0},
        {"weight_decay": -1.0},
        {"passes": 0},
        {"batch": True},
        {"max_tokens": 1.5},
        {"seed": -1},
    ],
)
def test_wrong_parameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match=f"`{next(iter(wrong))}` of `BackboneValue` must be"):
        BackboneValue(backbone(), tokenizer(), **wrong)
    with pytest.raises(InvalidParameter, match="hidden_size"):
        BackboneValue(torch.nn.Linear(2, 2), tokenizer())


# ---- state and files -------------------------------------------------------------------------------------------------


def taught(rounds: int = 3) -> BackboneValue:
    model = BackboneValue(backbone(), tokenizer())
    for round_ in range(rounds):
        model.fit(prompts(20, start=20 * round_), np.linspace(0, 1, 20), np.arange(1, 21))
    return model


def test_resume_goes_on_as_before() -> None:
    whole = taught()
    resumed = BackboneValue(backbone(), tokenizer())
    resumed.load(unpack(pack(whole.state())))
    assert same_state(resumed.state(), whole.state())
    for model in (whole, resumed):
        model.fit(prompts(20, start=90), np.linspace(1, 0, 20))
    assert same_state(resumed.state(), whole.state())
    assert len(pack(whole.state())) < 10_000


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    model = taught()
    before = model.state()
    infinite = before["moments"].copy()
    infinite[0, 0] = np.inf
    wrong = [
        {**before, "strange": np.zeros(1)},
        {name: value for name, value in before.items() if name != "moments"},
        {**before, "weight": before["weight"][:-1]},
        {**before, "moments": infinite},
    ]
    for state in wrong:
        with pytest.raises(StateMismatch):
            model.load(state)
        assert same_state(model.state(), before)


def test_a_head_goes_through_a_safetensors_file(tmp_path: Path) -> None:
    model = taught()
    save_head(model, tmp_path / "head.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["head.safetensors"]
    other = BackboneValue(backbone(), tokenizer())
    load_head(other, tmp_path / "head.safetensors")
    assert same_state(other.state(), model.state())
    assert np.array_equal(other.predict(prompts(9)), model.predict(prompts(9)))


def test_a_wrong_head_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    save_head(taught(), path)
    for other in (BackboneValue(backbone("gpt2"), tokenizer()), TextValue()):
        before = other.state()
        with pytest.raises(InvalidData, match="saved by the value model 'backbone/llama/32'"):
            load_head(other, path)
        assert same_state(other.state(), before)
    path.write_bytes(b"not a safetensors file")
    with pytest.raises(InvalidData, match="cannot be read as a safetensors file"):
        load_head(taught(), path)
    with pytest.raises(FileNotFoundError):
        load_head(taught(), tmp_path / "none.safetensors")


def test_a_backbone_is_loaded_from_a_folder(tmp_path: Path) -> None:
    module = backbone()
    module.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    loaded, its_tokenizer = load_backbone(tmp_path, dtype="float32", device="cpu", local_files_only=True)
    assert not loaded.training
    assert not any(value.requires_grad for value in loaded.parameters())
    there = BackboneValue(loaded, its_tokenizer).hidden_states(prompts(4))
    assert there == pytest.approx(BackboneValue(module, tokenizer()).hidden_states(prompts(4)), abs=1e-6)
    with pytest.raises(OSError, match=r"."):
        load_backbone(tmp_path / "none", local_files_only=True)


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = taught(1)
    calls: dict[str, Callable[[], object]] = {
        "transformers": lambda: load_backbone(tmp_path),
        "safetensors": lambda: save_head(model, tmp_path / "head.safetensors"),
        "torch": lambda: BackboneValue(None, None),
    }
    for library, call in calls.items():
        with monkeypatch.context() as context:
            context.setitem(sys.modules, library, None)
            with pytest.raises(MissingExtra, match=rf"(?s){library}.*pip install 'curri"):
                call()
