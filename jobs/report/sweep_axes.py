"""Where trials lie on the axes of parallel coordinates: from 0 to 1, with ticks. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobs.report.curves import WIDE
from jobs.report.plot import short
from jobs.report.sweep_data import Swept
from jobs.report.tables import text_of
from jobs.storage.formatting import amount
from jobs.storage.values import finite
from jobs.sweep.space import Choice, Dimension, Scalar, label
from jobs.sweep.trial import Trial

# Trials without a value, beyond the end of the objective's axis.
BEYOND = 1.14
LABEL = 18
# Of a unit: how far apart trials with the same value of a category are drawn.
SPREAD = 0.045
# Ticks whose numbers would cover one another are left out.
APART = 0.13


@dataclass(frozen=True)
class Axis:
    """An axis of parallel coordinates.

    Attributes:
        title: what stands above it.
        ticks: places from 0 to 1, with what stands there.
        places: of the trials, in their order; None where one has no such value.
    """

    title: str
    ticks: Sequence[tuple[float, str]]
    places: Sequence[float | None]


def axes_of(swept: Swept) -> list[Axis]:
    """Return an axis for each searched setting, and the one of the objective at last."""
    found = [
        _axis(name, dimension, swept.trials) for name, dimension in swept.spec.plan.space.items()
    ]
    return [*found, _objective(swept)]


def _axis(name: str, dimension: Dimension, trials: Sequence[Trial]) -> Axis:
    params = [trial.params.get(name) for trial in trials]
    if isinstance(dimension, Choice):
        known = [name in trial.params for trial in trials]
        return _categories(name, dimension, params, known, [trial.number for trial in trials])
    values = [finite(value) for value in params]
    low, high = float(dimension.low), float(dimension.high)
    title = f"{name} (log scale)" if dimension.log else name
    return _numbers(title, values, low, high, log=dimension.log)


def _categories(
    name: str,
    choice: Choice,
    params: Sequence[Scalar],
    known: Sequence[bool],
    numbers: Sequence[int],
) -> Axis:
    labels = [label(value) for value in choice.choices]
    last = len(labels) - 1
    middle = [place / last if last else 0.5 for place in range(len(labels))]
    every = max(1, math.ceil(len(labels) * APART))
    ticks = [
        (place, short(_choice(value), LABEL))
        for place, value in list(zip(middle, choice.choices, strict=True))[::every]
    ]
    places: list[float | None] = []
    for value, there, number in zip(params, known, numbers, strict=True):
        found = next((n for n, one in enumerate(labels) if _same(one, value)), None)
        if found is None or not there:
            places.append(None)
        else:
            # Always the same for a trial, so that a line can be followed from axis to axis.
            places.append(middle[found] + SPREAD * ((number * 0.618) % 1 - 0.5))
    return Axis(name, ticks, places)


def _choice(value: Any) -> str:
    """Return a choice as there is room for it: of a dotted name the last part tells most."""
    if isinstance(value, list | tuple):
        return ", ".join(str(one).rpartition(".")[2] for one in value)
    return text_of(value)


def _objective(swept: Swept) -> Axis:
    ranked = {trial.number for trial in swept.ranked}
    values = [trial.value if trial.number in ranked else None for trial in swept.trials]
    known = [value for value in values if value is not None]
    better = "higher" if swept.spec.plan.maximizes else "lower"
    title = f"{swept.spec.plan.objective} ({better} is better"
    without = [(BEYOND, "no value")] if len(known) < len(values) else []
    if not known:
        return Axis(f"{title})", without, [BEYOND for _ in values])
    low, high = min(known), max(known)
    log = low > 0 and high / low >= WIDE
    title += ", log scale)" if log else ")"
    if low == high:
        places: Sequence[float | None] = [BEYOND if value is None else 0.5 for value in values]
        return Axis(title, [(0.5, f"{low:.4g}"), *without], places)
    axis = _numbers(title, values, low, high, log=log)
    found = [BEYOND if place is None else place for place in axis.places]
    return Axis(title, [*axis.ticks, *without], found)


def _numbers(
    title: str, values: Sequence[float | None], low: float, high: float, *, log: bool
) -> Axis:
    def place(value: float) -> float:
        if log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    # A damaged file may hold what the range does not.
    inside = [value is not None and low <= value <= high for value in values]
    places = [
        place(value) if value is not None and there else None
        for value, there in zip(values, inside, strict=True)
    ]
    return Axis(title, _ticks(low, high, log=log), places)


def _ticks(low: float, high: float, *, log: bool) -> list[tuple[float, str]]:
    """Return the ends, and between them what there is room for."""
    ticks = [(0.0, _number(low)), (1.0, _number(high))]
    if log:
        span = math.log(high / low)
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        steps = (1, 2, 5) if last - first <= 2 else (1,)
        inner = [n * 10.0**power for power in range(first, last + 1) for n in steps]
        places = [(math.log(v / low) / span, v) for v in inner if low < v < high]
    else:
        places = [(part / 4, low + (high - low) * part / 4) for part in range(1, 4)]
        if float(low).is_integer() and float(high).is_integer():
            places = [((round(v) - low) / (high - low), round(v)) for _, v in places]
    for place, value in places:
        if all(abs(place - other) >= APART for other, _ in ticks):
            ticks.append((place, _number(value)))
    return sorted(ticks)


def _number(value: float) -> str:
    return amount(value) if abs(value) >= 100 else f"{value:.4g}"


def _same(one: Scalar, other: Scalar) -> bool:
    # 1 and true are equal in Python, and are two values of a setting.
    return one == other and isinstance(one, bool) is isinstance(other, bool)
