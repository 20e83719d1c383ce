"""What a person is told names their job, file or model, and no word that stands for one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.paths import REPOSITORY

PLACEHOLDER = re.compile(
    r"\b(JOB|MODEL|NAME|FILE|FOLDER|SWEEP|PRESET|NEW|ID|TRIAL|QUEUE|TIME|VALUE|ORGANIZATION)\b"
)
# The card of an export is read elsewhere: how to make a base model for PEFT stands in it.
CARD = "jobs/export/card.py"
ALLOWED = {(CARD, "FOLDER"), (CARD, "MODEL")}
SOURCES = sorted(p for room in ("cli", "daemon", "jobs") for p in (REPOSITORY / room).rglob("*.py"))


def told(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each sentence in a module, `--help` and Lua left out.

    A text with small letters is a sentence; one without is a heading or a metavar.
    """
    tree = ast.parse(source)
    shown = {
        id(keyword.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg in {"metavar", "subcommand_metavar"}
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            shown.add(id(node.value))  # a docstring
        if not isinstance(node, ast.Constant) or id(node) in shown:
            continue
        text = node.value
        if isinstance(text, str) and "redis.call" not in text and re.search(r"[a-z]{2}| ", text):
            yield node.lineno, text


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_hint_holds_a_word_that_stands_for_a_name(path: Path) -> None:
    name = str(path.relative_to(REPOSITORY))
    found = [
        (line, match[0], text)
        for line, text in told(path.read_text())
        for match in PLACEHOLDER.finditer(text)
        if (name, match[0]) not in ALLOWED
    ]
    assert found == []


def test_the_search_finds_them() -> None:
    source = '''
"""JOB"""
HEADINGS = ("JOB", "STATE")
option("--to", metavar="NAME of it", help="Its NAME.")
raise Wrong(f"{job} is gone.", "Try: farense retry JOB")
'''
    found = {match for _, text in told(source) for match in PLACEHOLDER.findall(text)}
    assert found == {"NAME", "JOB"}
