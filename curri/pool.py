"""The prompts a strategy chooses from, as dense arrays."""

from __future__ import annotations

import reprlib
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from curri.errors import InvalidParameter, UnknownPrompt, shown_some, unknown_name
from curri.types import prompt_id_array, whole_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from curri.types import Bools, Floats, Ints, Prompt, Strings


class PromptPool:
    """Prompts as dense rows: row i is the prompt with the i-th smallest id. A pool never changes; see ``extended``.

    Args:
        ids: distinct prompt ids, shape (_P,), in any order.
        arms: the name of each prompt's arm (its distribution, dataset, level), shape (_P,); one arm "default" if None.
        arm_names: distinct names; ``arms`` then holds places in them, int, which is much faster for a large pool.
        prior_rate: pass rate of each prompt known beforehand, in [0, 1] or NaN, shape (_P,).
        expected_tokens: expected length of one response, > 0 or NaN, shape (_P,).
        active: False for prompts that may no longer be picked, shape (_P,).
        generation: 0 for original prompts, 1 for those evolved from them and so on, shape (_P,); all 0 if None.
        fetch: gives the texts of prompt ids, for strategies that read them.

    Raises:
        InvalidParameter: repeated ids, lengths that differ, values out of range.

    >>> pool = PromptPool([7, 3, 5], ["math", "code", "math"])
    >>> pool.ids, pool.arm_names, pool.arm_sizes
    (array([3, 5, 7]), ('code', 'math'), array([1, 2]))
    """

    def __init__(
        self,
        ids: ArrayLike,
        arms: Sequence[str] | Sequence[int] | NDArray[Any] | None = None,
        *,
        arm_names: Sequence[str] | None = None,
        prior_rate: ArrayLike | None = None,
        expected_tokens: ArrayLike | None = None,
        active: ArrayLike | None = None,
        generation: ArrayLike | None = None,
        fetch: Callable[[Ints], list[Prompt]] | None = None,
    ) -> None:
        given = prompt_id_array(ids, "`ids` of `PromptPool`")
        if given.ndim != 1:
            raise InvalidParameter(f"`ids` of `PromptPool` must be a flat sequence; got shape {given.shape}")
        order = np.argsort(given, kind="stable")
        self.ids: Ints = _frozen(given[order])
        self._refuse_repeated()
        names, codes = _named(arms, given.size) if arm_names is None else _numbered(arms, arm_names, given.size)
        self.arm_names: tuple[str, ...] = names
        self.arms: NDArray[np.int32] = _frozen(codes[order].astype(np.int32))
        self.prior_rate: Floats | None = _column("prior_rate", prior_rate, order, "[0, 1]", 0.0, 1.0)
        smallest, largest = np.nextafter(0.0, 1.0), float(np.finfo(np.float64).max)
        self.expected_tokens: Floats | None = _column(
            "expected_tokens", expected_tokens, order, "(0, inf)", smallest, largest
        )
        flags = np.ones(given.size, dtype=np.bool_) if active is None else np.asarray(active)
        _same_length("active", flags, given.size)
        if flags.size and flags.dtype.kind != "b":
            raise InvalidParameter(f"`active` of `PromptPool` must hold booleans; got {flags.dtype}")
        self.active: Bools = _frozen(flags.astype(np.bool_)[order])
        self.generation: Ints | None = None if generation is None else _generations(generation, order)
        self.fetch = fetch
        self._rows_of_arm: dict[int, Ints] = {}

    def _refuse_repeated(self) -> None:
        repeated = self.ids[1:][self.ids[1:] == self.ids[:-1]]
        if repeated.size:
            shown = shown_some(np.unique(repeated))
            raise InvalidParameter(f"`ids` of `PromptPool` must be distinct; repeated: {shown}")

    def __len__(self) -> int:
        """Number of rows, retired prompts included."""
        return int(self.ids.size)

    def __repr__(self) -> str:
        return f"PromptPool({self.n_active} active of {len(self)} prompts, {len(self.arm_names)} arms)"

    @cached_property
    def n_active(self) -> int:
        """Number of prompts that may be picked."""
        return int(self.arm_sizes.sum())

    @cached_property
    def arm_sizes(self) -> Ints:
        """Active prompts of each arm, shape (_A,)."""
        return _frozen(np.bincount(self.arms[self.active], minlength=len(self.arm_names)).astype(np.int64))

    def rows(self, prompt_ids: ArrayLike) -> Ints:
        """Rows of prompts, shape of ``prompt_ids``.

        Raises:
            InvalidParameter: not integers.
            UnknownPrompt: names the ids that are not in the pool.
        """
        wanted = _looked_up(prompt_ids)
        rows = self.ids.searchsorted(wanted)
        found = self._stand_at(rows, wanted)
        if np.count_nonzero(found) < wanted.size:
            missing = np.unique(wanted[~found])
            raise UnknownPrompt(
                f"{missing.size} prompt ids are not in the pool of {len(self)} prompts: {shown_some(missing)}",
                hint="ids are the store's own, which `curri select` prints, not row numbers; prompts of another split "
                "than train, and those that join at the next round, are not in the pool",
            )
        return rows.astype(np.int64, copy=False)

    def contains(self, prompt_ids: ArrayLike) -> Bools:
        """Whether each id is in the pool."""
        wanted = _looked_up(prompt_ids)
        return self._stand_at(self.ids.searchsorted(wanted), wanted)

    def _stand_at(self, rows: NDArray[np.intp], wanted: Ints) -> Bools:
        """Whether each id is the one at its row, which may be one past the end."""
        if not self.ids.size:
            return np.zeros(wanted.shape, dtype=np.bool_)
        return np.asarray(self.ids.take(rows, mode="clip") == wanted)

    def arm_code(self, name: str) -> int:
        """The code of an arm.

        Raises:
            UnknownName: there is no such arm.
        """
        if name not in self._codes:
            raise unknown_name("arm", name, self.arm_names)
        return self._codes[name]

    @cached_property
    def _codes(self) -> dict[str, int]:
        return {name: code for code, name in enumerate(self.arm_names)}

    def arm_of(self, rows: Ints) -> Strings:
        """Arm names of rows, shape of ``rows``."""
        return self._names[self.arms[rows]]

    @cached_property
    def _names(self) -> Strings:
        return np.asarray(self.arm_names, dtype=np.str_)

    def active_rows(self, arm: int) -> Ints:
        """Rows of the active prompts of an arm, ascending."""
        if arm not in self._rows_of_arm:
            if not self._rows_of_arm:
                self._split_by_arm()
            self._rows_of_arm.setdefault(arm, np.empty(0, dtype=np.int64))
        return self._rows_of_arm[arm]

    @cached_property
    def active_everywhere(self) -> Ints:
        """Rows of all active prompts, ascending."""
        return _frozen(np.flatnonzero(self.active))

    def prompts(self, rows: Ints) -> list[Prompt]:
        """The texts of prompts, in the order of ``rows``.

        Raises:
            InvalidParameter: the pool was made without ``fetch``.
        """
        if self.fetch is None:
            raise InvalidParameter(
                "this `PromptPool` has no texts, and the strategy reads them",
                hint="a store's pool has them: `store.pool()`; else hand in `PromptPool(..., fetch=…)`, "
                "which gives a `curri.Prompt` for each id",
            )
        return self.fetch(self.ids[rows])

    def _split_by_arm(self) -> None:
        rows = np.flatnonzero(self.active)
        rows = rows[np.argsort(self.arms[rows], kind="stable")]
        bounds = np.cumsum(self.arm_sizes)[:-1]
        for arm, part in enumerate(np.split(rows, bounds)):
            self._rows_of_arm[arm] = _frozen(part)

    def extended(
        self,
        ids: ArrayLike,
        arms: Sequence[str] | NDArray[Any] | None = None,
        *,
        prior_rate: ArrayLike | None = None,
        expected_tokens: ArrayLike | None = None,
        generation: ArrayLike | None = None,
    ) -> PromptPool:
        """A pool with these prompts added; hand it to ``Curriculum.extend``."""
        new_ids = prompt_id_array(ids, "`ids` of `PromptPool.extended`")
        n_new = new_ids.size
        new_arms = _arm_names(arms, n_new)
        return PromptPool(
            np.concatenate([self.ids, new_ids]),
            np.concatenate([self.arm_of(np.arange(len(self))), new_arms]),
            prior_rate=_joined(self.prior_rate, prior_rate, len(self), n_new),
            expected_tokens=_joined(self.expected_tokens, expected_tokens, len(self), n_new),
            active=np.concatenate([self.active, np.ones(n_new, dtype=np.bool_)]),
            generation=_joined_generations(self.generation, generation, len(self), n_new),
            fetch=self.fetch,
        )

    def restricted_to(self, ids: ArrayLike) -> PromptPool:
        """A pool of these prompts only; those that are not here are left out."""
        keep = np.isin(self.ids, prompt_id_array(ids, "prompt ids"))
        if keep.all():
            return self
        return PromptPool(
            self.ids[keep],
            self.arms[keep],
            arm_names=self.arm_names,
            prior_rate=None if self.prior_rate is None else self.prior_rate[keep],
            expected_tokens=None if self.expected_tokens is None else self.expected_tokens[keep],
            active=self.active[keep],
            generation=None if self.generation is None else self.generation[keep],
            fetch=self.fetch,
        )

    def retired(self, ids: ArrayLike) -> PromptPool:
        """A pool in which these prompts can no longer be picked; hand it to ``Curriculum.extend``."""
        active = self.active.copy()
        active[self.rows(ids)] = False
        return PromptPool(
            self.ids,
            self.arms,
            arm_names=self.arm_names,
            prior_rate=self.prior_rate,
            expected_tokens=self.expected_tokens,
            active=active,
            generation=self.generation,
            fetch=self.fetch,
        )


