"""Runs made up figure by figure, for what judges them."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from jobs.compare.curve import Curve, curve_of
from jobs.compare.side import Side
from jobs.config.config import load_preset
from jobs.paths import REPOSITORY
from jobs.spec import DataFile
from jobs.state import State

DIGEST = "ab" * 32
CURVE = [field.name for field in fields(Curve)]


def row(
    step: int, val_loss: float | None = None, train_eval_loss: float | None = None, **more: Any
) -> dict[str, Any]:
    """Return a metrics row: of a validation where it has a ``val_loss``."""
    return {
        "step": step,
        "epoch": 1,
        "val_loss": val_loss,
        "train_eval_loss": train_eval_loss,
        **more,
    }


# Learns at first, is best at step 400 of 600, with a gap of 0.1.
ROWS = [
    row(0, 3.0, 3.0),
    row(200, 1.5, 1.45, loss=1.6, epoch=1),
    row(400, 1.2, 1.1, loss=1.2, epoch=2),
    row(600, 1.25, 1.0, loss=1.1, epoch=3),
]


def made_side(preset: str = "v2", rows: list[dict[str, Any]] | None = None, **changes: Any) -> Side:
    """Return a run of a preset that ended by early stopping, with ``changes`` of its figures."""
    config = load_preset(preset, (REPOSITORY / "configs",)).config.model_dump(mode="json")
    curve = curve_of(ROWS if rows is None else rows)
    curve = replace(curve, **{name: changes.pop(name) for name in CURVE if name in changes})
    side = Side(
        name="20261122-210000-v2-abcd",
        folder="/nowhere",
        made_by_farense=True,
        preset=preset,
        state=State.EARLY_STOPPED,
        reason=None,
        failure=None,
        failed_attempts=(),
        total_steps=800,
        config=config,
        model_fingerprint="",
        train=DataFile("data/imported/cd.jsonl", "cd" * 32, 600, "train.jsonl"),
        valid=DataFile(f"data/imported/{DIGEST}.jsonl", DIGEST, 40, "valid.jsonl"),
        curve=curve,
        rollbacks=0,
        has_adapter=True,
        scores={},
        questions=0,
        ignore_accents=None,
        outdated=False,
        missing=(),
    )
    return replace(side, **changes)


def older(**changes: Any) -> Side:
    """Return a run that another program made: nothing but its rows is known."""
    changes = {"config": {}, "state": None, "valid": None, "has_adapter": False, **changes}
    return made_side(made_by_farense=False, total_steps=None, **changes)


def write_older_run(folder: Path, text: str) -> Path:
    """Make a folder of an older run from the text of its ``training_metrics.json``."""
    folder.mkdir(parents=True)
    (folder / "training_metrics.json").write_text(text)
    return folder
