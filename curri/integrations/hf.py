"""Backbones of value models from Hugging Face, and their heads as files. Nothing is pickled, in either direction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidData, MissingExtra

if TYPE_CHECKING:
    from os import PathLike

    from curri.estimators.value_model import ValueModel

__all__ = ["load_backbone", "load_head", "save_head"]

_MODEL = "curri.value_model"
_VALUES = "curri.values"


def load_backbone(
    name_or_path: str | PathLike[str],
    *,
    device: Any = None,
    dtype: Any = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> tuple[Any, Any]:
    """A language model without its output layer, in evaluation mode, and its tokenizer.

    Only weights in safetensors files are read, and no code that comes with a model is run.

    Args:
        name_or_path: a name on the Hugging Face hub, or a folder.
        device: where to put it, such as "cuda"; None for the CPU.
        dtype: type of its weights, such as "bfloat16" or a torch dtype; None for the one they were saved in.
        revision: of a model on the hub.
        local_files_only: True to look at downloaded files only.

    Returns:
        the module and the tokenizer, as :class:`curri.estimators.backbone_value.BackboneValue` takes them.

    Raises:
        MissingExtra: transformers is not installed.
        OSError: there is no such model, or it has no safetensors files.
    """
    auto_model, auto_tokenizer = _transformers()
    options: dict[str, Any] = {"revision": revision, "local_files_only": local_files_only, "trust_remote_code": False}
    tokenizer = auto_tokenizer.from_pretrained(name_or_path, **options)
    kind = "auto" if dtype is None else dtype
    module = auto_model.from_pretrained(name_or_path, dtype=kind, use_safetensors=True, **options)
    module.eval().requires_grad_(requires_grad=False)
    return (module if device is None else module.to(device)), tokenizer


def _transformers() -> tuple[Any, Any]:
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        message = f"loading a backbone needs transformers and torch, which cannot be imported ({error})"
        raise MissingExtra(message, hint="pip install 'curri[hf,torch]'") from error
    return AutoModel, AutoTokenizer


def save_head(model: ValueModel, path: str | PathLike[str]) -> None:
    """Write what a value model has learned as a safetensors file; of a backbone's model that is the head alone.

    Args:
        model: such as a :class:`curri.estimators.backbone_value.BackboneValue`.
        path: the file; it is replaced as a whole, or not at all.

    Raises:
        MissingExtra: safetensors is not installed.
    """
    save, _, _ = _safetensors()
    state = model.state()
    arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
    others = {name: value for name, value in state.items() if name not in arrays}
    contiguous = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    data = save(contiguous, metadata={_MODEL: model.name, _VALUES: json.dumps(others, allow_nan=False)})
    target = Path(path)
    part = target.with_name(target.name + ".part")
    part.write_bytes(data)
    part.replace(target)


def load_head(model: ValueModel, path: str | PathLike[str]) -> None:
    """Read into a value model what :func:`save_head` wrote.

    Raises:
        MissingExtra: safetensors is not installed.
        FileNotFoundError: there is no such file.
        InvalidData: it is no safetensors file, or was saved by another kind of value model.
        StateMismatch: it does not fit this one. Nothing is then changed.
    """
    _, opened, damaged = _safetensors()
    try:
        with opened(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
    except damaged as error:
        message = f"{path} cannot be read as a safetensors file ({type(error).__name__}: {error})"
        raise InvalidData(message, hint="it is written by `curri.integrations.hf.save_head`") from error
    if metadata.get(_MODEL) != model.name:
        raise InvalidData(
            f"{path} was saved by the value model {metadata.get(_MODEL)!r}; this one is {model.name!r}",
            hint="load it into a model with the same backbone",
        )
    model.load({**json.loads(metadata[_VALUES]), **arrays})


def _safetensors() -> tuple[Any, Any, type[Exception]]:
    try:
        from safetensors import SafetensorError, safe_open
        from safetensors.numpy import save
    except ImportError as error:
        message = f"heads are kept as safetensors files, and safetensors cannot be imported ({error})"
        raise MissingExtra(message, hint="pip install 'curri[hf]'") from error
    return save, safe_open, SafetensorError
