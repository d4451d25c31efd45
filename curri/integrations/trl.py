"""TRL: a curriculum picks the prompts of ``GRPOTrainer`` and ``RLOOTrainer``, and hears every reward.

Two classes to put in the place of TRL's, and a mixin for trainers of your own:

>>> from curri.integrations.trl import CurriculumGRPOTrainer  # doctest: +SKIP
>>> trainer = CurriculumGRPOTrainer(
...     model, reward_funcs, args=args, train_dataset=dataset, curriculum=curri.Scheduler(store, "frontier", run="r1")
... )  # doctest: +SKIP

Tested with TRL 1.16.0; the page ``docs/trainers/trl.md`` says where it picks, where it hears, and how stale that is.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch.utils.data import Sampler
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint
from trl import GRPOTrainer, RLOOTrainer

from curri.curricula.base import Curriculum
from curri.errors import InvalidParameter, StateMismatch
from curri.integrations.torch import CurriculumSampler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transformers import TrainerControl, TrainerState, TrainingArguments

    from curri.scheduler import Scheduler

__all__ = ["CurriculumGRPOTrainer", "CurriculumMixin", "CurriculumRLOOTrainer"]

STATE_FILE = "curri_sampler.json"
ARRAYS_FILE = "curri_curriculum.npz"
GENERATION_FILE = "curri_generation_{}.pt"
"""What a rank has generated and not trained on to the end, where a checkpoint falls between two uses of it."""


class CurriculumMixin:
    """Puts a curriculum into a trainer of TRL's GRPO family; comes before the trainer's class in a list of bases.

    It picks where TRL makes its training sampler, keeping TRL's pattern of indices, and it hears where TRL has gathered
    the rewards of all ranks, before anything is filtered. Each checkpoint gets the sampler's state beside the model's.

    Args:
        curriculum: a ``curri.Scheduler`` or a bare strategy; on ranks other than the first, None where rank 0 decides.
        id_column: the column of ``train_dataset`` that holds prompt ids.
        solved: makes of the matrix of rewards, shape (responses, reward functions), whether each response is right,
            shape (responses,), in [0, 1]; by default the reward itself is taken where all of a batch lie in [0, 1].
        max_staleness: how many generation batches may be without feedback when one is picked; None for any number. TRL
            looks one ahead where a batch is used once (``steps_per_generation`` = accumulation steps).

    Raises:
        InvalidParameter: a setting of the trainer that cannot work with a curriculum.
    """

    def __init__(
        self,
        *args: Any,
        curriculum: Scheduler | Curriculum | None,
        id_column: str = "prompt_id",
        solved: Callable[[torch.Tensor], torch.Tensor] | None = None,
        max_staleness: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.curriculum = curriculum
        self._id_column = id_column
        self._solved = solved
        self._max_staleness = max_staleness
        self._sampler: CurriculumSampler | None = None
        self._uses_left = 0
        super().__init__(*args, **kwargs)
        trainer: Any = self
        trainer.args.ignore_data_skip = True  # Hugging Face's way to resume would draw picks only to throw them away
        trainer.remove_callback(_Checkpoints)
        trainer.add_callback(_Checkpoints(self))

    @property
    def sampler(self) -> CurriculumSampler:
        """The sampler in use; made when it is first asked for."""
        if self._sampler is None:
            trainer: Any = self
            args = trainer.args
            if not hasattr(trainer.train_dataset, "__getitem__"):
                raise InvalidParameter(
                    "a curriculum needs a `train_dataset` whose rows have numbers; an IterableDataset has none",
                    hint="load it without streaming=True",
                )
            self._sampler = CurriculumSampler(
                trainer.train_dataset,
                self.curriculum,
                prompts=args.generation_batch_size // trainer.num_generations,
                id_column=self._id_column,
                group_size=trainer.num_generations,
                repeats=trainer.num_iterations * args.steps_per_generation,
                max_staleness=self._max_staleness,
                shard=False,
            )
        return self._sampler

    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:
        trainer: Any = self
        rows, self._uses_left = self._uses_left * trainer.args.generation_batch_size, 0
        return _Late(self.sampler, rows) if rows else self.sampler

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> torch.Tensor:
        trainer: Any = self
        rewards: torch.Tensor = super()._calculate_rewards(  # type: ignore[misc]
            inputs, prompts, completions, completion_ids_list
        )
        if trainer.model.training:
            self._hear(inputs, completion_ids_list, rewards)
        return rewards

    def _hear(self, inputs: Any, completion_ids: Any, rewards: torch.Tensor) -> None:
        """Tell what all ranks generated; every rank has the same rewards, and gathers whose they are."""
        trainer: Any = self
        heard = [(row[self._id_column], len(each)) for row, each in zip(inputs, completion_ids, strict=True)]
        if trainer.accelerator.num_processes > 1:
            heard = gather_object(heard)
        ids, tokens = (np.array(column) for column in zip(*heard, strict=True))
        matrix = rewards.detach().float().cpu()
        weighted = (matrix * trainer.reward_weights.cpu()).nansum(dim=1).numpy()
        scored = ~matrix.isnan().all(dim=1).numpy()
        solved = None if self._solved is None else self._solved(matrix)
        if np.count_nonzero(scored):
            self.sampler.tell(
                ids[scored],
                weighted[scored],
                solved=None if solved is None else solved[torch.from_numpy(scored)],
                tokens=tokens[scored],
                policy_version=int(trainer.state.global_step),
                gathered=True,
            )
        unscored = sorted(set(ids.tolist()) - set(ids[scored].tolist()))
        if unscored:
            self.sampler.resolve(unscored, "lost", "no reward function scored it", gathered=True)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """As the trainer's own, with the numbers of the curriculum as they are now."""
        trainer: Any = self
        if self._sampler is not None and trainer.model.training:
            for name, value in self._sampler.metrics().items():
                trainer._metrics["train"][f"curri/{name}"].append(value)  # noqa: SLF001  where TRL's own metrics go
        super().log(logs, *args, **kwargs)  # type: ignore[misc]

    def train(self, resume_from_checkpoint: Any = None, **kwargs: Any) -> Any:
        """As the trainer's own; resuming also takes the curriculum back to where the checkpoint was made."""
        trainer: Any = self
        if resume_from_checkpoint:
            last: Any = get_last_checkpoint
            found = last(trainer.args.output_dir) if resume_from_checkpoint is True else resume_from_checkpoint
            if found is not None:
                self._resume(Path(found))
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)  # type: ignore[misc]

    def _resume(self, folder: Path) -> None:
        path = folder / STATE_FILE
        if not path.is_file():
            raise StateMismatch(
                f"{folder} holds no state of a curriculum ({STATE_FILE})",
                hint="it was written by a trainer without one: start anew, or load only the model from it",
            )
        if (folder / ARRAYS_FILE).is_file():
            self.sampler.load(folder / ARRAYS_FILE)
        state = json.loads(path.read_text(encoding="utf-8"))
        self.sampler.load_state_dict(state["sampler"])
        if state["first_open_round"] is not None:  # the store went on after this checkpoint; the weights did not
            self.sampler.replay(state["first_open_round"])
        if state.get("uses_left"):
            self._take_up_generation(folder, state["uses_left"], state["uses"])

    @property
    def _uses(self) -> int:
        """How many batches of the loader go by with one generation."""
        trainer: Any = self
        return int(trainer.args.steps_per_generation * trainer.num_iterations)

    def _take_up_generation(self, folder: Path, left: int, uses: int) -> None:
        """Go on with a generation that was trained on in part when the checkpoint was written."""
        trainer: Any = self
        path = folder / GENERATION_FILE.format(trainer.args.process_index)
        if uses != self._uses or not path.is_file():
            raise StateMismatch(
                f"{folder} was written within a generation, by a trainer of {uses} batches a generation (this one: "
                f"{self._uses}) and with a file for each rank (this one's is {path.name})",
                hint="resume with the steps_per_generation, num_iterations and number of ranks that it was written "
                "with, or from a checkpoint between two generations",
            )
        saved = torch.load(path, weights_only=True, map_location=trainer.accelerator.device)
        trainer._step, trainer._buffered_inputs = saved["step"], saved["inputs"]  # noqa: SLF001  TRL keeps it there
        self._uses_left = left


