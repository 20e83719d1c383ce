"""What one run of either program took, read the same way on both sides."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from benchmarks.runs import Watched, watch, workspace_of
from jobs.paths import RunDirectory
from jobs.storage.files import whole_lines

Curve = tuple[tuple[int, float], ...]
Event = dict[str, Any]

# What a `validation` event says of the validation set alone, without the slice for the gap.
ALONE = "valid_seconds"


@dataclass(frozen=True)
class Measured:
    """One run.

    Attributes:
        setting: what ran, in a word.
        steps: micro-batches trained.
        setup_seconds: process start, imports, tokenization, loading the model.
        wall_seconds: all from there to the end: cache fill, training, validations.
        fill_seconds: of these, filling the prefix cache.
        validation_seconds: of these, each validation; farense's with the slice for the gap.
        validation_alone_seconds: each validation without that slice; for mlx-lm the same again.
        larger_batches_seconds: mlx-lm's validation in batches of farense's size, no part of the
            run.
        mlx_peak_mb: peak of what MLX allocated, from the process's start on.
        resident_mb: peak of the process's resident memory.
        losses: of training, by step.
        validation_losses: by step, as each program counts.
        same_losses: mlx-lm's over the positions farense counts, where that was measured.
        sampled: so many steps and validation batches were run, and times extrapolated from them.
    """

    setting: str
    steps: int
    setup_seconds: float
    wall_seconds: float
    fill_seconds: float
    validation_seconds: tuple[float, ...]
    validation_alone_seconds: tuple[float, ...]
    larger_batches_seconds: float | None
    mlx_peak_mb: float
    resident_mb: float
    losses: Curve
    validation_losses: Curve
    same_losses: Curve = ()
    sampled: tuple[int, int] | None = None

    @property
    def training_seconds(self) -> float:
        """Seconds of training alone."""
        return self.wall_seconds - self.fill_seconds - sum(self.validation_seconds)

    @property
    def steps_per_second(self) -> float:
        """Speed of training alone."""
        return self.steps / self.training_seconds


def measure_farense(run: RunDirectory, setting: str) -> Measured:
    """Run a job as a worker would, without one."""
    process = watch(workspace_of(run), "jobs", str(run.path))
    lines = whole_lines(workspace_of(run).job_log(run.job_id))
    return _from_events([json.loads(line) for line in lines], process, setting)


def measure_mlx_lm(run: RunDirectory, setting: str, *options: str) -> Measured:
    """Run mlx-lm on what the order of a farense job says (see :mod:`benchmarks.mlx_lm_lora`)."""
    file = run.path / "mlx_lm.json"
    module = "benchmarks.mlx_lm_lora"
    process = watch(workspace_of(run), module, str(run.path), "--result", str(file), *options)
    result = json.loads(file.read_text())
    return Measured(
        setting=setting,
        steps=result["steps"],
        setup_seconds=result["loaded_at"] - process.launched.timestamp(),
        wall_seconds=result["wall_seconds"],
        fill_seconds=0.0,
        validation_seconds=tuple(result["validation_seconds"]),
        validation_alone_seconds=tuple(result["validation_seconds"]),
        larger_batches_seconds=result.get("larger_batches_seconds"),
        mlx_peak_mb=result["mlx_peak_mb"],
        resident_mb=result["resident_mb"],
        losses=_curve(result["losses"]),
        validation_losses=_curve(result["validation_losses"]),
        same_losses=_curve(result["same_losses"]),
    )


def extrapolated(
    sample: Measured, batches: int, steps: int, validations: int, batches_each: int
) -> Measured:
    """Return what a run of ``steps`` would have taken at the pace of a ``sample`` of it.

    Args:
        batches: validation batches in the sample's one validation.
        validations, batches_each: validations of the whole run, and the batches of each.
    """
    each = (sample.validation_seconds[0] / batches * batches_each,) * validations
    return replace(
        sample,
        steps=steps,
        wall_seconds=steps / sample.steps_per_second + sum(each),
        validation_seconds=each,
        validation_alone_seconds=each,
        sampled=(sample.steps, batches),
    )


def _from_events(events: list[Event], process: Watched, setting: str) -> Measured:
    started, finished = _only(events, "started"), _only(events, "finished")
    rows = [event for event in events if event["event"] == "train_metrics"]
    validations = [event for event in events if event["event"] == "validation"]
    # The losses before training may be known from an earlier run.
    measured = [event for event in validations if event["seconds"]]
    fills = _fills(events)
    setup = (_time(started) - process.launched).total_seconds()
    return Measured(
        setting=setting,
        steps=finished["step"],
        setup_seconds=setup,
        wall_seconds=(_time(finished) - _time(started)).total_seconds(),
        fill_seconds=sum(fill["seconds"] for fill in fills),
        validation_seconds=tuple(event["seconds"] for event in measured),
        validation_alone_seconds=tuple(
            event[ALONE] for event in measured if event.get(ALONE) is not None
        ),
        larger_batches_seconds=None,
        mlx_peak_mb=max(row["memory_mb"] for row in rows),
        resident_mb=process.resident_mb,
        losses=_curve([(row["step"], row["loss"]) for row in rows if row["loss"] is not None]),
        validation_losses=_curve([(event["step"], event["val_loss"]) for event in validations]),
    )


def _fills(events: list[Event]) -> list[Event]:
    """Return the last event of each filling of the prefix cache: its ``seconds`` add up."""
    last = {event["data"]: event for event in events if event["event"] == "prefix_cached"}
    return list(last.values())


def _only(events: list[Event], kind: str) -> Event:
    (event,) = [event for event in events if event["event"] == kind]
    return event


def _time(event: Event) -> datetime:
    return datetime.fromisoformat(event["time"])


def _curve(pairs: list[Any]) -> Curve:
    return tuple((step, loss) for step, loss in pairs)
