"""The house keeps its plan: imports flow one way, rooms stay small, and the picture is true."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from jobs.paths import REPOSITORY
from tests.helpers import house

FORBIDDEN = {
    "jobs": {"cli", "daemon", "redis", "huey", "click"},
    "daemon": {"cli", "click"},
}
# Above this a module says in its docstring why it is one thing.
LINES, FILES = 400, 20


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


@pytest.mark.parametrize("package", house.PACKAGES)
def test_a_room_imports_only_rooms_below_it(package: str) -> None:
    floors = house.FLOORS[package]
    rooms = {room for name in house.modules() for where, room in [house.room_of(name)]
             if where == package and room}  # fmt: skip
    assert set(floors) == rooms
    within = {
        (upper, lower)
        for (one, upper), (other, lower) in house.room_imports()
        if one == other == package and upper and lower
    }
    assert within
    assert [pair for pair in within if floors.index(pair[0]) >= floors.index(pair[1])] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert house.circles() == []


def test_a_circle_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house, "modules", lambda: dict.fromkeys("abcd", Path()))
    ring = frozenset({("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")})
    monkeypatch.setattr(house, "imports", lambda: ring)
    assert house.circles() == [{"b", "c"}]


def test_a_folder_holds_no_more_than_a_person_takes_in() -> None:
    folders = {path.parent for path in house.modules().values()}
    counted = {folder: len(list(folder.glob("*.py"))) - 1 for folder in folders}
    assert {folder: count for folder, count in counted.items() if count > FILES} == {}


def test_a_long_module_says_why_it_is_one_thing() -> None:
    long = {name: text for name, path in house.modules().items()
            if len((text := path.read_text()).splitlines()) > LINES}  # fmt: skip
    silent = [name for name, text in long.items()
              if "one module" not in (ast.get_docstring(ast.parse(text)) or "")]  # fmt: skip
    assert silent == []


def test_no_class_name_stands_twice() -> None:
    found: dict[str, list[str]] = {}
    for name, path in house.modules().items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(name)
    assert {name: where for name, where in found.items() if len(where) > 1} == {}


# Who may read and write the state of a job. A child that somebody starts by hand has no daemon: it
# keeps its `state.json` itself, and what shows a run directory alone reads it.
READS, WRITES = "daemon.runs.snapshot", "daemon.lifecycle.transitions"
BY_HAND = "jobs.__main__"
SHOW = {"jobs.training.summary", "jobs.report.run_data", "jobs.compare.side"}


def test_one_module_reads_the_state_of_a_job_and_one_writes_it() -> None:
    assert who_imports("jobs.state", "read_state") == {READS, BY_HAND, *SHOW}
    assert who_imports("jobs.state", "write_state") == {WRITES, BY_HAND}
    assert who_imports("jobs.state", "state_values") == {WRITES}


def test_one_module_moves_the_record_of_a_job() -> None:
    for method in ("transition", "correct"):
        callers = {
            name
            for name, path in house.modules().items()
            for call in calls(path)
            if isinstance(call.func, ast.Attribute) and call.func.attr == method
        }
        assert callers == {WRITES}, method


def test_what_kind_a_job_is_matters_in_one_module() -> None:
    for word in ("TRAIN", "EVALUATE"):
        assert who_imports("jobs.spec", word) == {"jobs.kinds"}


def who_imports(module: str, function: str) -> set[str]:
    return {
        name
        for name, path in house.modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and node.module == module
        and function in {alias.name for alias in node.names}
    }


def test_the_picture_in_contributing_is_drawn_from_the_imports() -> None:
    page = house.PAGE.read_text(encoding="utf-8")
    assert house.drawn(page) == page, "python -m tests.helpers.house draws it anew"


def test_every_file_that_contributing_names_is_there() -> None:
    page = house.PAGE.read_text(encoding="utf-8")
    named = re.findall(r"`((?:cli|daemon|jobs|tests|docs|benchmarks)/[\w./]*)`", page)
    assert len(named) > 40
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


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
