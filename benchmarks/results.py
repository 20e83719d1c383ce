"""Where results go, and how a number with its spread is written."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.paths import REPOSITORY, Workspace

PACKAGES = ("farense", "mlx", "mlx-lm", "numpy")


def results_folder(*, quick: bool) -> Path:
    """Return ``benchmarks/results``; a quick check leaves nothing there."""
    private = Workspace.current().private / "benchmarks-quick"
    folder = private if quick else REPOSITORY / "benchmarks" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_results(path: Path, values: dict[str, Any]) -> None:
    """Write a results file: ``values``, the command and the machine."""
    head = {"command": " ".join(["python -m", *_command()]), "machine": machine()}
    path.write_text(json.dumps(head | values, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """Return what the numbers depend on beside the code."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in PACKAGES},
    }


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return the median with the least and the greatest, or a dash where nothing was measured."""
    if not values:
        return "–"
    middle = f"{statistics.median(values):,.{digits}f}"
    if min(values) == max(values):
        return middle
    return f"{middle} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def say(text: str) -> None:
    """Tell the person who waits how far the measurement is, on standard error."""
    print(text, file=sys.stderr, flush=True)


def _command() -> list[str]:
    return [f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]
