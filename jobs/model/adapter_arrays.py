"""Whether the arrays of an adapter are those of a model, by names and shapes, both ways. No MLX.

mlx-lm takes a file that lacks arrays without a word, and those layers stay untrained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from jobs.errors import ModelError


class Shaped(Protocol):
    """An array, or what a file's header says of one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""


def differences(found: Mapping[str, Shaped], fresh: Mapping[str, Shaped]) -> list[str]:
    """Return what sets the arrays of an adapter apart from those of an untrained one."""
    return list(_differences(found, fresh))


def misfit(job: str, found: list[str]) -> ModelError:
    """Return what to tell of the adapter of a job that has such differences."""
    return ModelError(
        f"The adapter of {job} does not fit its model and configuration: {'; '.join(found)}.",
        "Put back the adapter that the job wrote, or train again.",
    )


def _differences(found: Mapping[str, Shaped], fresh: Mapping[str, Shaped]) -> Iterator[str]:
    if missing := sorted(fresh.keys() - found.keys()):
        yield f"it lacks {_counted(missing)}"
    if extra := sorted(found.keys() - fresh.keys()):
        yield f"it has {_counted(extra)}, which the model has not"
    for name in sorted(fresh.keys() & found.keys()):
        if found[name].shape != fresh[name].shape:
            yield f"{name} has the shape {found[name].shape}, expected {fresh[name].shape}"
            return


def _counted(names: list[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}"
