"""What a language model is asked in order to make a new prompt of an old one, and how its reply is read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from curri.rollouts.verifiers.extraction import after_thinking, marked
from curri.types import Refusal

if TYPE_CHECKING:
    from curri.types import Prompt

IN_DEPTH: Final[dict[str, str]] = {
    "add a condition": "Put one more condition on it that whoever solves it has to respect as well.",
    "add a step": "Change it so that the way to the answer takes one more step, which builds on those before.",
    "go deeper": "Make what it asks for now an intermediate result, and ask for something that follows from that.",
    "make concrete": "Put particular things, numbers or places where it speaks in general, to be watched closely.",
}
"""Rewrites that make a prompt harder: name → instruction. The kinds are those of eva's creator, the wording is ours."""

IN_BREADTH: Final[dict[str, str]] = {
    "sibling": "Leave this one alone: the new problem is about something else of the same field that is asked less "
    "often, about as long and about as hard."
}
"""Rewrites that give another prompt of the same kind."""

LONGEST_ANSWER: Final = 1000

_PROBLEM_HERE = "(the new problem)"
_ANSWER_HERE = "(its final answer, and nothing else)"

# Never two runs of spaces side by side: a reply of nothing but spaces would take minutes.
_HEADING = re.compile(
    r"^[ \t]*(?:#{1,6}[ \t]*)?(?:(?:\*\*|__)[ \t]*)?(?:the[ \t]+)?(?P<name>new[ \t]+problem|problem|answer)"
    r"(?P<end>[ \t]*:?[ \t]*(?:\*\*|__)?[ \t]*:?)(?P<rest>[^\n]*)$",
    re.IGNORECASE | re.MULTILINE,
)
_MARKS = "#*_"
_FENCE = re.compile(r"^[ \t]*```\w*[ \t]*$", re.MULTILINE)


def problem_of(prompt: Prompt) -> str | Refusal:
    """The text that is to be rewritten: of a chat, what the user said last.

    >>> from curri.types import Prompt
    >>> problem_of(Prompt(1, [{"role": "user", "content": "1 + 1 = ?"}], "2", "sums", {}))
    '1 + 1 = ?'
    """
    if isinstance(prompt.prompt, str):
        return prompt.prompt
    said = [message for message in prompt.prompt if message.get("role") == "user"]
    if not said or not isinstance(said[-1].get("content"), str):
        return Refusal("the last thing that the user says in it is no text")
    return str(said[-1]["content"])


def with_problem(parent: Prompt, problem: str) -> str | list[dict[str, Any]]:
    """A prompt like ``parent`` with another problem: a text, or the same chat with another last question."""
    if isinstance(parent.prompt, str):
        return problem
    last = max(place for place, message in enumerate(parent.prompt) if message.get("role") == "user")
    return [*parent.prompt[:last], {**parent.prompt[last], "content": problem}]


def request_text(problem: str, answer: str | None, instruction: str) -> str:
    """What the model is asked."""
    old = f"### PROBLEM\n{problem}\n" + ("" if answer is None else f"### ANSWER\n{answer}\n")
    form = f"### NEW PROBLEM\n{_PROBLEM_HERE}\n"
    if answer is not None:
        form += f"### ANSWER\n{_ANSWER_HERE}\n"
    one_answer = "" if answer is None else ", has exactly one right answer, which is of the same form as the one above,"
    return (
        f"Here is a problem.\n\n{old}\nWrite a new problem, starting from this one. {instruction} "
        f"The new problem can be understood without the old one{one_answer} and gives no hint at its own solution. "
        f"Reply in this form, with the headings as they are here, and write nothing else:\n\n{form}"
    )


def solve_text(problem: str) -> str:
    """What the model is asked in order to see whether it comes to the same answer."""
    return f"{problem}\n\nSolve this. At the end, write the final answer alone between <answer> and </answer>."


def parsed(reply: str, *, with_answer: bool) -> tuple[str, str | None] | Refusal:
    r"""Problem and answer that a reply holds.

    There must be one heading for the problem and, where there is to be an answer, one for it after that; each marked as
    a heading by "#", by "**" or by a colon. What stands before them is left aside, and so is what follows an answer
    after an empty line. Of an answer in tags or in ``\boxed{}`` only what is inside counts.

    >>> parsed("Sure!\n### NEW PROBLEM\n2 + 3 = ?\n**Answer:** 5\n\nThat was fun.", with_answer=True)
    ('2 + 3 = ?', '5')
    >>> parsed("2 + 3 = 5", with_answer=True).reason
    'it has no heading for the problem'
    """
    text = _FENCE.sub("", after_thinking(reply))
    headings = [found for found in _HEADING.finditer(text) if _is_heading(found)]
    try:
        start = _only("problem", [h for h in headings if _names(h, "new")] or [h for h in headings if _names(h, "")])
        answers = [h for h in headings if h["name"].casefold() == "answer" and h.start() > start.start()]
        end = _only("answer", answers) if with_answer else None
        cut = answers[0].start() if answers else len(text)
        problem = _filled("problem", text[start.start("rest") : cut].strip(), _PROBLEM_HERE)
        if end is None:
            return problem, None
        answer = _filled("answer", _final(text[end.start("rest") :]), _ANSWER_HERE)
    except _Unreadable as error:
        return Refusal(str(error), code="unparsable")
    if len(answer) > LONGEST_ANSWER:
        return Refusal(f"its answer is longer than {LONGEST_ANSWER:,} characters", code="unparsable")
    return problem, answer


class _Unreadable(Exception):
    """Why a reply cannot be used."""


def _names(heading: re.Match[str], beginning: str) -> bool:
    name = heading["name"].casefold()
    return name.endswith("problem") and name.startswith(beginning)


def _only(what: str, headings: list[re.Match[str]]) -> re.Match[str]:
    if len(headings) != 1:
        raise _Unreadable(f"it has {len(headings) or 'no'} heading{'s' * (len(headings) > 1)} for the {what}")
    return headings[0]


def _filled(what: str, text: str, placeholder: str) -> str:
    if not text or text == placeholder:
        raise _Unreadable(f"its {what} is empty")
    return text


def _is_heading(found: re.Match[str]) -> bool:
    return found[0].lstrip()[0] in _MARKS or ":" in found["end"]


def _final(text: str) -> str:
    inside = marked(text)
    if inside is not None:
        return inside
    paragraph: str = re.split(r"\n[ \t]*\n", text.strip(), maxsplit=1)[0]
    return paragraph.strip().strip("*").strip()
