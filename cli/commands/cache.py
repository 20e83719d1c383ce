"""``farense cache``: what jobs keep on disk to be faster, and how to get rid of it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from cli.options import json_option
from cli.output import note, print_json
from cli.show.table import table
from jobs.errors import InvalidInput
from jobs.paths import Workspace
from jobs.storage.formatting import NONE, local, size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.prefix.cache import PrefixCache
    from jobs.prefix.listing import EntryInfo

KEY_WIDTH = 12
HEADINGS = ("KEY", "STATE", "SIZE", "EXAMPLES", "MODEL", "DATA", "LAST USED")
RIGHT = (False, False, True, True, False, False, False)


@click.group(short_help="List and clear what jobs keep to be faster.")
def cache() -> None:
    """List and clear the prefix cache.

    The blocks of a model below its first adapted one give the same states for the same examples in
    every epoch and every job. They are computed once and kept here. Clearing the cache costs time
    only: the next job computes them again.

    \b
    Example: farense cache list
    """


@cache.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """List what is in the cache, the most recently used first.

    There is one for each data file, model and boundary. It holds the examples that jobs have used
    so far: of a run of few steps not all, and it grows when another job uses more.

    An entry that is `unfinished` lost its job while it was filled; the next job that needs it goes
    on from there. One that is `unusable` is damaged, or of another version; the next job that
    fills anything removes it.

    \b
    Example: farense cache list --json
    """
    found = _cache()
    entries = found.listing()
    total, budget = sum(entry.bytes for entry in entries), found.budget(entries)
    if as_json:
        shown = [asdict(entry) for entry in entries]
        print_json({"entries": shown, "total_bytes": total, "budget_bytes": budget})
    elif entries:
        _print_table(entries, total, budget)
    else:
        note("The cache is empty: the first training job fills it.")


@cache.command()
@click.argument("key", metavar="[KEY]", required=False)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def clear(key: str | None, yes: bool) -> None:
    """Remove the entry KEY, or all; what a job uses at the moment stays.

    KEY is the beginning of a key that `farense cache list` shows.

    \b
    Examples:
      farense cache clear
      farense cache clear 3f9c --yes
    """
    found = _cache()
    entries = found.listing()
    if key is not None:
        entries = [_entry(entries, key)]
    idle = {entry.key: entry for entry in entries if not entry.busy}
    if idle and not yes:
        _confirm(list(idle.values()), key)
    removed = found.clear(idle)
    for entry in entries:
        if entry.key not in removed:
            note(f"{entry.key[:KEY_WIDTH]} is in use: kept.")
    if entries:
        size = sum(idle[name].bytes for name in removed)
        click.echo(f"Removed {_count(len(removed))}, {size_text(size)}.")
    else:
        note("The cache is empty.")


def _cache() -> PrefixCache:
    from jobs.prefix.cache import PrefixCache  # noqa: PLC0415 - loads NumPy and MLX

    return PrefixCache(Workspace.current().prefix_cache)


def _entry(entries: Sequence[EntryInfo], key: str) -> EntryInfo:

    matching = [entry for entry in entries if entry.key.startswith(key)]
    if len(matching) != 1:
        how_many = "No entry" if not matching else "More than one entry"
        hint = "Its entries: farense cache list"
        raise InvalidInput(f"{how_many} of the cache has a key beginning with {key!r}.", hint)
    return matching[0]


def _confirm(entries: Sequence[EntryInfo], key: str | None) -> None:
    """Ask whether to remove; end the command where the answer is no."""
    what = f"{_count(len(entries))}, {size_text(sum(entry.bytes for entry in entries))}"
    if not sys.stdin.isatty():
        command = " ".join(filter(None, ("farense cache clear", key, "--yes")))
        raise InvalidInput(
            f"There is no terminal to confirm the removal of {what}.", f"Type: {command}"
        )
    click.confirm(f"Remove {what}?", abort=True, err=True)


def _print_table(entries: Sequence[EntryInfo], total: int, budget: int) -> None:
    click.echo("\n".join(table([HEADINGS, *(_row(entry) for entry in entries)], RIGHT)))
    click.echo(
        f"{size_text(total)} in all; {size_text(budget)} allowed (a tenth of the free disk; "
        "a job's prefix_cache_gb goes before it)."
    )


def _row(entry: EntryInfo) -> tuple[str, ...]:

    partly = entry.bytes < entry.final_bytes
    of = f" of {size_text(entry.final_bytes)}" if partly else ""
    return (
        entry.key[:KEY_WIDTH],
        str(entry.state),
        size_text(entry.bytes) + of,
        _examples(entry),
        _printable(entry.about.get("model", NONE)),
        _printable(entry.about.get("data", NONE)),
        local(entry.last_used),
    )


def _examples(entry: EntryInfo) -> str:

    if entry.examples is None:
        return NONE
    partly = entry.of_examples is not None and entry.examples < entry.of_examples
    return f"{entry.examples} of {entry.of_examples}" if partly else str(entry.examples)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _count(entries: int) -> str:
    return f"{entries} {'entry' if entries == 1 else 'entries'}"
