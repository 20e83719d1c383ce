"""A workspace without a queue, for what jobs do alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.paths import Workspace


@pytest.fixture
def alone(tmp_path: Path) -> Workspace:
    """An empty workspace: no server, no daemon."""
    return Workspace(tmp_path)
