"""Functions of mlx-lm that a model computes with, exchanged for ours, and put back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from jobs.backend.mlx import nn

# A module counts as one: what is called in it is looked up there.
Function = Callable[..., Any] | ModuleType


class Exchange:
    """Some functions of mlx-lm, and ours for each.

    They are exchanged in the Python modules that define the architecture and its parts (a text
    model within one for pictures, experts), which import them by name, for the whole process: a
    training child has one model and ends with its job.

    Args:
        functions: the name of each, mlx-lm's function and ours.
    """

    def __init__(self, *functions: tuple[str, Function, Function]) -> None:
        self.functions = functions

    def put_in(self, model: nn.Module) -> list[str]:
        """Let a model compute with ours; return the names of those that it uses."""
        for library, name, ours in self._places(model):
            setattr(library, name, ours)
        return self.used(model)

    def used(self, model: nn.Module) -> list[str]:
        """Return the names of ours that the model computes with."""
        found = {
            name for library, name, ours in self._places(model) if getattr(library, name) is ours
        }
        return [name for name, _, _ in self.functions if name in found]

    def put_back(self, model: nn.Module) -> None:
        """Let the model compute with mlx-lm's own again."""
        originals = {name: theirs for name, theirs, _ in self.functions}
        for library, name, _ in self._places(model):
            setattr(library, name, originals[name])

    def _places(self, model: nn.Module) -> list[tuple[ModuleType, str, Function]]:
        """Return where a model looks one of the functions up: module, name, and ours."""
        names = {type(part).__module__: None for part in model.modules()}
        libraries = [name for name in names if not name.startswith("jobs.")]
        return [
            (library, name, ours)
            for library in map(sys.modules.__getitem__, libraries)
            for name, theirs, ours in self.functions
            if getattr(library, name, None) in (theirs, ours)
        ]
