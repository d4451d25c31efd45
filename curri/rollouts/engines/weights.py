"""Which weights a model's name stands for, so that rollouts of others are never taken for its own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curri.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
_TEXTS = (".json", ".jinja", ".model", ".txt")
_LARGEST_TEXT = 1 << 26
_BLOCK = 1 << 16
_BLOCKS = 64


def is_path(model: str) -> bool:
    """Whether a model's name can only be a place on this machine.

    >>> is_path("./out/step-100"), is_path("org/name"), is_path("name")
    (True, False, False)
    """
    return model.startswith(("/", "./", "../", "~")) or model.count("/") > 1 or Path(model).exists()


def folder_of(model: str, what: str = "model") -> Path:
    """The folder, or file, of a model on this machine.

    Raises:
        EngineError: nothing is there, or nothing that could be a model.
    """
    path = Path(model).expanduser()
    if not path.exists():
        raise EngineError(
            f"there is no {what} at {model}", hint="give the folder that holds config.json, or a name such as org/name"
        )
    if path.is_dir() and not any(_files(path)):
        raise EngineError(
            f"the folder {model} holds no {what}: no weights and no config.json",
            hint="give the folder that the model was saved into",
        )
    return path


def fingerprint(path: Path) -> str:
    """A name for the weights in a folder, made of their content: "w-" and twelve hexadecimal digits.

    Configuration and tokenizer are read whole, weights in 64 places each (training changes nearly every number).
    The same files elsewhere, or with another date, have the same name.
    """
    digest = hashlib.blake2b(digest_size=6)
    for file in sorted(_files(path)) if path.is_dir() else [path]:
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path) if path.is_dir() else ''}\0{size}\0".encode("utf-8", "replace"))
        with file.open("rb") as content:
            for place in _places(size, whole=file.suffix in _TEXTS):
                content.seek(place)
                digest.update(content.read(_BLOCK))
    return f"w-{digest.hexdigest()}"


def _files(folder: Path) -> Iterator[Path]:
    for file in folder.iterdir():
        if file.is_file() and (
            file.suffix in _WEIGHTS or (file.suffix in _TEXTS and file.stat().st_size <= _LARGEST_TEXT)
        ):
            yield file


def _places(size: int, *, whole: bool) -> list[int]:
    last = max(size - _BLOCK, 0)
    if whole or size <= _BLOCK * _BLOCKS:
        return list(range(0, size, _BLOCK))
    return [last * i // (_BLOCKS - 1) for i in range(_BLOCKS)]


def hub_commit(model: str, revision: str | None) -> str:
    """The commit of a model on the Hugging Face hub, as far as it can be found out; else the revision, or "".

    >>> hub_commit("nobody/has-this-model", "0" * 40) == "0" * 40
    True
    """
    if revision is not None and len(revision) == 40:
        return revision
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        return revision or ""
    try:
        place: Any = hf_hub_download(model, "config.json", revision=revision)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError):
        return revision or ""
    return Path(place).parent.name
