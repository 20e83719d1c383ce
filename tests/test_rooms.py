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


# What runs, or may run, code that stands in data.
RUNS_CODE = {"pickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "torch"}
BUILT_IN = {"eval", "exec", "compile", "__import__"}
METHODS = {"unsafe_load", "full_load", "load_pickle", "read_pickle"}
# Keywords that let a library do it, and the value that forbids it.
SWITCHES = {"allow_pickle": False, "trust_remote_code": False, "shell": False}


@pytest.mark.parametrize("package", ["cli", "daemon", "jobs"])
def test_nothing_runs_code_that_stands_in_data(package: str) -> None:
    for path in (REPOSITORY / package).rglob("*.py"):
        assert not imported(path) & RUNS_CODE, path
        assert [line for call in calls(path) if (line := runs_code(call))] == [], path


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]


def runs_code(call: ast.Call) -> str | None:
    """Return the call as it is written, where it may run what it reads."""
    function = call.func
    by_name = isinstance(function, ast.Name) and function.id in BUILT_IN
    by_method = isinstance(function, ast.Attribute) and function.attr in METHODS
    by_switch = any(
        keyword.arg in SWITCHES
        and not (
            isinstance(keyword.value, ast.Constant) and keyword.value.value is SWITCHES[keyword.arg]
        )
        for keyword in call.keywords
    )
    return ast.unparse(call) if by_name or by_method or by_switch else None


@pytest.mark.parametrize(
    "line",
    [
        "eval(text)",
        "yaml.unsafe_load(text)",
        "np.load(path, allow_pickle=True)",
        "load(path, trust_remote_code=wanted)",
        "run(text, shell=True)",
    ],
)
def test_code_in_data_would_be_found(line: str) -> None:
    (call,) = (node for node in ast.walk(ast.parse(line)) if isinstance(node, ast.Call))
    assert runs_code(call) == line
