"""Records as text: the table of ``status``, the details of one job, aligned columns. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cli.show.table import GAP, aligned, column_widths, fitting, shortened, table_width
from daemon.lifecycle.failures import label
from daemon.runs.workspace_id import shown
from daemon.standstill import standstill
from daemon.store.progress import phase_text
from jobs.state import DEFAULT_QUEUE, FINISHED, State
from jobs.storage.formatting import (
    NONE,
    duration,
    figure,
    length_text,
    local,
    local_exact,
    moment_text,
)
from jobs.storage.values import printable
from jobs.verdict import BELOW_IN_TABLE, NOT_LEARNED, is_far_below

if TYPE_CHECKING:
    from daemon.store.records import JobRecord

NAME_WIDTH = 20
NEWLINE = "\n"

STATE_COLOURS = {
    State.RUNNING: "cyan",
    State.COMPLETED: "green",
    State.EARLY_STOPPED: "green",
    State.FAILED: "red",
    State.CANCELLED: "bright_black",
}
GAP_COLOURS = {
    "EXCELENTE": "green",
    "BOM": "green",
    "MODERADO": "yellow",
    "CRÍTICO": "red",
    NOT_LEARNED: "red",
}


@dataclass(frozen=True)
class Column:
    """A column of the status table.

    Attributes:
        rank: columns of the highest rank give way first on a narrow terminal; 0 never does.
    """

    heading: str
    cell: Callable[[JobRecord], str]
    rank: int
    right: bool = False
    colour: Callable[[JobRecord], str | None] = lambda record: None


COLUMNS = (
    Column("JOB", lambda record: record.id, 0),
    Column("PRESET", lambda record: preset_text(record), 7),
    Column(
        "STATE", lambda record: state_text(record), 0, colour=lambda r: STATE_COLOURS.get(r.state)
    ),
    Column("STEP", lambda record: _steps(record), 1, right=True),
    Column("LOSS", lambda record: figure(record.loss), 8, right=True),
    Column("BEST VAL", lambda record: figure(_best_val(record)), 3, right=True),
    Column(
        "GAP", lambda record: _gap(record), 2, colour=lambda r: GAP_COLOURS.get(r.gap_status or "")
    ),
    Column("SPEED", lambda record: _speed(record), 9, right=True),
    Column("LEFT", lambda record: _left(record), 4, right=True),
    Column("ENDED", lambda record: _ended(record), 6),
    Column("DURATION", lambda record: length_text(record.duration_seconds), 5, right=True),
)
REASON = "REASON"
# A reason that has less room than this says nothing.
LEAST_REASON = 16


def status_table(
    records: Sequence[JobRecord], width: int | None = None, colour: bool = False
) -> list[str]:
    """Return the table of some jobs, one line each below a heading.

    A column with nothing in it is left out. What room is left is the reason's, cut to it.

    Args:
        records: in the order in which they are to stand.
        width: of the terminal in columns; None sets no limit. Columns give way until the table
            fits; an id and a state are always whole.
        colour: whether states and gaps are coloured (ANSI).
    """
    texts = {c.heading: [printable(c.cell(record)) for record in records] for c in COLUMNS}
    columns = [c for c in COLUMNS if c.rank == 0 or set(texts[c.heading]) != {NONE}]
    widths = [column_widths([[text] for text in (c.heading, *texts[c.heading])])[0]
              for c in columns]  # fmt: skip
    ranked = sorted(range(len(columns)), key=lambda place: -columns[place].rank)
    kept = fitting(widths, [place for place in ranked if columns[place].rank], width)
    columns = [columns[place] for place in kept]
    left = None if width is None else width - table_width([widths[place] for place in kept])
    rows = [[texts[c.heading][place] for c in columns] for place in range(len(records))]
    headings, right = [c.heading for c in columns], [c.right for c in columns]
    colours = [[c.colour(record) if colour else None for c in columns] for record in records]
    reasons = _reasons(records, None if left is None else left - len(GAP))
    if reasons:
        headings.append(REASON)
        rows = [[*row, reason] for row, reason in zip(rows, reasons, strict=True)]
        colours, right = [[*row, None] for row in colours], [*right, False]
    every = column_widths([headings, *rows])
    lines = [aligned(headings, every, right)]
    return [*lines, *(aligned(r, every, right, c) for r, c in zip(rows, colours, strict=True))]


def _reasons(records: Sequence[JobRecord], room: int | None) -> list[str]:
    """Return why each job is where it is, cut to ``room``; nothing where there is none to tell."""
    found = [printable(reason_text(record) or "") for record in records]
    if not any(found) or (room is not None and room < LEAST_REASON):
        return []
    return found if room is None else [shortened(reason, room) for reason in found]


def reason_text(record: JobRecord) -> str | None:
    """Return why a job is where it is; None where there is nothing to say."""
    if record.state is State.SCHEDULED and record.schedule:
        return f"starts at {local_exact(record.schedule)}"  # here, wherever it was enqueued
    return standstill(record) or record.reason


def job_details(record: JobRecord) -> list[str]:
    """Return everything there is to say about one job, a line each."""
    epoch = f" (epoch {record.epoch} of {record.num_epochs})" if record.epoch else ""
    rows = {
        "Job": record.id,
        "Name": record.name,
        "Preset": record.preset,
        "Kind": record.kind if record.evaluates else None,
        "Evaluates": record.evaluates,
        "Sweep": f"{record.sweep}, trial {record.trial}" if record.sweep else None,
        "State": state_text(record) + _wish(record),
        "Reason": reason_text(record),
        "Failure": _failure(record),
        "History": _history(record),
        "Attempt": str(record.attempt) if record.attempt else None,
        "Queue": record.queue if record.queue != DEFAULT_QUEUE else None,
        "Priority": str(record.priority) if record.priority else None,
        "Answers" if record.evaluates else "Step": _steps(record) + epoch,
        "Loss": figure(record.loss),
        "Best val loss": figure(_best_val(record)),
        "Last val loss": None if record.evaluates else figure(record.val_loss),
        "Baseline": _baseline(record),
        "Gap": _gap(record),
        "Note": _note(record),
        "Token F1": figure(record.token_f1),
        "Exact match": figure(record.exact_match),
        "Speed": _speed(record),
        "Time left": _left(record),
        "Doing": phase_text(record),
        "Queued": moment_text(record.created_at),
        "Started": moment_text(record.started_at),
        "Finished": moment_text(record.finished_at),
        "Duration": length_text(record.duration_seconds),
        "Adapter": record.adapter,
        "Worker": record.worker if record.state is State.RUNNING else None,
        "Run directory": record.run_dir,
        "Workspace": shown(record.home),
    }
    return [
        f"{name:<15}{printable(value, keep=NEWLINE)}".replace(NEWLINE, NEWLINE + " " * 15)
        for name, value in rows.items()
        if value and value != NONE
    ]


def state_text(record: JobRecord) -> str:
    """Return the state, or that the job was interrupted where nothing runs it."""
    return "interrupted" if record.interrupted else str(record.state)


def preset_text(record: JobRecord) -> str:
    """Return what a job trains or evaluates, and the name that a person gave it."""
    preset = f"evaluate {record.preset}" if record.evaluates else record.preset
    name = f"{preset} ({record.name})" if record.name else preset
    return shortened(printable(name), NAME_WIDTH)


def _best_val(record: JobRecord) -> float | None:
    """Return the loss of the best adapter: of an evaluation, what it measured of it."""
    return record.val_loss if record.evaluates else record.best_val_loss


def _ended(record: JobRecord) -> str:
    return local(record.finished_at) if record.finished_at else NONE


def _steps(record: JobRecord) -> str:
    return f"{record.step}/{record.total_steps}" if record.total_steps else str(record.step)


def _gap(record: JobRecord) -> str:
    """Return a gap and its word; of a run that has not learned the word alone.

    Between losses of which one is not finite there is no gap.
    """
    if record.gap_status == NOT_LEARNED:
        return NOT_LEARNED
    if record.overfitting_gap is None or not math.isfinite(record.overfitting_gap):
        return NONE
    below = (
        f", {BELOW_IN_TABLE}" if record.gap_status and is_far_below(record.overfitting_gap) else ""
    )
    return f"{record.overfitting_gap:.3f} {record.gap_status or ''}".rstrip() + below


def _baseline(record: JobRecord) -> str | None:
    loss = record.baseline_val_loss
    return None if loss is None else f"{figure(loss)} before training"


def _note(record: JobRecord) -> str | None:
    """Return what else there is to know of a training that has ended."""
    found = record.verdict if record.finished else None
    return None if found is None else found.note


def _speed(record: JobRecord) -> str:
    if record.state is not State.RUNNING or not record.steps_per_second:
        return NONE
    return f"{record.steps_per_second:.3g}/s"


def _left(record: JobRecord) -> str:
    if record.state is not State.RUNNING or record.eta_seconds is None:
        return NONE
    return duration(record.eta_seconds)


def _failure(record: JobRecord) -> str | None:
    """Return what the last ending was, and of which attempt where another has begun."""
    if record.failure is None:
        return None
    last = record.history[-1] if record.history else {}
    entry = last if last.get("class") == record.failure else {"class": record.failure}
    number = entry.get("attempt", record.attempt)
    return label(entry) + ("" if number == record.attempt else f" (attempt {number})")


def _history(record: JobRecord) -> str | None:
    """Return a line for each attempt that failed, where there is more than one."""
    if len(record.history) < 2:
        return None
    return "\n".join(
        f"attempt {entry.get('attempt')}: {label(entry)}, {moment_text(entry.get('at'))}"
        for entry in record.history
    )


def _wish(record: JobRecord) -> str:
    """Return what was asked of a job that has not come to it yet."""
    if record.state in FINISHED or record.state is State.PAUSED:
        return ""
    if record.cancel_requested:
        return ", cancel requested"
    if record.prune_requested:
        return f", to end early ({record.prune_requested})"
    return ", pause requested" if record.pause_requested else ""
