"""Attempts at a job in this process, and what they leave."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import TypeVar

from jobs.events import Event, PrefixCached, Warned
from jobs.paths import RunDirectory, Workspace
from jobs.spec import read_spec
from jobs.training.session import train
from tests.helpers.runs import numbers

Kind = TypeVar("Kind", bound=Event)
Listener = Callable[[Event], object]


def attempt(
    workspace: Workspace,
    run: RunDirectory,
    *,
    on_event: Listener = lambda event: None,
    stop: Callable[[], str | None] = lambda: None,
    splits: int = 0,
) -> list[Event]:
    """Run one attempt at a job and return what it said."""
    said: list[Event] = []

    def emit(event: Event) -> None:
        said.append(event)
        on_event(event)

    train(workspace, read_spec(run), emit, stop, splits)
    return said


def only(kind: type[Kind], said: list[Event]) -> list[Kind]:
    """Return the events of one kind."""
    return [event for event in said if isinstance(event, kind)]


def warnings(said: list[Event]) -> str:
    """Return all warnings as one text."""
    return "\n".join(event.message for event in only(Warned, said))


def computed(said: list[Event]) -> dict[str, int]:
    """Return how many examples of which data file were put into the prefix cache."""
    return {event.data: event.examples for event in only(PrefixCached, said)}


def evict(workspace: Workspace) -> None:
    """Remove the prefix cache, whoever uses it."""
    shutil.rmtree(workspace.prefix_cache)


def result(run: RunDirectory) -> tuple[bytes, list[dict[str, object]]]:
    """Return the best adapter's bytes and the metrics rows without times."""
    return (run.adapters / "adapters.safetensors").read_bytes(), numbers(run)
