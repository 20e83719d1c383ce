"""What is said of what happened: a title and a few lines that fit a lock screen. Pure.

What has to be looked up is in the arguments (:mod:`daemon.notify.look_up` does that).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from daemon.figures import figures, scores
from daemon.notify.happening import Happening, held_class, shortened
from daemon.notify.kinds import NoticeKind
from daemon.store.records import JobRecord
from jobs.state import JobState, State
from jobs.storage.formatting import counted, duration, local
from jobs.storage.values import printable
from jobs.sweep.trial import Trial

NEWLINE = "\n"
# Lines of a gathered message; what else there is, it counts.
MOST_LINES = 5
# Of the record of a job, what a command is told of it.
TOLD_OF_JOBS = (
    *("id", "preset", "name", "kind", "evaluates", "state", "reason", "failure", "attempt"),
    *("step", "total_steps", "baseline_val_loss", "best_val_loss", "overfitting_gap"),
    *("gap_status", "token_f1", "exact_match", "started_at", "finished_at", "run_dir"),
)


@dataclass(frozen=True)
class Matter:
    """Something that a person may want to be told of.

    Attributes:
        id: of what happened.
        at: when, ISO 8601 in UTC.
        kinds: what it is, the foremost first: a training may be ``finished`` and ``best``.
        line: the same in a line, for a message about several.
        cause: what it has in common with others: a reason, say.
        about: the id of the job or sweep.
        data: figures and facts, for programs.
    """

    id: str
    at: str
    kinds: tuple[NoticeKind, ...]
    title: str
    body: str
    line: str
    cause: str = ""
    about: str | None = None
    data: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        return {**asdict(self), "kinds": list(map(str, self.kinds))}


@dataclass(frozen=True)
class Notice:
    """What is sent: one matter, or several of a kind that were gathered.

    Attributes:
        kind: of the matters; ``test`` of a message that tells of none.
    """

    kind: NoticeKind | Literal["test"]
    title: str
    body: str
    matters: tuple[Matter, ...]

    def as_event(self) -> dict[str, Any]:
        """Return what an ``on_event`` command is given; docs/night.md describes it."""
        return {
            "version": 1,
            "kind": str(self.kind),
            "title": self.title,
            "body": self.body,
            "count": len(self.matters),
            "matters": [
                {
                    "id": matter.id,
                    "at": matter.at,
                    "kinds": list(map(str, matter.kinds)),
                    "about": matter.about,
                    "title": matter.title,
                    "body": matter.body,
                    **matter.data,
                }
                for matter in self.matters
            ],
        }


@dataclass(frozen=True)
class BestSoFar:
    """A training that came to a lower validation loss than all before it.

    Attributes:
        of: how many trainings of one model and validation data were compared, it among them.
        before: the lowest loss until then, of the job ``before_job``.
    """

    of: int
    before: float
    before_job: str


@dataclass(frozen=True)
class SweepEnd:
    """What a sweep came to.

    Attributes:
        best: its best trial; None where none has learned.
        best_record: the job of that trial, with what its evaluation found.
    """

    id: str
    name: str
    state: State
    reason: str | None
    objective: str
    trials: Sequence[Trial]
    best: Trial | None
    best_record: JobRecord | None = None


def of_job(
    happening: Happening,
    record: JobRecord | None,
    state: JobState,
    best: BestSoFar | None = None,
) -> Matter:
    """Return what is said of a job that has ended.

    Args:
        record: as its files tell; None where these are gone.
        best: where it is the best so far.
    """
    job = happening.subject or ""
    if record is None:
        record = JobRecord(job, job[16:-5], state.state, "", reason=state.reason)
    kinds: list[NoticeKind] = {
        State.FAILED: [NoticeKind.FAILED],
        State.EARLY_STOPPED: [NoticeKind.EARLY_STOPPED],
    }.get(state.state, [NoticeKind.FINISHED])
    kinds += [NoticeKind.BEST] if best else []
    failed = state.state is State.FAILED
    title, body = (_failed if failed else _ended)(record, best)
    data: dict[str, Any] = {
        "job": {name: getattr(record, name) for name in TOLD_OF_JOBS}
        | {"state": str(record.state), "duration_seconds": record.duration_seconds}
    }
    if best:
        data["best"] = asdict(best)
    line = printable(f"{record.id}: {_in_a_line(record)}")
    # Without the id, reasons that name the job's own files are one.
    cause = shortened((record.reason or "").replace(record.id, "*")) if failed else ""
    return Matter(
        happening.id, happening.at, tuple(kinds), title, body, line, cause, record.id, data
    )


def _called(record: JobRecord) -> str:
    return record.name or record.preset


def _failed(record: JobRecord, _: BestSoFar | None) -> tuple[str, str]:
    seconds = record.duration_seconds
    after = f" after {duration(seconds)}" if seconds else ""
    what = "The evaluation of " if record.evaluates else ""
    reason = shortened(record.reason or "It does not say why.")
    lines = [reason, f"More: farense logs {record.id}"]
    if record.failure != "bad_input" and "farense retry" not in reason:
        begun = " --from-checkpoint" if record.checkpoint_step and not record.evaluates else ""
        lines.append(f"Again: farense retry {record.id}{begun}")
    return _fit(f"{what}{_called(record)} failed{after}", lines)


def _ended(record: JobRecord, best: BestSoFar | None) -> tuple[str, str]:
    lines = [_sentence(figures(record))]
    if record.evaluates:
        title = f"{_called(record)} was evaluated"
        lines.append(f"More: farense report {record.evaluates}")
    else:
        how = "stopped early" if record.state is State.EARLY_STOPPED else "finished"
        seconds = record.duration_seconds
        title = f"{_called(record)} {how}" + (f" after {duration(seconds)}" if seconds else "")
        lines.append(_sentence(scores(record)))
        if record.verdict is not None and record.verdict.note and not record.verdict.learned:
            lines.append(record.verdict.note)
        if best:
            title += ", the best so far"
            lines.append(
                f"The lowest of {best.of} on this model and validation data; before: "
                f"{best.before:.4f} ({best.before_job})."
            )
        lines.append(record.id)
    return _fit(title, lines)


def _in_a_line(record: JobRecord) -> str:
    if record.state is State.FAILED:
        return f"failed: {shortened(record.reason or 'it does not say why', 120)}"
    found = ", ".join(figures(record))
    return f"{str(record.state).replace('_', ' ')}{': ' if found else ''}{found}"


def of_sweep(happening: Happening, end: SweepEnd) -> Matter:
    """Return what is said of a sweep that has ended."""
    failed = sum(trial.state is State.FAILED for trial in end.trials)
    count = counted(len(end.trials), "trial")
    lines = [f"{count}" + (f", {failed} failed" if failed else "") + f"; {end.reason or 'ended'}."]
    verb = "failed" if end.state is State.FAILED else "ended"
    title = f"Sweep {end.name} {verb}"
    if end.best is not None:
        settings = ", ".join(f"{name}={value}" for name, value in end.best.settings.items())
        lines.insert(0, f"Best: trial {end.best.number} ({shortened(settings, 120)}).")
        if end.best_record is not None:
            found = [*figures(end.best_record), *scores(end.best_record)]
            lines.insert(1, _sentence(found))
        elif end.best.value is not None:
            lines.insert(1, f"{end.objective} {end.best.value:.4f}.")
    lines.append(f"More: farense sweep status {end.id}")
    title, body = _fit(title, lines)
    record = end.best_record
    data = {
        "sweep": {
            "id": end.id,
            "name": end.name,
            "state": str(end.state),
            "reason": end.reason,
            "objective": end.objective,
            "trials": len(end.trials),
            "failed": failed,
            "best_trial": end.best.number if end.best else None,
            "best_value": end.best.value if end.best else None,
            "best_settings": end.best.settings if end.best else None,
            "best_job": record.id if record else None,
            "token_f1": record.token_f1 if record else None,
        }
    }
    line = f"{end.id}: {verb}, {count}"
    return Matter(
        happening.id, happening.at, (NoticeKind.SWEEP,), title, body, line, about=end.id, data=data
    )


# What to type, by the beginning of why nothing may start.
HELD_ADVICE = {
    "the disk is full": "To make space: farense prune, farense cache clear",
    "the queue does not answer": "More: farense daemon status",
    "outside the window": "Jobs go on in the next one.",
    "not on mains power": "Jobs go on once it is plugged in.",
}


def of_held(happening: Happening, host: str) -> Matter:
    """Return what is said where no job may start."""
    reason = str(happening.detail.get("reason", ""))
    waiting = happening.detail.get("waiting")
    cause = held_class(reason)
    lines = [f"{reason[:1].upper()}{reason[1:]}."]
    if isinstance(waiting, int) and waiting:
        lines.append(f"{counted(waiting, 'job')} {'waits' if waiting == 1 else 'wait'} on {host}.")
    lines.append(HELD_ADVICE.get(cause, "More: farense queue"))
    title, body = _fit(f"Jobs are held: {reason.partition(': ')[0]}", lines)
    data = {"held": {"reason": reason, "waiting": waiting, "host": host}}
    line = printable(f"{local(happening.at)}: {reason}")
    return Matter(
        happening.id, happening.at, (NoticeKind.HELD,), title, body, line, cause, data=data
    )


def of_queue_empty(happening: Happening, host: str) -> Matter:
    """Return what is said once nothing is left to do."""
    ended: Mapping[str, int] = happening.detail.get("ended", {})
    since = happening.detail.get("since")
    parts = [f"{number} {state.replace('_', ' ')}" for state, number in ended.items() if number]
    total = sum(ended.values())
    when = f" since {local(since)}" if isinstance(since, str) else ""
    lines = [f"{counted(total, 'job')} ended{when}: {', '.join(parts)}."] if total else []
    paused = happening.detail.get("paused")
    if isinstance(paused, int) and paused:
        are = "is" if paused == 1 else "are"
        lines.append(f"{counted(paused, 'job')} {are} paused: farense resume")
    lines.append("More: farense status")
    title, body = _fit(f"The queue of {host} is empty", lines)
    data = {"queue": {"ended": dict(ended), "since": since, "paused": paused, "host": host}}
    kinds = (NoticeKind.QUEUE_EMPTY,)
    return Matter(happening.id, happening.at, kinds, title, body, f"{total} ended", data=data)


def of_daemon_gone(happening: Happening, host: str) -> Matter:
    """Return what is said of a daemon that went without a word."""
    detail = happening.detail
    since, back = detail.get("since"), detail.get("back")
    when = local(since) if isinstance(since, str) else "an unknown time"
    if back:
        title = f"The daemon of {host} was gone, and is back"
        how = "The machine was started again." if detail.get("rebooted") else "It was killed."
        lines = [f"It was last there at {when}. {how} Jobs go on from their checkpoints."]
    else:
        title = f"The daemon of {host} is gone"
        lines = [f"It ended without a word at {when}, killed perhaps."]
        running = detail.get("running")
        if isinstance(running, str):
            lines.append(f"{running} goes on from its last checkpoint once a daemon runs.")
        lines.append("To start one: farense daemon")
    title, body = _fit(title, lines)
    kinds, data = (NoticeKind.DAEMON_GONE,), {"daemon": {**detail, "host": host}}
    return Matter(happening.id, happening.at, kinds, title, body, title, data=data)


def of_morning(happening: Happening, text: str) -> Matter:
    """Return what is said at the end of a window: the first line is the title."""
    first, _, rest = text.strip().partition(NEWLINE)
    title = printable(shortened(first or "The night is over", 100))
    body = printable(rest.strip() or title, keep=NEWLINE)
    since = happening.detail.get("since")
    data = {"window": {"since": since}}
    return Matter(happening.id, happening.at, (NoticeKind.MORNING,), title, body, title, data=data)


GATHERED = {
    NoticeKind.FAILED: "{n} jobs failed",
    NoticeKind.FINISHED: "{n} jobs finished",
    NoticeKind.EARLY_STOPPED: "{n} jobs stopped early",
    NoticeKind.BEST: "{n} trainings were the best so far",
    NoticeKind.SWEEP: "{n} sweeps ended",
    NoticeKind.QUEUE_EMPTY: "The queue was empty {n} times",
    NoticeKind.HELD: "Jobs were held {n} times",
    NoticeKind.DAEMON_GONE: "The daemon was gone {n} times",
    NoticeKind.MORNING: "{n} windows have ended",
}


def notice_of(kind: NoticeKind, matters: Sequence[Matter]) -> Notice:
    """Return the one message that tells of some matters of a kind, oldest first."""
    if len(matters) == 1:
        return Notice(kind, matters[0].title, matters[0].body, tuple(matters))
    causes = Counter(matter.cause for matter in matters)
    lines: list[str] = []
    if len(causes) < len(matters) and "" not in causes:
        # Many that have a reason in common: the reasons are what matters.
        for cause, number in causes.most_common(MOST_LINES):
            first = next(matter for matter in matters if matter.cause == cause)
            named = f" (the first: {first.about})" if first.about and number > 1 else ""
            lines.append(f"{number:,} x {shortened(cause, 160)}{named}")
        left = sum(causes.values()) - sum(n for _, n in causes.most_common(MOST_LINES))
    else:
        # The newest: of what comes again and again they say how it stands.
        lines = [shortened(matter.line, 200) for matter in matters[-MOST_LINES:]]
        left = len(matters) - len(lines)
    lines += [f"and {left:,} more"] if left else []
    lines.append("More: farense status")
    title, body = _fit(GATHERED[kind].format(n=f"{len(matters):,}"), lines)
    return Notice(kind, title, body, tuple(matters))


def _sentence(parts: Sequence[str]) -> str:
    text = ", ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _fit(title: str, lines: Sequence[str]) -> tuple[str, str]:
    """Return a title and a body of lines, without what a screen must not obey."""
    body = NEWLINE.join(dict.fromkeys(line for line in lines if line))
    return printable(shortened(title, 120)), printable(body, keep=NEWLINE)
