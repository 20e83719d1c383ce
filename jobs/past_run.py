"""What a run left behind, read as far as it can be: for comparing, reporting and exporting.

A run directory of farense holds all of it. A folder of an older run, made by another program, may
hold a ``training_metrics.json`` and little else; :attr:`PastRun.missing` says what.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson

from jobs.errors import InvalidInput
from jobs.evaluation.report import ANSWERS
from jobs.paths import RunDirectory
from jobs.spec import JobSpec, read_spec
from jobs.state import State
from jobs.storage.files import from_plain, read_json, whole_lines
from jobs.storage.values import finite

Row = dict[str, Any]
Found = TypeVar("Found")


@dataclass(frozen=True)
class PastRun:
    """What is known of a run.

    Attributes:
        directory: where it lies.
        spec: what it was to do; None of a folder that farense did not make.
        rows: the metrics, a row for each logged step, oldest first; keys as in
            :class:`jobs.events.TrainMetrics`, as far as they were measured.
        summary: ``training_summary.json``: how it ended; empty where it has not.
        report: ``evaluation/evaluation_report.json``; None where it was not evaluated.
        answers: the lines of ``evaluation/answers.jsonl``.
        missing: what is not there, or cannot be read: a sentence each.
        kept_step: the step of the adapter that was kept; None where nothing says so.
        interrupted: its files say that it runs, and nothing runs it; only who asked the locks says
            so.
        heard_at: when it was last heard of; only of an interrupted run.
    """

    directory: RunDirectory
    spec: JobSpec | None
    rows: tuple[Row, ...]
    summary: Row
    report: Row | None
    answers: tuple[Row, ...]
    missing: tuple[str, ...]
    kept_step: int | None = None
    interrupted: bool = False
    heard_at: str | None = None

    @property
    def name(self) -> str:
        """What to call it: the id of the job, or the name of the folder."""
        return self.directory.path.name

    @property
    def config(self) -> dict[str, Any]:
        """The settings it ran with; empty where they are not known."""
        if self.spec is not None:
            return self.spec.config
        config = self.summary.get("config")
        return config if isinstance(config, dict) else {}

    @property
    def told_state(self) -> State | None:
        """The state in which the summary says that it ended; None where it does not say."""
        told = self.summary.get("state")
        return State(told) if isinstance(told, str) and told in set(State) else None

    @property
    def validations(self) -> list[Row]:
        """The rows with a validation loss, oldest first; that of step 0 is the baseline."""
        return [row for row in self.rows if row.get("val_loss") is not None]

    @property
    def training_seconds(self) -> float | None:
        """What steps, validations and checkpoints took, over all attempts; None if unknown."""
        told = [self.summary, *reversed(self.rows)]
        return next((s for row in told if (s := finite(row.get("elapsed_time_sec")))), None)


def read_run(folder: Path) -> PastRun:
    """Return what a run left in ``folder``.

    Raises:
        InvalidInput: there is no such folder, or nothing in it that a run leaves.
    """
    if not folder.is_dir():
        raise InvalidInput(f"There is no folder {folder}.")
    run = RunDirectory(folder)
    reader = _Reader(run)
    spec = reader.read("job.json", lambda: read_spec(run, copied=True))
    rows = reader.read(run.metrics.name, lambda: _record(run)) if run.metrics.is_file() else None
    if rows is None:  # older runs have the list for people alone
        rows = reader.read(run.metrics_json.name, lambda: _list(run))
    summary = reader.read("training_summary.json", lambda: _object(run.summary))
    report = reader.read(
        "evaluation/evaluation_report.json", lambda: _object(run.evaluation_report)
    )
    answers = reader.read(f"evaluation/{ANSWERS}", lambda: _lines(run.evaluation / ANSWERS))
    if spec is None and not rows and summary is None:
        raise InvalidInput(
            f"{folder} does not look like a run: " + "; ".join(reader.missing) + ".",
            "A run's folder has at least a training_metrics.json: a list of rows with step, loss "
            "and val_loss.",
        )
    kept = _kept_step(run, summary or {})
    return PastRun(
        run, spec, rows or (), summary or {}, report, answers or (), tuple(reader.missing), kept
    )


def _kept_step(run: RunDirectory, summary: Row) -> int | None:
    """Return the step of the adapter that was kept, as the summary says, or what stands before."""
    told = summary.get("best_step")
    if told is None:
        with suppress(OSError, ValueError):
            told = _object(run.training_state).get("best_step")
    return told if isinstance(told, int) and not isinstance(told, bool) else None


class _Reader:
    """Reads what is there, and keeps what is not."""

    def __init__(self, run: RunDirectory) -> None:
        self._folder = run.path
        self.missing: list[str] = []

    def read(self, name: str, read: Callable[[], Found]) -> Found | None:
        try:
            return read()
        except FileNotFoundError:
            self.missing.append(f"{name} is not there")
        except InvalidInput as error:
            there = (self._folder / name).exists()
            self.missing.append(error.message.rstrip(".") if there else f"{name} is not there")
        except (OSError, ValueError) as error:
            self.missing.append(f"{name} cannot be read: {error}")
        return None


def _record(run: RunDirectory) -> tuple[Row, ...]:
    return tuple(from_plain(row) for row in _lines(run.metrics))


def _list(run: RunDirectory) -> tuple[Row, ...]:
    # Other programs write NaN as Python does, which is no JSON.
    rows = from_plain(json.loads(run.metrics_json.read_bytes()))
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("it is no list of rows")
    return tuple(rows)


def _lines(path: Path) -> tuple[Row, ...]:
    rows = [orjson.loads(line) for line in whole_lines(path)]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("a line is no object")
    return tuple(rows)


def _object(path: Path) -> Row:
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError("it is no object")
    values: Row = from_plain(found)
    return values
