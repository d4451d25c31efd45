"""A replay of many strategies as one plain JSON document: what the table, the page and ``--json`` show."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from curri._version import __version__
from curri.errors import InvalidInput, MissingExtra
from curri.simulation.bound import Coverage, best_live_share, live_chance, top_tenth
from curri.simulation.foretold import DISCOUNTS, by_discount, by_strategy, first_quarter, foretells
from curri.simulation.parallel import in_parallel
from curri.simulation.records import WINDOW
from curri.simulation.replay import Entry, Replayed, fitting, heeds_prior, play_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from curri.simulation.foretold import Excess
    from curri.simulation.records import Curves, Records

__all__ = ["FORMAT", "WANTED", "ReplaySettings", "replay_document"]

FORMAT = "curri replay report 1"
WANTED = Coverage(top=0.3, least=3)
"""The coverage that strategies are held to."""
_TOPS = (0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8)
_BINS = 50
_NO_BOUND = "the bound under coverage needs scipy, which is not installed (pip install 'curri[mix]')"


@dataclass(frozen=True, kw_only=True)
class ReplaySettings:
    """How a replay is played.

    Attributes:
        strategies: names; all that can be replayed if None.
        parameters: strategy → its parameters other than the defaults.
        steps: of the replay.
        batch: prompts of a step.
        group_size: rollouts of a prompt; as most visits of the record if None.
        seeds: how many, from 0.
        window: visits that the moving average spans.
        jobs: processes.
    """

    strategies: tuple[str, ...] | None = None
    parameters: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    steps: int = 500
    batch: int = 64
    group_size: int | None = None
    seeds: int = 10
    window: int = WINDOW
    jobs: int = 1


def replay_document(
    records: Records,
    settings: ReplaySettings,
    *,
    tell: Callable[[int, int | None, str], None] = lambda *_: None,
) -> dict[str, Any]:
    """Replay strategies on a record, and compare them with each other and with full knowledge.

    Args:
        records: the run.
        settings: how.
        tell: is told how far it is: runs done, of how many, and what is being done.

    Raises:
        InvalidInput, InvalidParameter, UnknownName: settings that do not fit the record.
    """
    size = max(records.group_size, 2) if settings.group_size is None else settings.group_size
    curves = records.curves(settings.steps, settings.window)
    names, left_out = fitting(settings.strategies)
    if not names:
        reasons = "; ".join(f"{name} {why}" for name, why in left_out.items())
        raise InvalidInput(f"none of these strategies can be replayed: {reasons}", hint="curri strategies lists all")
    shared = {"batch": settings.batch, "group_size": size}
    entries = _entries(curves, names, settings, shared)
    runs = play_all(curves, entries, **shared, seeds=range(settings.seeds), jobs=settings.jobs, progress=tell)
    tell(0, None, "bounds")
    bounds = _Bounds(curves, **shared)
    by_entry = [runs[place : place + settings.seeds] for place in range(0, len(runs), settings.seeds)]
    rows = [_row(entry, mine, size, bounds) for entry, mine in zip(entries, by_entry, strict=True)]
    tell(0, None, "pass rates of the recorded visits")
    contact = first_quarter(records, window=settings.window)
    found: dict[str, Any] = _plain(
        {
            "format": FORMAT,
            "curri": __version__,
            "data": _data(records, curves, size),
            "settings": {
                "steps": settings.steps,
                "batch": settings.batch,
                "group_size": size,
                "seeds": settings.seeds,
                "window": settings.window,
                "parameters": {name: dict(each) for name, each in settings.parameters.items()},
            },
            "bounds": bounds.document(),
            "strategies": sorted(rows, key=lambda row: -row["live"]["mean"]),
            "left_out": left_out,
            "foretold": [dataclasses.asdict(each) for each in _foretold(records, names, settings.jobs)],
            "first_contact": None if contact is None else dataclasses.asdict(contact),
        }
    )
    return found


def _entries(curves: Curves, names: Sequence[str], settings: ReplaySettings, shared: Mapping[str, int]) -> list[Entry]:
    plain = [Entry(name, settings.parameters.get(name, {})) for name in names]
    heeding = [name for name in names if heeds_prior(curves, name, **shared)]
    return [*plain, *(Entry(name, settings.parameters.get(name, {}), with_prior=True) for name in heeding)]


def _data(records: Records, curves: Curves, size: int) -> dict[str, Any]:
    return {
        "source": records.source,
        "fingerprint": records.fingerprint(),
        "prompts": len(records),
        "arms": int(np.unique(records.arms).size),
        "visits": int(records.successes.size),
        "by": records.by,
        "rollouts": int(records.trials.sum()),
        "left_out": records.left_out,
        "with_prior": 0 if records.prior is None else int((~np.isnan(records.prior)).sum()),
        "live_chance": float(live_chance(curves.rates, size).mean()),
        "flat": float(np.mean((curves.rates <= 0.0) | (curves.rates >= 1.0))),
    }


# --- strategies -------------------------------------------------------------------------------------------------------


def _row(entry: Entry, runs: Sequence[Replayed], size: int, bounds: _Bounds) -> dict[str, Any]:
    found = [run.figures(size) for run in runs]
    live_share, top, below = (float(np.mean([each[name] for each in found])) for name in ("live", "top", "below_3"))
    best = bounds.at(Coverage(top=_upwards(top), least=0 if below else WANTED.least))
    steps = runs[0].live.size
    parts = np.array_split(np.arange(steps), min(_BINS, steps))
    live = np.sum([run.live for run in runs], axis=0)
    rollouts = np.sum([run.rollouts for run in runs], axis=0) / size
    return {
        "strategy": entry.strategy,
        "label": entry.label,
        "with_prior": entry.with_prior,
        **{name: _mean([each[name] for each in found]) for name in found[0]},
        "keeps_coverage": not below and top <= WANTED.top,
        "bound": best,
        "of_bound": None if best is None else live_share / best,
        "course": [
            {"step": int(part[-1]) + 1, "live": float(live[part].sum() / max(rollouts[part].sum(), 1.0))}
            for part in parts
        ],
        "runs": found,
    }


def _mean(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and standard error over seeds."""
    column = np.array(values, dtype=np.float64)
    se = float(column.std(ddof=1) / math.sqrt(column.size)) if column.size > 1 else None
    return {"mean": float(column.mean()), "se": se}


