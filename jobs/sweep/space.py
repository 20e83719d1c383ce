"""The search space of a sweep: for each setting, what may be tried.

A list is a choice among values; ``{low, high}`` is a range of numbers, with ``log: true`` an even
spread over orders of magnitude, with ``step`` a grid of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

import orjson
from pydantic import Field, field_validator, model_validator

from jobs.config.config import ConfigModel

# More than any night tries.
MOST_VALUES = 1_000

Scalar = bool | int | float | str | None


class Choice(ConfigModel):
    """One of some values.

    They may be anything a setting may be; each is known to the sampler by its :func:`label`.
    """

    choices: Annotated[tuple[Any, ...], Field(strict=False, min_length=1, max_length=MOST_VALUES)]

    @field_validator("choices")
    @classmethod
    def _each_once(cls, choices: tuple[Any, ...]) -> tuple[Any, ...]:
        try:
            labels = [label(value) for value in choices]
        except TypeError as error:  # a list that contains itself
            raise ValueError(f"a value is no plain data: {error}") from error
        if odd := [found for found in labels if isinstance(found, float) and found - found != 0]:
            raise ValueError(f"{odd[0]} is no number to try")
        if twice := next((found for found in labels if _count(labels, found) > 1), None):
            raise ValueError(f"{twice!r} is there twice")
        return choices

    def values(self) -> tuple[Any, ...]:
        """Return all values."""
        return self.choices

    def ends(self) -> tuple[Any, ...]:
        """Return the values by which to see whether all are allowed."""
        return self.choices

    def value_of(self, chosen: Scalar) -> Any:
        """Return the value that the sampler chose by its label."""
        return next(value for value in self.choices if label(value) == chosen)


class Range(ConfigModel):
    """A number from ``low`` to ``high``, both included; whole where both are."""

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"with log, low must be above 0 (given: {self.low})")
        if self.log and self.step is not None:
            raise ValueError("log and step cannot be combined")
        if self.whole and isinstance(self.step, float):
            raise ValueError(f"the step between whole numbers is whole (given: {self.step})")
        return self

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def values(self) -> tuple[int | float, ...] | None:
        """Return all values; None where they are not countable, or more than any night tries."""
        step = self.step or (1 if self.whole else None)
        if step is None:
            return None
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        if count > MOST_VALUES:
            return None
        return tuple(self.value_of(self.low + number * step) for number in range(count))

    def ends(self) -> tuple[Any, ...]:
        """Return the values by which to see whether all are allowed."""
        return self.low, self.high

    def value_of(self, chosen: Scalar) -> Any:
        """Return the number that the sampler chose.

        Of those with a step as a person would write it: 0.05 + 0.01 is no 0.06 otherwise.
        """
        if self.step is None or not isinstance(chosen, float):
            return chosen
        return round(chosen, 12)


Dimension = Choice | Range


def dimension(values: Any) -> Any:
    """Return what a sweep file says of a setting, a list being a choice, as pydantic takes it.

    Raises:
        ValueError: it is neither a list nor a range.
    """
    if isinstance(values, Choice | Range):
        return values
    if isinstance(values, list | tuple):
        return {"choices": values}
    if isinstance(values, dict) and {"low", "high", "choices"} & values.keys():
        return values
    raise ValueError("expected a list of values, or {low: ..., high: ...}")


def label(value: Any) -> Scalar:
    """Return the name by which a sampler knows a value: itself, or its JSON where it is a list."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return orjson.dumps(value).decode()


def settings_of(space: Mapping[str, Dimension], params: Mapping[str, Scalar]) -> dict[str, Any]:
    """Return the settings that a sampler's choice stands for, by their dotted names."""
    return {name: space[name].value_of(chosen) for name, chosen in params.items()}


def grid(space: Mapping[str, Dimension], warm: str) -> Iterator[dict[str, Scalar]]:
    """Yield every point of a countable space, those with the same value of ``warm`` together.

    What jobs with the same value of it share is then computed once, and still there.
    """
    yield from _product([(warm, space[warm])] if warm in space else [], space, warm)


def size(space: Mapping[str, Dimension]) -> int | None:
    """Return how many points there are; None where they are not countable."""
    total = 1
    for found in space.values():
        values = found.values()
        if values is None:
            return None
        total *= len(values)
    return total


def _product(
    first: list[tuple[str, Dimension]], space: Mapping[str, Dimension], warm: str
) -> Iterator[dict[str, Scalar]]:
    ordered = [*first, *((name, found) for name, found in space.items() if name != warm)]
    yield from _points(ordered)


def _points(dimensions: list[tuple[str, Dimension]]) -> Iterator[dict[str, Scalar]]:
    if not dimensions:
        yield {}
        return
    (name, first), *rest = dimensions
    for value in first.values() or ():
        for others in _points(rest):
            yield {name: label(value), **others}


def _count(labels: list[Scalar], wanted: Scalar) -> int:
    # 1 and true are equal in Python, and are two values of a setting; 4 and 4.0 are one.
    alike = (found for found in labels if isinstance(found, bool) == isinstance(wanted, bool))
    return sum(found == wanted for found in alike)
