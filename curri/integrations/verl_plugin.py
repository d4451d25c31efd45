"""What ``import verl`` loads by its entry point: nothing but a note to come back when verl's V1 trainers are imported.

Each trainer then gets three methods that ask a curriculum, if its replay buffer is one of
:mod:`curri.integrations.verl`; all others work as before.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["CurriculumTrainer", "register", "registry"]

TRAINERS = "verl.trainer.ppo.v1"


class CurriculumTrainer:
    """Lets a trainer of verl take its prompts from its replay buffer's curriculum; comes before the trainer's class.

    verl's own trainers have it already. A trainer class of your own that is not made from one of them needs it in its
    list of bases.
    """

    replay_buffer: Any
    global_steps: int

    def _init_dataloader(self) -> None:
        super()._init_dataloader()  # type: ignore[misc]
        if self._curriculum is not None:
            self._curriculum.connect(self)

    def _next_train_batch(self, num_prompts: int | None = None) -> Any:
        if self._curriculum is None:
            return super()._next_train_batch(num_prompts)  # type: ignore[misc]
        return self._curriculum.next_batch(num_prompts)

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()  # type: ignore[misc]
        if self._curriculum is not None and self.global_steps > 0:
            self._curriculum.restore(self.global_steps)

    @property
    def _curriculum(self) -> Any:
        return getattr(self.replay_buffer, "curriculum", None)


def registry() -> MutableMapping[str, type]:
    """Trainers of verl by their mode; none in a verl that has no such registry."""
    found: MutableMapping[str, type] = getattr(sys.modules.get(f"{TRAINERS}.trainer_base"), "TRAINER_REGISTRY", {})
    return found


def register(trainers: MutableMapping[str, type]) -> None:
    """Give every trainer of verl's registry the three methods.

    >>> trainers = {"sync": object}
    >>> register(trainers)
    >>> register(trainers)
    >>> trainers["sync"].__bases__
    (<class 'curri.integrations.verl_plugin.CurriculumTrainer'>, <class 'object'>)
    """
    for name, trainer in trainers.items():
        if not issubclass(trainer, CurriculumTrainer):
            own = {"__module__": trainer.__module__, "__doc__": trainer.__doc__}
            trainers[name] = type(trainer.__name__, (CurriculumTrainer, trainer), own)


class _WhenImported(MetaPathFinder):
    """Waits for the import of verl's trainers, which takes seconds and most processes never need."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != TRAINERS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                register(registry())

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _install() -> None:
    if TRAINERS in sys.modules:
        register(registry())
    elif not any(isinstance(finder, _WhenImported) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WhenImported())


_install()