def _looked_up(prompt_ids: ArrayLike) -> Ints:
    """Ids to search for; an array of them is taken as it is, as nothing is written to it."""
    if type(prompt_ids) is np.ndarray and prompt_ids.dtype.type is np.int64:
        return prompt_ids
    return prompt_id_array(prompt_ids, "prompt ids")


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


def _same_length(name: str, array: NDArray[Any], size: int) -> None:
    if array.shape != (size,):
        rule = f"`{name}` of `PromptPool` must have one entry a prompt, {size} in all"
        raise InvalidParameter(f"{rule}; got {array.shape}")


def _named(arms: Any, size: int) -> tuple[tuple[str, ...], NDArray[Any]]:
    """Names of the arms, sorted, and the place of each prompt's, from the name of each."""
    given = _arm_names(arms, size)
    _same_length("arms", given, size)
    names, codes = np.unique(given, return_inverse=True)
    return tuple(str(name) for name in names), codes


def _numbered(arms: Any, arm_names: Sequence[str], size: int) -> tuple[tuple[str, ...], NDArray[Any]]:
    """The same from places in a list of names; those that no prompt has are left out."""
    codes = whole_numbers(arms)
    if codes is None or (codes.size and not 0 <= codes.min() <= codes.max() < len(arm_names)):
        raise InvalidParameter(
            f"`arms` of `PromptPool` must be places in `arm_names`, in [0, {len(arm_names)}); got {reprlib.repr(arms)}"
        )
    _same_length("arms", codes, size)
    if len(set(arm_names)) < len(arm_names):
        raise InvalidParameter(f"`arm_names` of `PromptPool` must be distinct; got {reprlib.repr(arm_names)}")
    present = np.flatnonzero(np.bincount(codes, minlength=len(arm_names))).tolist()
    known = sorted(present, key=lambda code: arm_names[code])
    places = np.zeros(len(arm_names), dtype=np.int32)
    places[known] = np.arange(len(known))
    return tuple(arm_names[code] for code in known), places[codes]


