"""The picture of the house: which rooms there are, and which of them import which.

``python -m tests.helpers.house`` draws it anew in CONTRIBUTING.md; a test compares.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from jobs.paths import REPOSITORY
from jobs.storage.files import write_atomic

PAGE = REPOSITORY / "CONTRIBUTING.md"
BEGIN, END = "<!-- house: begin -->\n", "<!-- house: end -->"
WIDTH = 118

# From the top down: a room imports rooms below it alone. A room is a wing (a package), or a module
# that stands beside the wings.
FLOORS = {
    "cli": (
        *("commands", "show", "main", "suggestions", "reader_gone", "foreground"),
        *("options", "completion", "sweep_files", "past", "reading", "output"),
    ),
    "daemon": (
        *(
            "__main__",
            "doctor",
            "worker",
            "recovery",
            "service",
            "page",
            "agents",
            "sweep",
            "notify",
            "client",
            "process",
        ),
        *(
            "prune",
            "submit",
            "track",
            "morning",
            "lifecycle",
            "night",
            "host",
            "logging",
            "reader",
            "queue",
            "file_client",
        ),
        *(
            "as_shown",
            "figures",
            "latest",
            "standstill",
            "runs",
            "store",
            "joblog",
            "settings",
            "times",
            "piped",
        ),
    ),
    "jobs": (
        *(
            "__main__",
            "kinds",
            "sinks",
            "push",
            "export",
            "ollama",
            "gguf",
            "report",
            "stopping",
            "sweep",
            "rehearsal",
        ),
        *("other_process", "console", "summary_head", "compare", "past_run", "evaluation"),
        *("training", "resources", "prefix", "pace", "model", "importing", "data", "caches"),
        *(
            "served",
            "model_store",
            "backend",
            "config",
            "suggest",
            "state",
            "spec",
            "events",
            "verdict",
            "storage",
        ),
        *("paths", "errors"),
    ),
}
PACKAGES = tuple(FLOORS)


@cache
def modules() -> Mapping[str, Path]:
    """Return the files of all modules of the three packages, by their dotted names."""
    found = {}
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


@cache
def imports() -> frozenset[tuple[str, str]]:
    """Return who imports whom among the modules, wherever in its text, also for types alone."""
    found = set()
    for name, path in modules().items():
        found |= {(name, other) for other in _imported(ast.parse(path.read_text()))}
    return frozenset(found)


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in modules() else str(node.module) for name in inner]
        else:
            continue
        yield from (name for name in names if name in modules())


def room_of(module: str) -> tuple[str, str]:
    """Return the package of a module, and its room there; empty for the package itself."""
    package, _, rest = module.partition(".")
    return package, rest.partition(".")[0]


def room_imports() -> frozenset[tuple[tuple[str, str], tuple[str, str]]]:
    """Return which rooms import which others."""
    pairs = {(room_of(one), room_of(other)) for one, other in imports()}
    return frozenset((one, other) for one, other in pairs if one != other)


def circles() -> list[set[str]]:
    """Return the modules that import each other in a circle, a set for each circle."""
    below = defaultdict(set)
    for one, other in imports():
        below[one].add(other)
    left = set(modules())
    # What imports nothing that is left is in no circle, nor is what nobody who is left imports.
    while free := {name for name in left if not below[name] & left}:
        left -= free
    found = []
    while left:
        circle = _reached(min(left), below) & left
        back = {name for name in circle if min(left) in _reached(name, below)}
        found += [back] if back else []
        left -= back or {min(left)}
    return found


def _reached(start: str, below: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    ahead = set(below.get(start, ()))
    while ahead:
        found |= ahead
        ahead = {name for one in ahead for name in below.get(one, ())} - found
    return found


def picture() -> str:
    """Return the rooms of each package from the top down, what each is about and what it uses.

    Of the rooms that it imports those are named that no other one of them stands for already.
    """
    lines = []
    for package, floors in FLOORS.items():
        rooms = [room for room in floors if room != "__main__"]
        width = max(map(len, rooms))
        lines.append(f"{package}/  {_about(package)}")
        lines += [
            _line(room, width, _about(f"{package}.{room}"), _direct(package, room))
            for room in rooms
        ]
        lines.append("")
    return "\n".join(lines).rstrip()


def _line(room: str, width: int, about: str, used: list[str]) -> str:
    line = f"  {room:<{width}}  {about}"
    return f"{line}\n  {'':<{width}}  -> {', '.join(used)}" if used else line


def _about(module: str) -> str:
    """Return the first sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(modules()[module].read_text())) or ""
    first = text.partition("\n\n")[0]
    return " ".join(first.split()).replace("``", "").rstrip(".")


def _direct(package: str, room: str) -> list[str]:
    below: dict[str, set[str]] = defaultdict(set)
    for (one, upper), (other, lower) in room_imports():
        if one == other == package and lower:
            below[upper].add(lower)
    used = below[room]
    through = {far for near in used for far in _reached(near, below)}
    return sorted(used - through, key=FLOORS[package].index)


def drawn(page: str) -> str:
    """Return the text of a page with the picture drawn anew between its marks."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}```text\n{picture()}\n```\n{END}{after}"


if __name__ == "__main__":
    write_atomic(PAGE, drawn(PAGE.read_text(encoding="utf-8")).encode())
