"""Programs that tests need and a stranger's machine may not have."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from jobs.paths import REPOSITORY

# Programs, separated by commas, without which tests fail rather than skip; `.ci/run` sets it.
REQUIRE = "FARENSE_REQUIRE"
# The Python of an environment that `make llama` makes, or another one.
LLAMA_SERVER_PYTHON = "FARENSE_LLAMA_SERVER_PYTHON"
# The Go compiler of an environment that `make go` makes, or another one.
GO = "FARENSE_GO"
# The Python of an environment that `make peft` makes, or another one.
PEFT_PYTHON = "FARENSE_PEFT_PYTHON"


def required(program: str) -> Path:
    """Return the path of a program, whose Debian package has its name; skip where it is missing."""
    found = shutil.which(program)
    if found is not None:
        return Path(found)
    return missing(program, f"install it (Debian: apt-get install {program})")


def peft_python() -> Path:
    """Return a Python that has torch, transformers and peft; skip where there is none."""
    found = Path(os.environ.get(PEFT_PYTHON) or REPOSITORY / ".venv-peft/bin/python")
    if found.is_file():
        return found
    return missing("peft", f"make peft, or set {PEFT_PYTHON} to a Python that has it")


def llama_server_python() -> Path:
    """Return a Python that has llama.cpp's server (xllamacpp); skip where there is none."""
    found = Path(os.environ.get(LLAMA_SERVER_PYTHON) or REPOSITORY / ".venv-llama/bin/python")
    if found.is_file():
        return found
    return missing(
        "llama", f"make llama, or set {LLAMA_SERVER_PYTHON} to a Python that has xllamacpp"
    )


def go() -> Path:
    """Return a Go compiler; skip where there is none."""
    own = Path(os.environ.get(GO) or REPOSITORY / ".venv-go/bin/go")
    found = own if own.is_file() else shutil.which("go")
    if found is not None:
        return Path(found)
    return missing("go", f"make go, or set {GO} to a Go compiler")


def missing(name: str, advice: str) -> NoReturn:
    """Skip a test that lacks something, or let it fail where that is required."""
    message = f"{name} is missing: {advice}"
    if name in os.environ.get(REQUIRE, "").split(","):
        pytest.fail(message)
    pytest.skip(message)