def _arm_names(arms: Sequence[str] | NDArray[Any] | None, size: int) -> Strings:
    if arms is None:
        return np.full(size, "default")
    if isinstance(arms, np.ndarray) and arms.dtype.kind == "U":
        return arms
    given = np.asarray(arms, dtype=np.object_)
    if any(arm is None for arm in given.flat):
        raise InvalidParameter("`arms` of `PromptPool` must be names; got None among them")
    return given.astype(np.str_)


def _column(  # noqa: PLR0917  private, and the range is one thing
    name: str, values: ArrayLike | None, order: Ints, allowed: str, low: float, high: float
) -> Floats | None:
    if values is None:
        return None
    rule = f"`{name}` of `PromptPool` must lie in {allowed}, or be NaN where unknown"
    try:
        column = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidParameter(f"{rule}; got {reprlib.repr(values)}") from None
    _same_length(name, column, order.size)
    outside = ~np.isnan(column) & ~((column >= low) & (column <= high))
    if outside.any():
        raise InvalidParameter(f"{rule}; got {column[outside][0]:g}")
    return _frozen(column[order])


def _generations(values: ArrayLike, order: Ints) -> Ints:
    column = whole_numbers(values)
    if column is None or (column.size and int(column.min()) < 0):
        raise InvalidParameter(f"`generation` of `PromptPool` must hold integers >= 0; got {reprlib.repr(values)}")
    _same_length("generation", column, order.size)
    return _frozen(column[order])


def _joined_generations(old: Ints | None, new: ArrayLike | None, n_old: int, n_new: int) -> Ints | None:
    if old is None and new is None:
        return None
    left = np.zeros(n_old, dtype=np.int64) if old is None else old
    right = np.zeros(n_new, dtype=np.int64) if new is None else np.asarray(new)
    return np.concatenate([left, right])


def _joined(old: Floats | None, new: ArrayLike | None, n_old: int, n_new: int) -> Floats | None:
    if old is None and new is None:
        return None
    left = np.full(n_old, np.nan) if old is None else old
    right = np.full(n_new, np.nan) if new is None else np.asarray(new, dtype=np.float64)
    return np.concatenate([left, right])
