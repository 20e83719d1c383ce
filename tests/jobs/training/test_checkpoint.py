"""Checkpoints and metrics at the moments when a kill, or a power cut, would hurt."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.backend.mlx import mx
from jobs.errors import Diverged
from jobs.events import CheckpointSaved
from jobs.paths import RunDirectory, Workspace
from jobs.training.checkpoint import newest_checkpoint, save_checkpoint
from jobs.training.metrics import MetricsFiles
from tests.helpers.attempts import attempt, only
from tests.helpers.runs import make_run


def saved(run: RunDirectory, step: int) -> Path:
    path = run.checkpoint(0, step)
    save_checkpoint(path, {"a": mx.array([step])}, {}, None, {"step": step}, {})
    return path


def fail(text: str) -> None:
    raise AssertionError(text)


def test_a_replacement_killed_between_its_renames_is_undone(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    path = saved(run, 5)
    path.rename(path.with_name(f".{path.name}.replaced"))
    found = newest_checkpoint(run, fail)
    assert found is not None
    assert found.counters == {"step": 5}
    saved(run, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_epoch0_step5"]


def test_rows_that_a_power_cut_took_are_not_made_up(alone: Workspace, tiny_model: Path) -> None:
    run = make_run(alone, tiny_model)
    run.metrics.write_bytes(b"{}\n")
    with pytest.raises(ValueError, match="has lost rows"):
        MetricsFiles(run).cut(100)
    assert run.metrics.read_bytes() == b"{}\n"


def test_a_gradient_that_overflowed_inside_an_update_is_not_saved(
    alone: Workspace, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loss was finite: only the sums tell."""
    from jobs.training.batches import Piece
    from jobs.training.engine import Engine

    step = Engine.step

    def overflowing(self: Engine, pieces: list[Piece], number: int) -> None:
        step(self, pieces, number)
        if number == 5:
            name = next(iter(self.accumulated[0]))
            self.accumulated[0][name] = self.accumulated[0][name] * mx.inf

    monkeypatch.setattr(Engine, "step", overflowing)
    run = make_run(alone, tiny_model, save_steps=5, prefix_cache_gb=0.0)
    with pytest.raises(Diverged, match="step 5"):
        attempt(alone, run)
    assert not list(run.path.glob("checkpoint_*"))


def test_checkpoints_of_every_step_can_be_read(alone: Workspace, tiny_model: Path) -> None:
    run = make_run(alone, tiny_model, save_steps=1, keep_checkpoints=12)
    steps = [event.step for event in only(CheckpointSaved, attempt(alone, run))]
    assert steps == list(range(1, 13))
