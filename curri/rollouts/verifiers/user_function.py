"""``python:module:function``: the user's own reward."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import math
import numbers
import re
import sys
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from curri.errors import InvalidInput, InvalidParameter, VerifierFailed, did_you_mean
from curri.parameters import real, text
from curri.rollouts.verifiers.base import OptionVerifier, failed, shown
from curri.types import LARGEST, Score

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Coroutine
    from types import ModuleType

    from curri.types import Prompt

TARGET: Final = re.compile(r"(?P<place>[^:+,@]+):(?P<function>[A-Za-z_][\w.]*)")
"""What stands after ``python:``: a module or a file that ends in .py, and a function."""

_NAMES: Final = {
    "response": ("response", "completion", "solution_str"),
    "answer": ("answer", "ground_truth"),
    "prompt": ("prompt",),
    "arm": ("arm", "data_source"),
    "metadata": ("metadata", "extra_info"),
    "prompt_id": ("prompt_id",),
}
_REWARDS = ("score", "reward")


@dataclass(eq=False, kw_only=True)
class UserFunction(OptionVerifier):
    """Scores with a function of the user's, which may be ``async``.

    It is called by keyword with those of these that it takes: ``response`` (also ``completion`` or ``solution_str``),
    ``answer`` (``ground_truth``), ``prompt`` (text or messages), ``arm`` (``data_source``), ``metadata``
    (``extra_info``) and ``prompt_id``. It gives a bool, a number, a pair of reward and solved, a mapping with ``score``
    or ``reward`` and perhaps ``solved``, or None where it cannot tell.

    Its module is imported where responses are scored, which is a process of its own. Its version is a digest of the
    module's source; of what that imports in turn nothing is known, so change ``revision`` when that changes.

    Raises:
        InvalidInput: there is no such module or file.
    """

    kind: ClassVar[str] = "python"

    target: str
    solved_at: float = real(default=1.0, doc="the reward from which on a response is right, where nothing else says so")
    revision: str = text(default="", doc="any text of yours that stands for the version of what the function uses")

    def __post_init__(self) -> None:
        super().__post_init__()
        found = TARGET.fullmatch(self.target)
        if found is None:
            raise InvalidParameter(
                f"a function of yours is named by module and function; got {self.target!r}",
                hint="python:my_rewards:score, or python:rewards/mine.py:score",
            )
        self._place, self._function = found["place"], found["function"]
        self._source = _source_of(self._place)
        self._call: Callable[[str, Prompt], Any] | None = None
        self._runner: asyncio.Runner | None = None

    @property
    def name(self) -> str:
        """Module, function and options."""
        options = self._options()
        return f"{self.kind}:{self.target}" + (f":{options}" if options else "")

    @property
    def version(self) -> str:
        """Of its rules and of the source of the module."""
        try:
            source = self._source.read_bytes()
        except OSError as error:
            raise InvalidInput(f"{self._source} cannot be read: {error.strerror}") from error
        return f"{super().version}/{hashlib.blake2b(source, digest_size=8).hexdigest()}"

    def load(self) -> None:
        """Import the function; it is done at the first score if not before.

        Raises:
            VerifierFailed: the module raises, or has no such function, or the function asks for something else.
        """
        module = self._module()
        function: Any = module
        for part in self._function.split("."):
            if not hasattr(function, part):
                near = did_you_mean(part, [name for name in vars(module) if not name.startswith("_")])
                raise VerifierFailed(f"{self._place} has no function {self._function!r}", hint=near)
            function = getattr(function, part)
        if not callable(function):
            raise VerifierFailed(f"{self.target} is not a function; it is {shown(repr(function))}")
        self._call = _by_keyword(function, self.target)

    def _module(self) -> ModuleType:
        try:
            return _run(self._source) if _is_file(self._place) else importlib.import_module(self._place)
        except (Exception, SystemExit) as error:
            raise VerifierFailed(f"importing {self._place} failed: {_told(error)}") from error

    def score(self, response: str, prompt: Prompt) -> Score:
        """What the function gives for a response."""
        if self._call is None:
            self.load()
        assert self._call is not None  # noqa: S101  loaded
        try:
            given = self._call(response, prompt)
            if inspect.isawaitable(given):
                given = self._awaited(given)
        except MemoryError:
            raise
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  it is anyone's code
            return failed("error", f"it raised {_told(error)}")
        return self._read(given)

    def _awaited(self, given: Awaitable[Any]) -> Any:
        import asyncio

        async def wait() -> Any:
            return await given

        if self._runner is None:
            self._runner = asyncio.Runner()  # one for all, so that what a function keeps open stays usable
            weakref.finalize(self, self._runner.close)
        running: Coroutine[Any, Any, Any] = wait()
        return self._runner.run(running)

    def _read(self, given: Any) -> Score:
        if given is None:
            return failed("unverifiable", "it gave None")
        reward, solved = _parts(given)
        value, right = _number(reward), None if solved is None else _number(solved)
        if value is None or abs(value) > LARGEST:
            return failed("error", f"it gave no finite number: {_brief(given)}")
        if solved is not None and (right is None or not 0.0 <= right <= 1.0):
            return failed("error", f"its `solved` is no number from 0 to 1: {_brief(given)}")
        if right is None:
            right = 1.0 if value >= self.solved_at else 0.0
        return Score(value, right)


def _run(file: Path) -> ModuleType:
    """A file as a module of its own name."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _parts(given: Any) -> tuple[Any, Any]:
    """Reward, and solved or None."""
    if isinstance(given, Mapping):
        reward = next((given[name] for name in _REWARDS if name in given), None)
        return (given.get("solved") if reward is None else reward), given.get("solved")
    if isinstance(given, tuple):
        return (given[0], given[1]) if len(given) == 2 else (None, None)
    return given, None


