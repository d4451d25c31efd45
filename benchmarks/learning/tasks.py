"""Verifiable tasks for a character-level policy: arms that make problems, and mistakes that look like answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

CHARACTERS = "0123456789+-=:srtmnbid()[]<>"
"""Every character of a problem or an answer."""
_PATIENCE = 1000
_CLOSES = {"(": ")", "[": "]", "<": ">"}


class Problem(NamedTuple):
    """One problem.

    Attributes:
        prompt: what the policy reads; it names the kind of task by its form.
        answer: the only right answer, character for character.
        arm: kind and size.
        mistaken: what a frequent misunderstanding of this kind of task gives.
    """

    prompt: str
    answer: str
    arm: str
    mistaken: str


class _Made(NamedTuple):
    prompt: str
    answer: str
    mistaken: str


def _digits(rng: np.random.Generator, n: int) -> str:
    return "".join(map(str, rng.integers(0, 10, n)))


def _ascending(rng: np.random.Generator, n: int) -> _Made:
    text = _digits(rng, n)
    return _Made(f"s:{text}=", "".join(sorted(text)), "".join(sorted(text, reverse=True)))


def _reversed(rng: np.random.Generator, n: int) -> _Made:
    text = _digits(rng, n)
    return _Made(f"r:{text}=", text[::-1], text)


def _turned(rng: np.random.Generator, n: int) -> _Made:
    text = _digits(rng, n)
    return _Made(f"t:{text}=", text[1:] + text[0], text[-1] + text[:-1])


def _largest(rng: np.random.Generator, n: int) -> _Made:
    text = _digits(rng, n)
    return _Made(f"m:{text}=", max(text), text[-1])


def _smallest(rng: np.random.Generator, n: int) -> _Made:
    text = _digits(rng, n)
    return _Made(f"n:{text}=", min(text), text[0])


def _next(rng: np.random.Generator, n: int) -> _Made:
    """Every digit plus one, modulo ten."""
    text = _digits(rng, n)
    return _Made(
        f"i:{text}=", "".join(str((int(c) + 1) % 10) for c in text), "".join(str((int(c) - 1) % 10) for c in text)
    )


def _complement(rng: np.random.Generator, n: int) -> _Made:
    """Every digit taken from nine."""
    text = _digits(rng, n)
    return _Made(f"d:{text}=", "".join(str(9 - int(c)) for c in text), "".join(str((10 - int(c)) % 10) for c in text))


def _brackets(rng: np.random.Generator, n: int) -> _Made:
    """Brackets, of which some are closed again; the answer closes the others."""
    text, still_open = "", []
    for _ in range(n):
        if still_open and rng.random() < 0.3:
            text += _CLOSES[still_open.pop()]
        else:
            still_open.append("([<"[rng.integers(3)])
            text += still_open[-1]
    if not still_open:
        still_open, text = ["("], text + "("
    closing = "".join(_CLOSES[bracket] for bracket in still_open)
    return _Made(f"b:{text}=", closing[::-1], closing)


def _sum(rng: np.random.Generator, terms: int) -> _Made:
    """A chain of sums and differences of one digit by reasoning-gym, its question cut down to the expression."""
    from reasoning_gym import create_dataset

    seed = int(rng.integers(2**31))
    made = create_dataset("chain_sum", min_terms=terms, max_terms=terms, min_digits=1, max_digits=1, size=1, seed=seed)
    answer = int(made[0]["answer"])
    return _Made(made[0]["metadata"]["expression"].replace(" ", "") + "=", str(answer), str(answer + 1))


_KINDS: dict[str, Callable[[np.random.Generator, int], _Made]] = {
    "ascending": _ascending,
    "reversed": _reversed,
    "turned": _turned,
    "largest": _largest,
    "smallest": _smallest,
    "next": _next,
    "complement": _complement,
    "brackets": _brackets,
    "sum": _sum,
}


def problem(arm: str, rng: np.random.Generator) -> Problem:
    """Any problem of an arm such as "reversed-4"."""
    kind, size = arm.split("-")
    made = _KINDS[kind](rng, int(size))
    return Problem(made.prompt, made.answer, arm, made.mistaken)


def drawn(arms: Mapping[str, int], rng: np.random.Generator, *, without: Collection[str] = ()) -> list[Problem]:
    """So many problems of each arm, arm by arm, all different and none of those in ``without``."""
    seen, made = set(without), []
    for arm, n in arms.items():
        tries, end = 0, len(made) + n
        while len(made) < end:
            one, tries = problem(arm, rng), tries + 1
            if one.prompt not in seen:
                seen.add(one.prompt)
                made.append(one)
            elif tries > _PATIENCE * n:
                raise ValueError(f"{arm} has not {n} different problems")
    return made


def demonstration(arm: str, right: float, rng: np.random.Generator, *, without: Collection[str]) -> Problem:
    """A problem with an answer as a warm start shows it: right with a chance about ``right``, else a mistake.

    The chance falls with the first digit (or bracket) of the problem, so that an arm's problems differ in difficulty.
    Half of the mistakes are the misunderstanding of the kind, half a slip: one character is another.
    """
    one = drawn({arm: 1}, rng, without=without)[0]
    place = CHARACTERS.index(one.prompt[2 if ":" in one.prompt else 0]) % 10 / 4.5 - 1.0
    odds = right / (1.0 - right) * np.exp(-1.2 * place)
    if rng.random() < odds / (1.0 + odds):
        return one
    if rng.random() < 0.5 and one.mistaken != one.answer:
        return one._replace(answer=one.mistaken)
    at = int(rng.integers(len(one.answer)))
    others = [c for c in ("()[]<>" if one.answer[at] in "()[]<>" else "0123456789") if c != one.answer[at]]
    return one._replace(answer=one.answer[:at] + others[rng.integers(len(others))] + one.answer[at + 1 :])