class CurriculumGRPOTrainer(CurriculumMixin, GRPOTrainer):
    """TRL's ``GRPOTrainer`` with a curriculum; see :class:`CurriculumMixin` for its arguments."""


class CurriculumRLOOTrainer(CurriculumMixin, RLOOTrainer):
    """TRL's ``RLOOTrainer`` with a curriculum; see :class:`CurriculumMixin` for its arguments."""


class _Late(Sampler[int]):
    """A sampler that begins with rows in place of a generation that is there already: TRL draws and ignores them."""

    def __init__(self, sampler: CurriculumSampler, rows: int) -> None:
        self._sampler, self._rows = sampler, rows

    def __iter__(self) -> Iterator[int]:
        rows, self._rows = self._rows, 0
        yield from itertools.repeat(0, rows)
        yield from self._sampler

    def __len__(self) -> int:
        return len(self._sampler)

    def set_epoch(self, epoch: int) -> None:
        self._sampler.set_epoch(epoch)


class _Checkpoints(TrainerCallback):
    """Writes the sampler's state into every checkpoint, and reads it when training is resumed."""

    def __init__(self, trainer: CurriculumMixin) -> None:
        self._trainer = trainer

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        sampler, curriculum = self._trainer.sampler, self._trainer.curriculum
        if isinstance(curriculum, Curriculum):  # a scheduler has it all in its store
            sampler.save(folder / ARRAYS_FILE)
        trainer: Any = self._trainer
        uses, step = trainer._uses, trainer._step  # noqa: SLF001  TRL counts the batches of its loader there
        uses_left = -step % uses
        if uses_left:
            generation = {"step": step, "inputs": trainer._buffered_inputs}  # noqa: SLF001
            torch.save(generation, folder / GENERATION_FILE.format(args.process_index))
        if state.is_world_process_zero:
            first_open, unheard = None, sampler.first_unheard
            if curriculum is not None and not isinstance(curriculum, Curriculum):
                first_open = curriculum.round if unheard is None else min(curriculum.round, unheard)
            saved = {
                "sampler": sampler.state_dict(),
                "first_open_round": first_open,
                "uses": uses,
                "uses_left": uses_left,
            }
            (folder / STATE_FILE).write_text(json.dumps(saved), encoding="utf-8")