def _number(value: Any) -> float | None:
    """A finite float; None for what is none, text included."""
    if not isinstance(value, numbers.Real) and getattr(value, "size", 1) == 1 and hasattr(value, "item"):
        value = value.item()  # a scalar of NumPy, PyTorch …
    if not isinstance(value, numbers.Real):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _by_keyword(function: Any, target: str) -> Callable[[str, Prompt], Any]:
    """A function of response and prompt that hands on what is asked for."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return lambda response, prompt: function(response, prompt.answer)
    ours = {theirs: name for name, spellings in _NAMES.items() for theirs in spellings}
    wanted = {
        p.name: ours[p.name]
        for p in parameters
        if p.name in ours and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        wanted |= {name: name for name in ours.values() if name not in wanted.values()}
    lacking = [
        p.name
        for p in parameters
        if p.name not in wanted and p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if lacking:
        known = ", ".join(f"`{name}`" for name in sorted(ours))
        raise VerifierFailed(f"{target} asks for `{lacking[0]}`, which is not known; it may take {known}")

    def call(response: str, prompt: Prompt) -> Any:
        values = {
            "response": response,
            "answer": prompt.answer,
            "prompt": prompt.prompt,
            "arm": prompt.arm,
            "metadata": dict(prompt.metadata),
            "prompt_id": prompt.prompt_id,
        }
        return function(**{theirs: values[name] for theirs, name in wanted.items()})

    return call


def search_path() -> list[str]:
    """Where modules of the user are looked for: Python's own path, and the current directory, which programs lack."""
    here = str(Path.cwd())
    return sys.path if "" in sys.path or here in sys.path else [*sys.path, here]


def _is_file(place: str) -> bool:
    return place.endswith(".py")


def _source_of(place: str) -> Path:
    """The file that a module comes from; nothing is imported to find it.

    Raises:
        InvalidInput: there is none.
    """
    if _is_file(place):
        file = Path(place)
        if not file.is_file():
            raise InvalidInput(f"there is no file {place}", hint="paths are as seen from the current directory")
        return file
    search: Any = search_path()
    origin = None
    for depth in range(1, place.count(".") + 2):
        name = ".".join(place.split(".")[:depth])
        spec = None if search is None else PathFinder.find_spec(name, search)
        if spec is None:
            raise InvalidInput(
                f"there is no module {name!r} to import",
                hint="put it beside the command or on PYTHONPATH, or give the file: python:path/to/file.py:function",
            )
        search, origin = spec.submodule_search_locations, spec.origin
    if origin is None or not origin.endswith(".py"):
        raise InvalidInput(f"{place} is not a Python module with a source of its own")
    return Path(origin)


def _told(error: BaseException) -> str:
    try:
        return shown(f"{type(error).__name__}: {error}")
    except Exception:  # noqa: BLE001  an error of anyone's may not even have a text
        return type(error).__name__


def _brief(given: Any) -> str:
    try:
        return shown(repr(given))
    except Exception:  # noqa: BLE001  the same
        return f"an object of type {type(given).__name__}"
