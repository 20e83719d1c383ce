"""What each tool does, as plain functions that raise errors of farense. Knows no protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from threading import Lock
from typing import TYPE_CHECKING, Any

from daemon.agents.budget import Allowance, Limits
from daemon.agents.fence import Fence
from daemon.as_shown import as_found
from daemon.client import FarenseClient
from daemon.file_client import FileClient
from daemon.latest import LEFT, RAN, SPEAKS
from daemon.reader import QueueReader, open_reader
from daemon.standstill import held_lines, why_still
from daemon.store.records import JobRecord
from daemon.sweep.view import all_sweeps, view_sweep
from jobs.config.config import TrainConfig
from jobs.config.config_file import preset_names
from jobs.config.share import percent
from jobs.errors import FarenseError, InvalidInput, QueueUnreachable
from jobs.paths import REPOSITORY, Workspace
from jobs.storage.files import plain
from jobs.sweep.folder import find_sweep

if TYPE_CHECKING:
    from jobs.past_run import PastRun

Values = dict[str, Any]

# Of lists that may be long: an agent reads them all.
MOST = 20
MOST_ROWS = 500
LAST_LINES = 20
SHORT_RECORD = (
    *("id", "name", "preset", "kind", "state", "step", "total_steps", "loss", "best_val_loss"),
    *("overfitting_gap", "gap_status", "token_f1", "exact_match", "eta_seconds"),
    *("duration_seconds", "evaluates", "sweep", "reason", "interrupted", "finished_at"),
)
REFUSED = "This server only reads: it was started without --allow-enqueue."
HOW_TO_ALLOW = "The person who uses it may start it with: farense mcp --allow-enqueue"


class Toolbox:
    """The tools of a workspace.

    Args:
        limits: what may be queued; None: nothing may.
    """

    def __init__(self, workspace: Workspace, limits: Limits | None) -> None:
        self.workspace = workspace
        self._fence = Fence(workspace)
        self._budget = None if limits is None else Allowance(limits)
        self._lock = Lock()

    def presets(self, name: str | None, settings: Values | None) -> Values:
        """Return the presets, or one with each setting, its value and what it means."""
        if name is None:
            names = preset_names((self.workspace.configs, REPOSITORY / "configs"))
            return {"presets": [self._about(known) for known in names]}
        found = self._fence.preset(name, settings)
        values = found.config.model_dump(mode="json")
        return {
            "name": found.name,
            "description": found.description,
            "settings": _explained(values, found.why, TrainConfig),
        }

    def check_data(self, train: str, valid: str | None) -> Values:
        """Return what data files hold: bad lines, duplicates, leakage, lengths."""
        from jobs.data.check import check  # noqa: PLC0415 - loads NumPy

        share = None
        try:
            share = percent(valid or "")
        except ValueError as error:
            raise InvalidInput(f"valid: {error}.") from error
        beside = self._fence.file(valid) if valid and not share else None
        report = check(self._fence.file(train), beside, None, share=share).as_dict()
        return {**_named(_cut(plain(report)), self.workspace), "lengths_are_in": "characters"}

    def enqueue(
        self,
        preset: str,
        settings: Values | None,
        name: str | None,
        max_hours: float | None,
        *,
        evaluate: bool,
    ) -> Values:
        """Queue a training, by the checks of ``farense enqueue``, within the budget."""
        from daemon.submit.checks import SubmitChecks, Wanted  # noqa: PLC0415 - loads much

        if self._budget is None:
            raise InvalidInput(REFUSED, HOW_TO_ALLOW)
        changes = dict(settings or {})
        if max_hours is not None:
            changes["max_hours"] = max_hours
        wanted = self._fence.preset(preset, changes)
        hours = wanted.config.max_hours
        with self._lock, FarenseClient.connect(self.workspace) as client:
            known = _known(client)
            self._budget.check(1 + evaluate, hours, known)
            checks = SubmitChecks.of(self.workspace)
            [said] = checks.check([Wanted(wanted.config, evaluated=evaluate)])
            jobs = [client.enqueue(wanted, name=name, checks=checks)]
            self._budget.take(jobs[0].id, hours)
            if evaluate:
                jobs.append(client.evaluate(jobs[0].id, checks=checks))
                self._budget.take(jobs[1].id, hours)
            return {
                "job": _short(jobs[0]),
                "evaluation": _short(jobs[1]) if evaluate else None,
                "warnings": [*said, *client.without_daemon(jobs[0].queue)],
                "budget": self._budget.left(known),
            }

    def status(self, job: str | None) -> Values:
        """Return the jobs at a glance, or one in full, and why nothing starts where that is so."""
        with self._reading() as reader:
            if job is not None:
                record = reader.job(job, RAN)
                return {"job": record.as_dict(), "held_because": why_still(reader, record)}
            seen = reader.overview()
            return {
                "jobs": [_short(record) for record in seen.records],
                "more_waiting": seen.more_waiting,
                "held_because": held_lines(reader, seen.records),
            }

    def job(self, argument: str) -> JobRecord:
        """Return a job as it stands; an id, a unique part of one, a name, or ``latest``."""
        with self._reading() as reader:
            return reader.job(argument, SPEAKS)

    def followed(self, record: JobRecord) -> Values:
        """Return what a job that was followed has come to, and the last that it said."""
        from jobs.console import Console  # noqa: PLC0415 - only this needs it

        console, lines = Console(), list[str]()
        with self._reading() as reader:
            record = reader.job(record.id, SPEAKS)
            for envelope in reader.follow(record.id, follow=False):
                lines = [*lines, *console.lines(envelope)][-LAST_LINES:]
            still = why_still(reader, record)
        told = {"ended": record.finished, "job": record.as_dict(), "said_last": lines}
        return {**told, "held_because": still}

    def metrics(self, job: str, most_rows: int) -> Values:
        """Return the rows of a job's metrics, thinned where there are many."""
        run = self._run(job)
        rows = _thinned(list(run.rows), min(max(most_rows, 2), MOST_ROWS))
        return {
            "job": run.name,
            "rows": [plain(row) for row in rows],
            "rows_in_all": len(run.rows),
            "summary": plain({k: v for k, v in run.summary.items() if k != "config"}),
            "missing": list(run.missing),
        }

    def compare(self, a: str, b: str) -> Values:
        """Return how run B differs from run A: the decision, the scores with their intervals."""
        from jobs.compare.comparison import compare  # noqa: PLC0415 - loads NumPy

        found = plain(asdict(compare(self._run(a), self._run(b))))
        for side in ("a", "b"):
            found[side].pop("config")
            found[side].pop("folder")
        return {key: found[key] for key in (*COMPARED, "a", "b")}

    def sweeps(self, sweep: str | None) -> Values:
        """Return the sweeps, or one with its leaderboard."""
        if sweep is None:
            return {"sweeps": [_sweep(view.as_dict()) for view in all_sweeps(self.workspace)]}
        folder = find_sweep(self.workspace, sweep)
        self.workspace.inside(folder.path.relative_to(self.workspace.root).as_posix())
        found = plain(view_sweep(folder).as_dict())
        trials = {trial["number"]: trial for trial in found["trials"]}
        best = [trials[number] for number in found["leaderboard"][:MOST]]
        return {**_sweep(found), "leaderboard": [_trial(trial) for trial in best]}

    def _about(self, name: str) -> Values:
        try:
            found = self._fence.preset(name)
        except FarenseError as error:
            return {"name": name, "problem": error.message}
        return {"name": name, "description": found.description}

    def _run(self, argument: str) -> PastRun:
        """Return what a job has left; an evaluation stands for the job that it evaluates."""
        from jobs.past_run import read_run  # noqa: PLC0415 - loads NumPy

        with self._reading() as reader:
            record = reader.job(argument, LEFT)
            if record.evaluates:
                record = reader.job(record.evaluates)
        return as_found(read_run(self._fence.run(record).path), record)

    @contextmanager
    def _reading(self) -> Iterator[QueueReader | FileClient]:
        """Provide a client that only reads, from the files where Redis is away."""
        reader, _ = open_reader(self.workspace)
        with reader:
            yield reader


