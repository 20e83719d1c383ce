"""What a page may have done: jobs changed and enqueued, by the same code as the commands."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from daemon.client import FarenseClient
from daemon.page.fields import Problems, preset_from_form, problems_of
from daemon.page.rows import actions
from daemon.page.source import PageSource
from daemon.submit.checks import SubmitChecks, Wanted
from daemon.times import parse_at
from jobs.errors import FarenseError, InvalidInput, UnknownJob
from jobs.paths import JOB_ID, Workspace
from jobs.state import HIGHEST_PRIORITY, LOWEST_PRIORITY
from jobs.storage.formatting import counted
from jobs.storage.values import printable
from jobs.training.foreseen import foreseen

if TYPE_CHECKING:
    from daemon.store.records import JobRecord
    from jobs.config.config import Preset
    from jobs.config.step_plan import Schedule

LONGEST_NAME = 100


class Refused(Exception):
    """A form that cannot be taken, with what is wrong beside each field."""

    def __init__(self, problems: Problems) -> None:
        super().__init__(problems.general or "")
        self.problems = problems


def change_job(source: PageSource, job_id: str, action: str, given: Mapping[str, Any]) -> str:
    """Do with a job what a person asked for; return what to say of it.

    Args:
        action: one that the page offers for the job as it stands now.
        given: ``priority`` for ``move``.

    Raises:
        InvalidInput: the job, as it is now, cannot be changed so.
        QueueUnreachable: Redis is away.
    """
    if not JOB_ID.fullmatch(job_id):
        raise UnknownJob("There is no such job.")

    def change(client: FarenseClient) -> str:
        before = client.job(job_id)
        offered = actions(before)
        if action == "move" and "top" in offered:
            return _moved(client, job_id, given.get("priority"))
        if action not in offered:
            raise InvalidInput(f"{job_id} is {before.state}: that cannot be done with it now.")
        return _done(client, before, action)

    return source.change(change)


def _done(client: FarenseClient, before: JobRecord, action: str) -> str:
    job = before.id
    match action:
        case "cancel" | "kill":
            after = client.cancel(job, force=action == "kill")
            return f"Cancelled {job}." if after.finished else f"Cancelling {job}."
        case "pause":
            after = client.pause(job)
            return f"Pausing {job}." if after.pause_requested else f"Paused {job}."
        case "resume":
            return f"{job} is {client.resume(job).state} again."
        case "start":
            return f"{job} is {client.start(job).state} now."
        case "top":
            return f"{job} goes first now, with priority {client.move(job).priority}."
        case "evaluate":
            return f"Queued {client.evaluate(job).id}."
        case _:
            again = client.retry(job, from_checkpoint=action == "continue")
            return f"Queued {again.id}."


def _moved(client: FarenseClient, job: str, priority: Any) -> str:
    found = _priority(priority)
    return f"{job} has priority {client.move(job, found).priority} now."


def check_form(workspace: Workspace, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return how long the job of a form would run; look at what takes no other process.

    Raises:
        Refused: something is wrong with it.
    """
    preset = None
    try:
        _begin(given)
        preset = preset_from_form(workspace, given.get("preset"), given.get("changes", {}))
        evaluated = given.get("evaluate") is True
        schedule = preset.config.schedule(
            SubmitChecks.of(workspace).look(preset.config, evaluated=evaluated)
        )
    except FarenseError as error:
        raise Refused(problems_of(error, preset)) from error
    return {"plan": plan_text(schedule), "warning": foreseen(preset.config, schedule)}


def enqueue_form(source: PageSource, given: Mapping[str, Any]) -> dict[str, Any]:
    """Enqueue the job of a form, checked as ``farense enqueue`` checks it; may take minutes.

    Raises:
        Refused: something is wrong with it; nothing was left behind.
    """
    workspace, preset = source.workspace, None
    try:
        name, priority, when = _begin(given)
        preset = preset_from_form(workspace, given.get("preset"), given.get("changes", {}))
        evaluated = given.get("evaluate") is True
        how = partial(_enqueued, preset=preset, name=name, priority=priority)
        return source.change(partial(how, when=when, evaluated=evaluated))
    except FarenseError as error:
        raise Refused(problems_of(error, preset)) from error


def _enqueued(
    client: FarenseClient,
    *,
    preset: Preset,
    name: str | None,
    priority: int,
    when: datetime | None,
    evaluated: bool,
) -> dict[str, Any]:
    config, checks = preset.config, SubmitChecks.of(client.workspace)
    schedule = config.schedule(checks.look(config, evaluated=evaluated))
    [said] = checks.check([Wanted(config, evaluated=evaluated)])
    record = client.enqueue(preset, name=name, priority=priority, schedule=when, checks=checks)
    following = client.evaluate(record.id, priority=priority, checks=checks) if evaluated else None
    remarks = [*filter(None, [foreseen(config, schedule)]), *said]
    return {
        "id": record.id,
        "evaluation": following and following.id,
        "remarks": [printable(remark) for remark in remarks],
    }


def _begin(given: Mapping[str, Any]) -> tuple[str | None, int, datetime | None]:
    """Return the name, the priority and the start time that a form holds.

    Raises:
        Refused: one of them cannot be.
    """
    name, at = given.get("name") or None, given.get("at") or None
    if name is not None and (not isinstance(name, str) or len(name) > LONGEST_NAME):
        raise Refused(Problems({"name": f"at most {LONGEST_NAME} characters"}))
    try:
        priority = _priority(given.get("priority", 0))
    except InvalidInput as error:
        raise Refused(Problems({"priority": error.message})) from error
    try:
        when = parse_at(str(at), datetime.now(UTC)) if at else None
    except InvalidInput as error:
        raise Refused(Problems({"at": error.message}, hint=error.hint)) from error
    return name, priority, when


def _priority(value: Any) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not LOWEST_PRIORITY <= value <= HIGHEST_PRIORITY:
        raise InvalidInput(
            f"A priority is a whole number from {LOWEST_PRIORITY:,} to {HIGHEST_PRIORITY:,}."
        )
    return int(value)


def plan_text(schedule: Schedule) -> str:
    """Return how long a run is, and how often it validates."""
    validations = len(schedule.validation_steps)
    return (
        f"{counted(schedule.examples, 'example')}, {counted(schedule.total_steps, 'step')}, "
        f"{counted(validations, 'validation')}"
    )
