"""The morning in words: the parts that a screen and a message share, and the message. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from daemon.morning.facts import IdleTime, JobOfNight, Morning, SweepOfNight
from jobs.paths import end_of_id
from jobs.state import FINISHED_WELL, State
from jobs.storage.formatting import counted, duration, figure, local, local_time, size_text
from jobs.storage.values import printable
from jobs.verdict import BELOW_IN_TABLE, MARKS, NOT_LEARNED, is_far_below

# Of each kind of line in a message.
FEW = 3
WIDTH = 120


def message(found: Morning) -> list[str]:
    """Return the lines of a message: some 15 at the most, in words for a lock screen."""
    lines = [headline(found)]
    lines += few([f"Best: {best_text(job)}" for job in found.best], FEW)
    lines += few([f"Sweep {sweep_text(sweep)}" for sweep in found.sweeps], FEW)
    lines += few([failed_text(job) for job in found.failed], FEW)
    lines += few([f"Runs: {running_text(job)}" for job in found.running], 1)
    lines += [waiting_text(found)] if found.waiting else []
    lines += found.held[:1]
    if found.jobs and found.idle:
        lines.append(idle_text(found))
    lines.append(disk_text(found))
    return [cut(line, WIDTH) for line in lines]


def headline(found: Morning) -> str:
    """Return in a sentence what ran and how it ended."""
    since = f"since {since_text(found.since, found.until)}"
    if not found.jobs and not found.sweeps:
        why = ", then ".join(idle.reason for idle in found.idle[:2])
        return f"Nothing ran {since}" + (f": {why}." if why else ".")
    count = Counter(_ending(job) for job in found.jobs)
    shown = [f"{number} {ending}" for ending, number in _in_order(count)]
    ran = f"{counted(len(found.jobs), 'job')} {since}: {', '.join(shown)}"
    return f"{ran}; computed for {duration(found.busy_seconds)}."


def since_text(since: datetime, now: datetime) -> str:
    """Return a moment for a person: the time alone where that leaves no doubt."""
    today = 0 <= (now - since).total_seconds() < 86_400
    return local_time(since) if today else local(since)


def best_text(job: JobOfNight) -> str:
    """Return a training with its best validation loss, its gap and its scores."""
    return f"{title(job)}: {figures_text(job)}"


def figures_text(job: JobOfNight) -> str:
    """Return the figures of a job that has any: loss, gap with its word, scores."""
    parts = [] if job.best_val_loss is None else [f"best val loss {figure(job.best_val_loss)}"]
    if job.kind == "train":
        parts += [gap_text(job.overfitting_gap, job.gap_status)] if job.gap_status else []
    if job.token_f1 is not None:
        parts.append(f"token F1 {figure(job.token_f1, 3)}")
    if job.exact_match is not None:
        parts.append(f"exact match {figure(job.exact_match, 3)}")
    return ", ".join(parts) or "nothing measured"


def gap_text(gap: float | None, word: str | None) -> str:
    """Return a gap with the word for it; the word alone where nothing was learned."""
    if word == NOT_LEARNED or gap is None:
        return f"{MARKS.get(word or '', '')} {word or ''}".strip()
    below = f", {BELOW_IN_TABLE}" if word and is_far_below(gap) else ""
    return f"gap {figure(gap, 3)} {word or ''} {MARKS.get(word or '', '')}".rstrip() + below


def failed_text(job: JobOfNight) -> str:
    """Return why a job failed, in one line."""
    return f"Failed: {title(job)}: {job.reason or job.failure or 'nothing says why'}"


def running_text(job: JobOfNight) -> str:
    """Return how far a job that runs has come."""
    total = f" of {job.total_steps}" if job.total_steps else ""
    what = "answer" if job.evaluates else "step"
    return f"{title(job)}, {what} {job.step}{total}"


def sweep_text(sweep: SweepOfNight) -> str:
    """Return a sweep in one line: how it stands, what was tried, its best trial."""
    count = [counted(sweep.tried, "trial")]
    count += [f"{sweep.pruned} ended early"] if sweep.pruned else []
    count += [f"{sweep.failed} failed"] if sweep.failed else []
    line = f"{printable(sweep.name)} ({sweep.state}): {', '.join(count)}"
    if sweep.best is None:
        return f"{line}; no trial has learned yet"
    chosen = ", ".join(
        f"{name.rpartition('.')[2]} {_value(v)}" for name, v in sweep.settings.items()
    )
    gap = f", {gap_text(sweep.overfitting_gap, sweep.gap_status)}" if sweep.gap_status else ""
    objective = sweep.objective.replace("_", " ")
    return f"{line}; best trial {sweep.best}: {objective} {figure(sweep.value)}{gap} ({chosen})"


def waiting_text(found: Morning) -> str:
    """Return how many jobs wait, in which way."""
    count = Counter(job.state_word for job in found.waiting)
    if found.more_waiting:
        total = len(found.waiting) + found.more_waiting
        return f"Waiting: {total:,} jobs."
    return f"Waiting: {', '.join(f'{number} {state}' for state, number in count.items())}."


def idle_text(found: Morning) -> str:
    """Return how long nothing ran, and why."""
    reasons = [f"{duration(idle.seconds)} {idle.reason}" for idle in found.idle]
    return f"Idle for {duration(found.idle_seconds)}: {'; '.join(few(reasons, FEW))}."


def spans_text(idle: IdleTime) -> str:
    """Return from when to when nothing ran for a reason."""
    spans = [f"{local_time(start)}-{local_time(end)}" for start, end in idle.spans]
    return ", ".join(few(spans, FEW))


def disk_text(found: Morning) -> str:
    """Return how much of the disk is free."""
    return f"Disk: {size_text(found.disk_free)} free of {size_text(found.disk_size)}."


def title(job: JobOfNight) -> str:
    """Return how a person tells a job: by the name they gave it, and the end of its id."""
    name = f" ({printable(job.name)})" if job.name else ""
    return end_of_id(job.id) + name


def few(lines: Sequence[str], most: int) -> list[str]:
    """Return the first of some lines, and how many more there are."""
    left = len(lines) - most
    return [*lines] if left <= 0 else [*lines[:most], f"and {left} more"]


def cut(text: str, width: int) -> str:
    """Return a text that is not longer than some characters."""
    return text if len(text) <= width else f"{text[: width - 1].rstrip()}…"


def _ending(job: JobOfNight) -> str:
    if job.interrupted:
        return "interrupted"
    words = {State.EARLY_STOPPED: "stopped early", State.QUEUED: "back in the queue"}
    return words.get(job.state, str(job.state))


def _in_order(count: Counter[str]) -> list[tuple[str, int]]:
    """Return endings and their numbers: what went well first."""
    well = {str(state) for state in FINISHED_WELL} | {"stopped early"}
    return sorted(count.items(), key=lambda pair: (pair[0] not in well, -pair[1], pair[0]))


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
