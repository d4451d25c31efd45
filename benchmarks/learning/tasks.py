"""Verifiable tasks for a character-level policy: arms that make problems, and mistakes that look like answers."""

from __future__ import annotations

import re
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


class _Kind(NamedTuple):
    """One kind of task.

    Attributes:
        before: what its prompts begin with.
        text: makes what is asked about, of a size.
        longer: the same text and a little more: one size up.
        solved: of a text the right answer, and what a frequent misunderstanding gives.
    """

    before: str
    text: Callable[[np.random.Generator, int], str]
    longer: Callable[[np.random.Generator, str], str]
    solved: Callable[[str], tuple[str, str]]


def _digits(rng: np.random.Generator, n: int) -> str:
    return "".join(map(str, rng.integers(0, 10, n)))


def _on_digits(letter: str, solved: Callable[[str], tuple[str, str]]) -> _Kind:
    return _Kind(f"{letter}:", _digits, lambda rng, text: text + _digits(rng, 1), solved)


def _each(text: str, changed: Callable[[int], int]) -> str:
    return "".join(str(changed(int(c)) % 10) for c in text)


def _brackets(rng: np.random.Generator, n: int) -> str:
    """Brackets, of which some are closed again and at least one is not."""
    text = ""
    still_open: list[str] = []
    for _ in range(n):
        if still_open and rng.random() < 0.3:
            text += _CLOSES[still_open.pop()]
        else:
            still_open.append(_opened(rng))
            text += still_open[-1]
    return text if still_open else text + "("


def _opened(rng: np.random.Generator) -> str:
    return "([<"[rng.integers(3)]


def _closed(text: str) -> tuple[str, str]:
    """What closes the brackets that are open; the same in the wrong order."""
    still_open: list[str] = []
    for c in text:
        if c in _CLOSES:
            still_open.append(c)
        else:
            still_open.pop()
    closing = "".join(_CLOSES[bracket] for bracket in still_open)
    return closing[::-1], closing


def _sum(rng: np.random.Generator, terms: int) -> str:
    """A chain of sums and differences of one digit by reasoning-gym, its question cut down to the expression."""
    from reasoning_gym import create_dataset

    seed = int(rng.integers(2**31))
    made = create_dataset("chain_sum", min_terms=terms, max_terms=terms, min_digits=1, max_digits=1, size=1, seed=seed)
    expression: str = made[0]["metadata"]["expression"]
    return expression.replace(" ", "")


def _longer_sum(rng: np.random.Generator, text: str) -> str:
    return f"{text}{'+-'[rng.integers(2)]}{rng.integers(1, 10)}"


def _summed(text: str) -> tuple[str, str]:
    total = sum(map(int, re.findall(r"[+-]?\d", text)))
    return str(total), str(total + 1)


_KINDS: dict[str, _Kind] = {
    "ascending": _on_digits("s", lambda text: ("".join(sorted(text)), "".join(sorted(text, reverse=True)))),
    "reversed": _on_digits("r", lambda text: (text[::-1], text)),
    "turned": _on_digits("t", lambda text: (text[1:] + text[0], text[-1] + text[:-1])),
    "largest": _on_digits("m", lambda text: (max(text), text[-1])),
    "smallest": _on_digits("n", lambda text: (min(text), text[0])),
    # Every digit plus one, modulo ten; every digit taken from nine.
    "next": _on_digits("i", lambda text: (_each(text, lambda digit: digit + 1), _each(text, lambda digit: digit - 1))),
    "complement": _on_digits(
        "d", lambda text: (_each(text, lambda digit: 9 - digit), _each(text, lambda digit: 10 - digit))
    ),
    "brackets": _Kind("b:", _brackets, lambda rng, text: text + _opened(rng), _closed),
    "sum": _Kind("", _sum, _longer_sum, _summed),
}


def _posed(arm: str, text: str) -> Problem:
    kind = _KINDS[arm.partition("-")[0]]
    answer, mistaken = kind.solved(text)
    return Problem(f"{kind.before}{text}=", answer, arm, mistaken)


def problem(arm: str, rng: np.random.Generator) -> Problem:
    """Any problem of an arm such as "reversed-4"."""
    kind, size = arm.split("-")
    return _posed(arm, _KINDS[kind].text(rng, int(size)))


def longer(prompt: str, arm: str, rng: np.random.Generator) -> Problem:
    """A problem with a little more to it, and so of the next arm: "r:123=" may become "r:1237="."""
    kind, size = arm.split("-")
    of = _KINDS[kind]
    return _posed(f"{kind}-{int(size) + 1}", of.longer(rng, prompt.removeprefix(of.before).removesuffix("=")))


def drawn(arms: Mapping[str, int], rng: np.random.Generator, *, without: Collection[str] = ()) -> list[Problem]:
    """So many problems of each arm, arm by arm, all different and none of those in ``without``."""
    seen = set(without)
    made: list[Problem] = []
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
