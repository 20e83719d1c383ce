"""``farense morning``: one screen of 40 lines and 80 columns at the most. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cli.show.table import aligned, column_widths, shortened
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

WIDTH = 80
TITLE_WIDTH = 30
# Lines of each part: together with headings and what stands alone, no more than 40.
MOST_RAN, MOST_BEST, MOST_FAILED, MOST_SWEEPS, MOST_WAITING, MOST_IDLE = 10, 2, 5, 3, 4, 3
HEADINGS = ("JOB", "STATE", "VAL LOSS", "GAP", "F1", "TOOK")
RIGHT = (False, False, True, False, True, True)


def screen(found: Morning) -> list[str]:
    """Return the lines of the screen."""
    parts = [
        wrapped(headline(found)),
        [f"Best: {best_text(job)}" for job in found.best[:MOST_BEST]],
        _ran(found),
        _part("FAILED", [_failed(job) for job in found.failed], MOST_FAILED),
        _part("SWEEPS", [sweep_text(sweep) for sweep in found.sweeps], MOST_SWEEPS),
        _waiting(found),
        _idle(found),
        [disk_text(found)],
    ]
    lines = [line for part in parts if part for line in ("", *part)][1:]
    return [shortened(line, WIDTH) for line in lines]


def wrapped(text: str) -> list[str]:
    """Return a sentence on as many lines as it takes."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if len(longer) <= WIDTH else [*lines, word]
    return lines


def _part(heading: str, lines: Sequence[str], most: int) -> list[str]:
    """Return a part of the screen: a heading, and below it no more lines than fit."""
    return [heading, *(f"  {line}" for line in few(lines, most))] if lines else []


def _ran(found: Morning) -> list[str]:
    """Return the table of what ran: the trials of sweeps, and evaluations, stand elsewhere."""
    shown = [job for job in found.jobs if _has_a_row(job, found)]
    rows = [_row(job) for job in shown[:MOST_RAN]]
    if not rows:
        return []
    # What is empty in every row is left out.
    kept = [n for n in range(len(HEADINGS)) if any(row[n] != NONE for row in rows)]
    table = [[row[n] for n in kept] for row in (HEADINGS, *rows)]
    widths, right = column_widths(table), [RIGHT[n] for n in kept]
    lines = [aligned(row, widths, right) for row in table]
    more = len(shown) - MOST_RAN
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
        shortened(("evaluate " if job.evaluates else "") + title(job), TITLE_WIDTH),
        _state(job),
        figure(job.best_val_loss),
        gap_text(job.gap, job.word) or NONE,
        figure(job.token_f1, 3),
        length_text(job.seconds),
    ]


def _state(job: JobOfNight) -> str:
    if job.interrupted:
        return "interrupted"
    if job.state is State.RUNNING and job.total_steps:
        return f"running {100 * job.step // job.total_steps}%"
    return str(job.state).replace("_", " ")


def _failed(job: JobOfNight) -> str:
    return f"{title(job)}: {job.reason or job.failure or 'nothing says why'}"


def _waiting(found: Morning) -> list[str]:
    if not found.waiting:
        return []
    lines = [
        f"  {end_of_id(job.id)}: {job.state}, waits for {job.waits_for}" for job in found.waiting
    ]
    left = found.more_waiting + max(0, len(lines) - MOST_WAITING)
    more = [f"  and {left:,} more: farense queue"] if left else []
    held = [line for sentence in found.held[:2] for line in wrapped(sentence)]
    return [waiting_text(found), *lines[:MOST_WAITING], *more, *held]


def _idle(found: Morning) -> list[str]:
    if not found.idle:
        return []
    lines = [f"{duration(i.seconds):>7}  {i.reason} ({spans_text(i)})" for i in found.idle]
    return _part(f"IDLE for {duration(found.idle_seconds)}", lines, MOST_IDLE)
