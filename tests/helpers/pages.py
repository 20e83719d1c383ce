"""The commands on a documentation page, and where its links lead."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("farense", "make", "python", "cp", "export", "docker", "source", "git", "cd")
INDENT = "    "
INLINE = re.compile(r"`(farense [^`]+|enqueue [^`]+|make [a-z]+)`")
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
REMARK = re.compile(r"\s{2,}# (.*)$")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """A command that a page shows.

    Attributes:
        line: where it stands, from 1.
        words: as a shell would split it; a comment is left out.
        remark: the comment behind it.
    """

    line: int
    words: tuple[str, ...]
    remark: str


def shown_commands(page: Path) -> list[Command]:
    """Return the commands in the blocks of a page: what a reader copies, line by line."""
    lines = page.read_text(encoding="utf-8").splitlines()
    found = []
    place = 0
    while place < len(lines):
        first, text = place, lines[place]
        while text.endswith("\\") and place + 1 < len(lines):
            place += 1
            text = f"{text[:-1]} {lines[place].strip()}"
        place += 1
        if text.startswith(INDENT) and text.split()[0:1] and text.split()[0] in PROGRAMS:
            words = tuple(shlex.split(text, comments=True))
            remark = REMARK.search(text)
            found.append(Command(first + 1, words, remark[1] if remark else ""))
    return found


def python_blocks(page: Path) -> list[str]:
    """Return the Python code of a page, block by block."""
    return PYTHON.findall(page.read_text(encoding="utf-8"))


def mentioned_commands(page: Path) -> Iterator[tuple[str, ...]]:
    """Yield the words of each `farense` or `make` command that a page names in passing."""
    for match in INLINE.finditer(page.read_text(encoding="utf-8")):
        words = shlex.split(match[1])
        yield tuple(words) if words[0] in ("farense", "make") else ("farense", *words)


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files that a page links to, and the headings in them (empty: none)."""
    for match in LINK.finditer(page.read_text(encoding="utf-8")):
        if "://" not in match[1]:
            name, _, anchor = match[1].partition("#")
            yield (page.parent / name).resolve() if name else page, anchor


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table_under(text: str, heading: str) -> list[list[str]]:
    """Return the rows of the first table below a heading, cell by cell, without its head."""
    below = text.partition(f"## {heading}\n")[2]
    lines = itertools.dropwhile(lambda line: not line.startswith("|"), below.splitlines())
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines)
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows][2:]
