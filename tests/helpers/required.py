"""Programs that tests need and a stranger's machine may not have."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

# Programs, separated by commas, without which tests fail rather than skip; `.ci/run` sets it.
REQUIRE = "FARENSE_REQUIRE"


def required(program: str) -> Path:
    """Return the path of a program, whose Debian package has its name; skip where it is missing."""
    found = shutil.which(program)
    if found is not None:
        return Path(found)
    message = f"{program} is missing: install it (Debian: apt-get install {program})"
    if program in os.environ.get(REQUIRE, "").split(","):
        pytest.fail(message)
    pytest.skip(message)
