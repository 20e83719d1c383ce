"""The page of a workspace, served."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobs.paths import Workspace
from tests.helpers.page_process import PageProcess, serving


@pytest.fixture
def page(workspace: Workspace) -> Iterator[PageProcess]:
    """The page of the workspace, in a process of its own."""
    with serving(workspace) as page:
        yield page
