"""Where output goes: results on stdout, everything else on stderr."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

import click
import orjson

from jobs.storage.files import JSON_OPTIONS, plain


def print_json(value: Any) -> None:
    """Print one JSON object or list, indented, on stdout."""
    click.echo(orjson.dumps(plain(value), option=JSON_OPTIONS).decode(), nl=False)


def print_json_line(value: Any) -> None:
    """Print one JSON object on one line of stdout."""
    click.echo(orjson.dumps(plain(value)))


def note(text: str) -> None:
    """Tell the person something that is no result, on stderr."""
    click.echo(text, err=True)


def warn(text: str) -> None:
    """Warn the person, on stderr."""
    note(f"Warning: {text}")


def terminal_width() -> int | None:
    """Return the columns of the terminal behind stdout, or None where there is none.

    ``COLUMNS`` overrides both.
    """
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS"):
        return None
    return shutil.get_terminal_size().columns


def wants_colour() -> bool:
    """Tell whether stdout is a terminal whose user has not asked for no colour (``NO_COLOR``)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