COMPARED = (
    *("decision", "scores", "pairs", "config", "same_validation_set"),
    *("criteria", "advice", "notes"),
)


def _known(client: FarenseClient) -> Callable[[str], JobRecord | None]:
    def known(job_id: str) -> JobRecord | None:
        try:
            return client.job(job_id)
        except QueueUnreachable:
            raise
        except FarenseError:
            return None

    return known


def _short(record: JobRecord) -> Values:
    values = record.as_dict()
    return {name: values[name] for name in SHORT_RECORD if values[name] is not None}


def _sweep(found: Values) -> Values:
    names = ("id", "name", "state", "reason", "objective", "best", "planned_trials", "seconds_left")
    ended = sum(trial["ended_at"] is not None for trial in found["trials"])
    told = {name: found[name] for name in names}
    return {**told, "trials": len(found["trials"]), "ended": ended}


def _trial(trial: Values) -> Values:
    names = ("number", "value", "params", "state", "pruned_by", "learned", "jobs", "reason")
    return {name: trial[name] for name in names}


def _explained(values: Values, why: dict[str, str], model: Any, above: str = "") -> Values:
    """Return each setting with its value, what it means, and why the preset has it so."""
    found: Values = {}
    for name, value in values.items():
        field, dotted = model.model_fields.get(name), f"{above}{name}"
        if isinstance(value, dict) and hasattr(field and field.annotation, "model_fields"):
            found |= _explained(value, why, field.annotation, f"{dotted}.")
            continue
        told = {"value": value, "means": field and field.description, "why": why.get(dotted)}
        found[dotted] = {key: text for key, text in told.items() if key == "value" or text}
    return found


def _thinned(rows: list[Any], most: int) -> list[Any]:
    """Return no more rows than ``most``: validations first, then evenly; first and last stay."""
    if len(rows) <= most:
        return rows
    kept = {0, len(rows) - 1}
    validations = [n for n, row in enumerate(rows) if row.get("val_loss") is not None]
    for numbers in (validations, range(len(rows))):
        room = most - len(kept)
        if room > 0:
            chosen = [numbers[len(numbers) * n // room] for n in range(min(room, len(numbers)))]
            kept |= set(chosen[:room])
    return [rows[number] for number in sorted(kept)]


def _cut(value: Any) -> Any:
    """Return plain data with long lists cut, and how many entries are left out."""
    if isinstance(value, dict):
        return {key: _cut(item) for key, item in value.items()}
    if isinstance(value, list):
        left = len(value) - MOST
        return [*map(_cut, value[:MOST]), *([f"and {left} more"] if left > 0 else [])]
    return value


def _named(report: Values, workspace: Workspace) -> Values:
    """Return a report on data whose files are named from the workspace on."""
    root = f"{workspace.root.resolve()}/"
    for part in ("train", "valid"):
        if report[part]:
            report[part]["path"] = report[part]["path"].removeprefix(root)
    return report
