"""Imports flow one way: cli -> daemon -> jobs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from jobs.paths import REPOSITORY

FORBIDDEN = {
    "jobs": {"cli", "daemon", "redis", "huey", "click"},
    "daemon": {"cli", "click"},
}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    modules = sorted((REPOSITORY / package).rglob("*.py"))
    assert modules
    offenders = {path.name: imported(path) & FORBIDDEN[package] for path in modules}
    assert not {name: found for name, found in offenders.items() if found}


def test_no_pickle_anywhere() -> None:
    for package in ("cli", "daemon", "jobs"):
        for path in (REPOSITORY / package).rglob("*.py"):
            assert not imported(path) & {"pickle", "dill", "marshal", "shelve"}, path
