"""The outcome of the demonstration, as figures and as a table of plain text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["NOTE", "PHASES", "ArmRow", "DemoResult", "StrategyRow"]

PHASES = ("early", "middle", "late")
"""The thirds of a run."""

NOTE = (
    "The solver is simulated by item-response formulas, and it learns from just what ucb looks for: groups with "
    "signal. So this shows the loop at work, not that a language model would learn faster."
)

_BAR_WIDTH = 7
_NAME_WIDTH = 30


@dataclass(frozen=True, slots=True)
class ArmRow:
    """What became of one arm.

    Attributes:
        arm: its name in the store.
        prompts: how many it has.
        start: mean true pass rate at the start, in [0, 1].
        ucb_share: its share of the picks of ``ucb`` in each phase, in [0, 1].
        uniform_share: the same under ``uniform``.
        end: strategy → mean true pass rate at the end.
    """

    arm: str
    prompts: int
    start: float
    ucb_share: dict[str, float]
    uniform_share: dict[str, float]
    end: dict[str, float]


@dataclass(frozen=True, slots=True)
class StrategyRow:
    """What became of one strategy.

    Attributes:
        strategy: its name.
        run: name of its run in the store.
        signal: share of groups with signal (rewards not all equal) in each phase and in the "whole" run, in [0, 1].
        groups: groups told.
        groups_with_signal: those with signal.
        rollouts: responses spent.
        end: mean true pass rate over all prompts at the end, in [0, 1].
    """

    strategy: str
    run: str
    signal: dict[str, float]
    groups: int
    groups_with_signal: int
    rollouts: int
    end: float


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The table of a demonstration.

    Attributes:
        store: path of the store, with the runs "demo-ucb" and "demo-uniform" in it.
        rounds: rounds of each run.
        batch: prompts a round.
        seed: of noise, luck and strategies.
        prompts: in the store.
        start: mean true pass rate over all prompts at the start.
        arms: one row an arm, the easiest first.
        strategies: one row a strategy.
    """

    store: str
    rounds: int
    batch: int
    seed: int
    prompts: int
    start: float
    arms: tuple[ArmRow, ...]
    strategies: tuple[StrategyRow, ...]

    def row(self, strategy: str) -> StrategyRow:
        """The row of a strategy."""
        return next(row for row in self.strategies if row.strategy == strategy)

    @property
    def signal_ratio(self) -> float:
        """Groups with signal of ``ucb`` for one of ``uniform``, over the whole run; NaN if that has none."""
        uniform = self.row("uniform").signal["whole"]
        return self.row("ucb").signal["whole"] / uniform if uniform else float("nan")

    def as_json(self) -> dict[str, Any]:
        """Everything, as what JSON can hold."""
        figures = {"signal_ratio": self.signal_ratio, "reading": self.reading(), "note": NOTE}
        return {"simulated": True, **asdict(self), **figures}

    def reading(self) -> str:
        """What the figures say, in a few sentences; where ``uniform`` does as well or better, too."""
        ucb, uniform = self.row("ucb"), self.row("uniform")
        text = (
            f"Of the same {ucb.groups:,} groups ucb had {ucb.groups_with_signal:,} with signal, uniform "
            f"{uniform.groups_with_signal:,}: {self.signal_ratio:.2f} times as many. All prompts together went from "
            f"{self.start:.1%} solved to {ucb.end:.1%} under ucb and {uniform.end:.1%} under uniform."
        )
        as_good = [row.arm for row in self.arms if row.end["uniform"] >= row.end["ucb"]]
        if not as_good:
            return f"{text} No arm ended better under uniform."
        return (
            f"{text} On {len(as_good)} of {len(self.arms)} arms uniform ended as high or higher: {', '.join(as_good)}."
        )

    def lines(self) -> list[str]:
        """The table as lines of at most 100 columns, without colour."""
        rollouts = self.row("ucb").rollouts // self.row("ucb").groups
        title = (
            f"A simulated solver, trained twice on {self.prompts:,} prompts: "
            f"{self.rounds} rounds of {self.batch} prompts with {rollouts} rollouts"
        )
        legend = [
            "solved: true pass rate of the solver, averaged over the prompts",
            "early, middle, late: the thirds of a run",
            "groups with signal: prompts with both right and wrong answers in a round; all others teach nothing",
        ]
        return [title, "", *_arm_lines(self), "", *_total_lines(self), "", *legend]


def _arm_lines(result: DemoResult) -> list[str]:
    names = [_shortened(row.arm) for row in result.arms]
    width = max(24, *(len(name) for name in names))
    widest = max(share for row in result.arms for share in row.ucb_share.values())
    cell = 5 + _BAR_WIDTH
    shares = f"share of ucb's picks (an even one: {1 / len(names):.1%})"
    phases = " ".join(f"{phase:<{cell}}" for phase in PHASES)
    lines = [
        f"{'':{width}}  {'solved':>6}  {shares:<{3 * cell + 2}}  solved at the end",
        f"{'arm':{width}}  {'before':>6}  {phases}  {'ucb':>7} {'uniform':>9}",
    ]
    for name, row in zip(names, result.arms, strict=True):
        bars = " ".join(f"{share:>4.0%} {_bar(share / widest):<{_BAR_WIDTH}}" for share in row.ucb_share.values())
        lines.append(f"{name:{width}}  {row.start:>6.0%}  {bars}  {row.end['ucb']:>7.0%} {row.end['uniform']:>9.0%}")
    return lines


def _shortened(name: str) -> str:
    """A name of at most 30 characters: the beginning and the end, which tell levels apart."""
    return name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH // 2 - 1]}…{name[-_NAME_WIDTH // 2 :]}"


def _bar(share: float) -> str:
    eighths = round(share * _BAR_WIDTH * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8]


def _total_lines(result: DemoResult) -> list[str]:
    names = ("before", *PHASES, "whole run", "at the end")
    lines = [f"{'':9}{'solved':>9}  {'groups with signal':<40}{'solved':>14}", f"{'':9}" + _cells(names)]
    for row in result.strategies:
        shares = (f"{row.signal[column]:.0%}" for column in (*PHASES, "whole"))
        lines.append(f"{row.strategy:9}" + _cells((f"{result.start:.1%}", *shares, f"{row.end:.1%}")))
    return lines


def _cells(values: Sequence[str]) -> str:
    return "".join(f"{value:>{width}}" for value, width in zip(values, (9, 9, 9, 9, 12, 15), strict=True))
