"""A workspace without a queue, for what jobs do alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from jobs.paths import Workspace
from jobs.prefix.cache import PrefixCache
from tests.helpers.prefix import Filler, Filling


@pytest.fixture
def alone(tmp_path: Path) -> Workspace:
    """An empty workspace: no server, no daemon."""
    return Workspace(tmp_path)


@pytest.fixture
def cache(alone: Workspace) -> PrefixCache:
    """An empty prefix cache."""
    return PrefixCache(alone.prefix_cache, budget_gb=1)


@pytest.fixture
def filling(cache: PrefixCache) -> Filling:
    """What fills it, in this process."""
    return Filling(cache)


@pytest.fixture
def filler(alone: Workspace, tmp_path: Path) -> Iterator[Callable[..., Filler]]:
    """A function that starts a process which fills the entry `a`."""
    with ExitStack() as started:

        def start(name: str = "filler", **options: int) -> Filler:
            process = Filler(alone.prefix_cache, tmp_path / name, **options)
            started.callback(process.kill)
            return process

        yield start
