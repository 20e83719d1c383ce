"""``farense morning``: one screen of 40 lines and 80 columns at the most. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cli.show.table import aligned, column_widths, shortened, table_width
from daemon.morning.text import (
    best_text,
    disk_text,
    few,
    gap_text,
    headline,
    spans_text,
    sweep_text,
    title,
    waiting_text,
)
from jobs.kinds import TRAINING
from jobs.paths import end_of_id
from jobs.state import State
from jobs.storage.formatting import NONE, duration, figure, length_text

if TYPE_CHECKING:
    from daemon.morning.facts import JobOfNight, Morning

LINES, WIDTH = 40, 80
# Lines of each part, where there is room for as many.
MOST = {"best": 3, "ran": 20, "failed": 10, "sweeps": 5, "waiting": 8, "idle": 4}
HEADINGS = ("JOB", "STATE", "BEST VAL", "GAP", "TOKEN F1", "DURATION")
RIGHT = (False, False, True, False, True, True)
LEAST_TITLE = 12


def screen(found: Morning) -> list[str]:
    """Return the lines of the screen; the longest lists are cut until all of it fits."""
    most = dict(MOST)
    while len(lines := _lines(found, most)) > LINES and max(most.values()) > 1:
        longest = max(most, key=lambda part: most[part])
        most[longest] -= 1
    return [shortened(line, WIDTH) for line in lines]


def wrapped(text: str) -> list[str]:
    """Return a sentence on as many lines as it takes."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if len(longer) <= WIDTH else [*lines, word]
    return lines


def _lines(found: Morning, most: Mapping[str, int]) -> list[str]:
    best = [f"Best: {best_text(job)}" for job in found.best]
    parts = [
        [*wrapped(headline(found)), *few(best, most["best"])],
        _ran(found, most["ran"]),
        _part("FAILED", [_failed(job) for job in found.failed], most["failed"]),
        _part("SWEEPS", [sweep_text(sweep) for sweep in found.sweeps], most["sweeps"]),
        _waiting(found, most["waiting"]),
        _idle(found, most["idle"]),
        [disk_text(found)],
    ]
    return [line for part in parts if part for line in ("", *part)][1:]


def _part(heading: str, lines: Sequence[str], most: int) -> list[str]:
    """Return a part of the screen: a heading, and below it no more lines than fit."""
    return [heading, *(f"  {line}" for line in few(lines, most))] if lines else []


def _ran(found: Morning, most: int) -> list[str]:
    """Return the table of what ran: the trials of sweeps, and evaluations, stand elsewhere."""
    shown = [job for job in found.jobs if _has_a_row(job, found)]
    rows = [_row(job) for job in shown[:most]]
    if not rows:
        return []
    # What is empty in every row is left out.
    kept = [n for n in range(len(HEADINGS)) if any(row[n] != NONE for row in rows)]
    table = [[row[n] for n in kept] for row in (HEADINGS, *rows)]
    widths = column_widths(table)
    room = max(LEAST_TITLE, WIDTH - table_width(widths) + widths[0])
    table = [[shortened(name, room), *cells] for name, *cells in table]
    widths, right = column_widths(table), [RIGHT[n] for n in kept]
    lines = [aligned(row, widths, right) for row in table]
    more = len(shown) - most
    return [*lines, f"and {more} more: farense status --all"] if more > 0 else lines


def _has_a_row(job: JobOfNight, found: Morning) -> bool:
    """Tell whether a job has a row: what an evaluation found stands in the row of its training."""
    if job.sweep is not None:
        return False
    if job.kind == TRAINING.name or not job.ended_well:
        return True
    return all(job.evaluates != other.id for other in found.jobs)


def _row(job: JobOfNight) -> list[str]:
    return [
        title(job),
        _state(job),
        figure(job.best_val_loss),
        gap_text(job.overfitting_gap, job.gap_status).removeprefix("gap ") or NONE,
        figure(job.token_f1, 3),
        length_text(job.duration_seconds),
    ]


def _state(job: JobOfNight) -> str:
    if job.interrupted:
        return "interrupted"
    if job.state is State.RUNNING and job.total_steps:
        return f"running {100 * job.step // job.total_steps}%"
    return str(job.state).replace("_", " ")


def _failed(job: JobOfNight) -> str:
    return f"{title(job)}: {job.reason or job.failure or 'nothing says why'}"


def _waiting(found: Morning, most: int) -> list[str]:
    if not found.waiting:
        return []
    lines = [
        f"  {end_of_id(job.id)}: {job.state_word}, waits for {job.waits_for}"
        for job in found.waiting
    ]
    left = found.more_waiting + max(0, len(lines) - most)
    more = [f"  and {left:,} more: farense queue"] if left else []
    held = [line for sentence in found.held[:1] for line in wrapped(sentence)]
    return [waiting_text(found), *lines[:most], *more, *held]


def _idle(found: Morning, most: int) -> list[str]:
    if not found.idle:
        return []
    lines = [f"{duration(i.seconds):>7}  {i.reason} ({spans_text(i)})" for i in found.idle]
    return _part(f"IDLE for {duration(found.idle_seconds)}", lines, most)