def _upwards(share: float) -> float:
    """To three decimals, never below: a bound is worked out once for shares that are as good as the same."""
    return min(1.0, math.ceil(share * 1000.0) / 1000.0)


def _foretold(records: Records, names: Sequence[str], jobs: int) -> list[Excess]:
    able = [(name,) for name in names if foretells(records, name)]
    ours = dict(in_parallel(by_strategy, able, shared=records, jobs=jobs))
    found = [each for place in range(len(able)) if (each := ours[place]) is not None]
    return [*found, *(by_discount(records, discount) for discount in (*DISCOUNTS, 0.0))]


# --- bounds -----------------------------------------------------------------------------------------------------------


class _Bounds:
    """Full-knowledge bounds, each worked out once."""

    def __init__(self, curves: Curves, *, batch: int, group_size: int) -> None:
        self._rates, self._batch, self._size = curves.rates, batch, group_size
        self._known: dict[Coverage, float | None] = {}
        self.note = ""

    def at(self, coverage: Coverage) -> float | None:
        if coverage not in self._known:
            try:
                self._known[coverage] = best_live_share(self._rates, self._batch, self._size, coverage)
            except MissingExtra:
                self.note = _NO_BOUND
                self._known[coverage] = None
        return self._known[coverage]

    def document(self) -> dict[str, Any]:
        front = [(top, least, self.at(Coverage(top, least))) for least in (WANTED.least, 0) for top in (*_TOPS, 1.0)]
        return {
            "free": self.at(Coverage()),
            "wanted": {"top": WANTED.top, "least": WANTED.least, "live": self.at(WANTED)},
            "tenth": top_tenth(self._rates.shape[1]),
            "front": [{"top": top, "least": least, "live": live} for top, least, live in front if live is not None],
            "note": self.note,
        }


def _plain(value: Any) -> Any:
    """Plain JSON: null for what is not a number."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
