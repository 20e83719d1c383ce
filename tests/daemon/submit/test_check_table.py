"""The table of checks: all that a job's process may refuse stands in it, and the page shows it."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from daemon.submit.check_table import LATER, TABLE, Check, Later
from jobs import errors
from jobs.errors import FarenseError
from jobs.paths import REPOSITORY
from tests.helpers.pages import table_under

OURS = {
    name
    for name, found in vars(errors).items()
    if isinstance(found, type) and issubclass(found, FarenseError)
}
PAGE = REPOSITORY / "docs" / "checks.md"


def modules_of_a_job() -> list[str]:
    """Return the modules that training and evaluation load, in a process of their own."""
    code = (
        "import sys, jobs.__main__, jobs.training.session, jobs.evaluation.evaluate\n"
        "print(*(name for name in sys.modules if name.startswith('jobs.')))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    return sorted(done.stdout.split())


def places(tree: ast.AST, within: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the functions of a module in which an error of ours is made."""
    for node in ast.iter_child_nodes(tree):
        inner = within
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            inner = (*within, node.name)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in OURS:
            yield ".".join(within)
        yield from places(node, inner)


def test_all_that_may_end_a_job_is_in_the_table() -> None:
    found = {
        f"{name}:{place}"
        for name in modules_of_a_job()
        if (path := REPOSITORY / f"{name.replace('.', '/')}.py").is_file()
        for place in places(ast.parse(path.read_text(encoding="utf-8")))
    }
    rows: tuple[Check | Later, ...] = (*TABLE, *LATER)
    listed = [place for row in rows for place in row.in_jobs]
    assert len(listed) == len(set(listed))
    assert found - set(listed) == set(), "known when a job is queued? Refuse it there"
    assert set(listed) - found == set(), "in the table, and in no module of a job"


@pytest.mark.parametrize("check", TABLE, ids=lambda check: check.name)
def test_where_a_check_is_done_there_is_a_function(check: Check) -> None:
    module, _, path = check.where.partition(":")
    found: object = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    assert callable(found) or isinstance(found, property) or hasattr(found, "func")


def test_the_page_shows_the_table() -> None:
    text = PAGE.read_text(encoding="utf-8")
    refused = [[check.name, check.refused, ", ".join(check.ways)] for check in TABLE]
    assert table_under(text, "Refused at once") == refused
    assert table_under(text, "Found by the job itself") == [[each.name, each.why] for each in LATER]
