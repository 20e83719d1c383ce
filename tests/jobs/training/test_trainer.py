"""Training a tiny model for real, in this process: what a run leaves, says and resumes from."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.backend.mlx import mx, named
from jobs.errors import CheckpointError, Diverged
from jobs.events import (
    BestModel,
    CheckpointSaved,
    Event,
    Finished,
    Started,
    StoppedEarly,
    Validation,
    Warned,
)
from jobs.paths import RunDirectory, Workspace
from jobs.spec import read_spec
from jobs.storage.files import read_json, sha256_of
from jobs.training.best_adapter import BestAdapter
from jobs.training.checkpoint import newest_checkpoint, prune_checkpoints, save_checkpoint
from jobs.training.checkpoint_files import checkpoint_folders, step_of
from jobs.training.session import train
from tests.helpers.families import make_family
from tests.helpers.runs import SETTINGS, make_run, metrics, numbers

STEPS_PER_EPOCH = 6  # 11 examples in batches of 2
TOTAL_STEPS = 12


def attempt(
    workspace: Workspace, run: RunDirectory, stop_at: int | None = None
) -> tuple[Finished | None, list[Event]]:
    """Run one attempt; ask it to stop before the step after ``stop_at``."""
    said: list[Event] = []
    asked = 0

    def stop_reason() -> str | None:
        nonlocal asked
        asked += 1
        return "the test says so" if stop_at is not None and asked > stop_at else None

    return train(workspace, read_spec(run), said.append, stop_reason), said


def only(kind: type[Any], said: list[Event]) -> list[Any]:
    return [event for event in said if isinstance(event, kind)]


def best_adapter(run: RunDirectory) -> dict[str, np.ndarray]:
    arrays = mx.load(str(run.adapters / "adapters.safetensors"))
    assert isinstance(arrays, dict)
    return {name: np.array(value) for name, value in arrays.items()}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all((one[k] == other[k]).all() for k in one)


def test_a_run_leaves_what_it_promises(alone: Workspace, tiny_model: Path) -> None:
    run = make_run(alone, tiny_model)
    outcome, said = attempt(alone, run)

    assert outcome is not None
    assert outcome.state == "completed"
    rows = metrics(run)
    assert [row["step"] for row in rows] == [0, 3, 6, 9, 12]
    assert [row["update"] for row in rows] == [0, 1, 3, 4, 6]
    assert [row["step"] for row in rows if row["val_loss"] is not None] == [0, 6, 12]
    assert rows[-1]["overfitting_gap"] == pytest.approx(
        rows[-1]["val_loss"] - rows[-1]["train_eval_loss"]
    )
    assert rows[-1]["val_loss"] < rows[0]["val_loss"]

    with run.metrics_csv.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["step"] for row in table] == ["0", "3", "6", "9", "12"]
    assert table[0]["loss"] == ""
    summary = read_json(run.summary)
    assert summary["state"] == "completed"
    assert summary["best_val_loss"] == min(row["val_loss"] for row in rows[1:] if row["val_loss"])
    assert read_json(run.training_state)["step"] == TOTAL_STEPS
    assert sorted(path.name for path in run.path.glob("checkpoint_*")) == [
        "checkpoint_epoch0_step5",
        "checkpoint_epoch1_step10",
    ]
    started = only(Started, said)[0]
    assert (started.total_steps, started.train_examples, started.validations) == (12, 11, 2)


def test_the_adapter_loads_in_mlx_lm_unchanged(alone: Workspace, tiny_model: Path) -> None:
    from mlx_lm import load

    run = make_run(alone, tiny_model)
    attempt(alone, run)
    model, _ = load(str(alone.models / "tiny"), adapter_path=str(run.adapters))[:2]
    plain, _ = load(str(alone.models / "tiny"))[:2]
    prompt = mx.array([[5, 6, 7, 8]])
    assert not bool(mx.allclose(model(prompt), plain(prompt)))
    parameters = named(model.parameters())
    loaded = {name: np.array(parameters[name]) for name in parameters if ".lora_" in name}
    assert same(loaded, best_adapter(run))


def test_the_last_partial_batch_is_trained_on(alone: Workspace, tiny_model: Path) -> None:
    """The eleventh example is alone in its batch; with it the run has a step more, and differs."""
    eleven = make_run(alone, tiny_model, num_epochs=1, log_steps=1)
    attempt(alone, eleven)
    ten = make_run(alone, tiny_model, "20261122-210001-tiny-abcd", train=10, num_epochs=1)
    attempt(alone, ten)
    assert [row["step"] for row in metrics(eleven)] == list(range(7))
    assert metrics(ten)[-1]["step"] == 5
    trained = [row for row in metrics(eleven) if row["loss"] is not None]
    assert all(row["grad_norm"] > 0 for row in trained if row["update"])


def test_validating_more_often_leaves_the_training_losses_unchanged(
    alone: Workspace, tiny_model: Path
) -> None:
    rarely = make_run(alone, tiny_model, eval_steps=6)
    often = make_run(alone, tiny_model, "20261122-210001-tiny-abcd", eval_steps=3)
    for run in (rarely, often):
        attempt(alone, run)

    def losses(run: RunDirectory) -> dict[int, float]:
        return {row["step"]: row["loss"] for row in metrics(run)}

    assert losses(rarely) == losses(often)
    assert sum(row["val_loss"] is not None for row in metrics(often)) == 5


def test_the_same_seed_gives_the_same_bits_and_another_does_not(
    alone: Workspace, tiny_model: Path
) -> None:
    runs = [
        make_run(alone, tiny_model, f"20261122-21000{n}-tiny-abcd", seed=seed)
        for n, seed in enumerate((1, 1, 2))
    ]
    for run in runs:
        attempt(alone, run)
    assert same(best_adapter(runs[0]), best_adapter(runs[1]))
    assert numbers(runs[0]) == numbers(runs[1])
    assert not same(best_adapter(runs[0]), best_adapter(runs[2]))


@pytest.mark.parametrize("stops", [[1], [5], [6], [7, 3], [2, 2, 2, 2], [12]])
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(
    alone: Workspace, tiny_model: Path, stops: list[int]
) -> None:
    whole = make_run(alone, tiny_model)
    attempt(alone, whole)
    broken = make_run(alone, tiny_model, "20261122-210001-tiny-abcd")
    done = 0
    for steps in stops:
        outcome, said = attempt(alone, broken, stop_at=steps)
        assert only(Started, said)[0].resumed_step == done
        done += steps
        if done < TOTAL_STEPS:
            assert outcome is None
            assert only(CheckpointSaved, said)[-1].reason == "the test says so"
    attempt(alone, broken)
    assert numbers(broken) == numbers(whole)
    assert same(best_adapter(broken), best_adapter(whole))


def test_every_answer_of_a_conversation_is_learned_and_resumed(
    alone: Workspace, tiny_model: Path, tmp_path: Path
) -> None:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Qual foi o resultado {n}?"},
                {"role": "assistant", "content": f"{n} a {n % 3}."},
                {"role": "user", "content": "E depois?"},
                {"role": "assistant", "content": f"{n % 4} a 0."},
            ]
        }
        for n in range(11)
    ]
    every = {"prompt_format": "chat", "loss_on": "all_answers", "mask_prompt": None}
    settings: dict[str, Any] = {"train_rows": rows, "valid_rows": rows[:4], **every}
    model = make_family("chatml", tiny_model, tmp_path / "chatml")
    whole = make_run(alone, model, **settings)
    attempt(alone, whole)
    broken = make_run(alone, model, "20261122-210001-tiny-abcd", **settings)
    for steps in (5, 3, None):
        attempt(alone, broken, stop_at=steps)
    assert numbers(broken) == numbers(whole)
    assert same(best_adapter(broken), best_adapter(whole))
    # Other tokens are learned than where the last answer alone is.
    last = make_run(
        alone,
        model,
        "20261122-210002-tiny-abcd",
        **{**settings, "loss_on": "last_answer", "mask_prompt": True},
    )
    attempt(alone, last)
    assert metrics(last)[0]["val_loss"] != metrics(whole)[0]["val_loss"]


def test_what_came_after_the_checkpoint_is_taken_back(alone: Workspace, tiny_model: Path) -> None:
    """Without a checkpoint at the end, resuming goes back to step 10 and trains 11 and 12 again."""
    run = make_run(alone, tiny_model)
    attempt(alone, run)
    before, adapter = numbers(run), best_adapter(run)
    outcome, said = attempt(alone, run)
    assert only(Started, said)[0].resumed_step == 10
    assert outcome is not None
    assert numbers(run) == before
    assert same(best_adapter(run), adapter)


def test_a_damaged_checkpoint_is_passed_over(alone: Workspace, tiny_model: Path) -> None:
    run = make_run(alone, tiny_model)
    attempt(alone, run)
    before = numbers(run)
    torn = run.path / "checkpoint_epoch1_step10" / "state.safetensors"
    torn.write_bytes(torn.read_bytes()[:-1])
    _, said = attempt(alone, run)
    assert only(Started, said)[0].resumed_step == 5
    assert "checkpoint_epoch1_step10 is damaged" in only(Warned, said)[0].message
    assert numbers(run) == before


def test_saving_a_better_adapter_leaves_the_checkpoint_alone(tmp_path: Path) -> None:
    """The adapter and the checkpoint's copy are one file on disk until the next save."""
    run = RunDirectory(tmp_path)
    best = BestAdapter(run.adapters, {})
    best.save({"a": mx.array([1.0])})
    save_checkpoint(run.checkpoint(0, 5), {}, {}, best.weights, {}, {})
    best.restore(run.checkpoint(0, 5) / "best.safetensors")
    best.save({"a": mx.array([2.0])})
    assert sorted(path.name for path in best.folder.iterdir()) == [
        "adapter_config.json",
        "adapters.safetensors",
    ]
    checkpoint = newest_checkpoint(run, warn=pytest.fail)
    assert checkpoint is not None
    assert checkpoint.best is not None
    kept = mx.load(str(checkpoint.best))
    assert isinstance(kept, dict)
    assert kept["a"].item() == 1.0
    assert best_adapter(run)["a"] == [2.0]


def test_damaged_checkpoints_do_not_displace_whole_ones(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for step in (50, 100, 200):
        save_checkpoint(run.checkpoint(0, step), {}, {}, None, {}, {})
    for step in (100, 200):
        (run.checkpoint(0, step) / "state.safetensors").write_bytes(b"torn")
    save_checkpoint(run.checkpoint(0, 60), {}, {}, None, {}, {})
    prune_checkpoints(run, keep=2, step=60)
    assert sorted(map(step_of, checkpoint_folders(run))) == [50, 60]


def test_counters_that_are_not_finite_survive_a_checkpoint(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    counters = {"gaps": {"total": math.nan, "highest": math.inf}}
    save_checkpoint(run.checkpoint(0, 1), {}, {}, None, counters, {})
    checkpoint = newest_checkpoint(run, warn=pytest.fail)
    assert checkpoint is not None
    assert math.isnan(checkpoint.counters["gaps"]["total"])
    assert checkpoint.counters["gaps"]["highest"] == math.inf


def test_a_checkpoint_of_another_configuration_is_refused(
    alone: Workspace, tiny_model: Path
) -> None:
    run = make_run(alone, tiny_model)
    attempt(alone, run)
    spec = json.loads(run.job.read_text())
    spec["config"]["lora"]["num_layers"] = 3
    run.job.write_text(json.dumps(spec))
    with pytest.raises(CheckpointError, match="does not fit this job's configuration"):
        attempt(alone, run)


def test_early_stopping_keeps_the_best(alone: Workspace, tiny_model: Path) -> None:
    run = make_run(
        alone,
        tiny_model,
        num_epochs=50,
        eval_steps=2,
        learning_rate=0.2,
        early_stopping_patience=3,
        early_stopping_min_delta=0.001,
    )
    outcome, said = attempt(alone, run)
    assert outcome is not None
    assert outcome.state == "early_stopped"
    stop = only(StoppedEarly, said)[0]
    validations = [event for event in only(Validation, said) if event.step]
    assert stop.step == validations[-1].step < 300
    assert stop.patience == 3
    assert [event.improved for event in validations[-3:]] == [False] * 3
    assert stop.best_step == [event.step for event in validations if event.improved][-1]
    assert read_json(run.summary)["best_step"] == stop.best_step


def test_the_lowest_validation_is_kept_though_patience_asks_for_more(
    alone: Workspace, tiny_model: Path
) -> None:
    asked: dict[str, Any] = {"num_epochs": 4, "eval_steps": 2, "early_stopping_patience": 4}
    run = make_run(alone, tiny_model, early_stopping_min_delta=50.0, **asked)
    outcome, said = attempt(alone, run)
    validations = [event for event in only(Validation, said) if event.step]
    lowest = min(validations, key=lambda event: event.val_loss)
    assert lowest.step > validations[0].step
    assert outcome is not None
    # The first alone counts for patience, which runs out; the lowest is what is left.
    assert (outcome.state, len(validations)) == ("early_stopped", 5)
    assert [event.without_improvement for event in validations] == [0, 1, 2, 3, 4]
    assert (outcome.best_step, outcome.best_val_loss) == (lowest.step, lowest.val_loss)
    assert outcome.best_gap == lowest.overfitting_gap
    assert read_json(run.training_state)["best_step"] == lowest.step
    kept = only(BestModel, said)
    assert [event.step for event in kept] == [e.step for e in validations if e.improved]
    assert kept[-1].step == lowest.step
    again = make_run(
        alone, tiny_model, "20261122-210000-again-cccc", early_stopping_min_delta=50.0, **asked
    )
    assert attempt(alone, again, stop_at=5)[0] is None
    resumed, _ = attempt(alone, again)
    assert resumed is not None
    assert (resumed.state, resumed.step) == (outcome.state, outcome.step)
    assert (resumed.best_step, resumed.best_gap) == (outcome.best_step, outcome.best_gap)
    assert sha256_of(again.adapter_weights) == sha256_of(run.adapter_weights)
    plain = make_run(
        alone, tiny_model, "20261122-210000-plain-bbbb", **asked, max_steps=lowest.step
    )
    attempt(alone, plain)
    assert sha256_of(run.adapter_weights) == sha256_of(plain.adapter_weights)


def test_the_baseline_is_reported_and_counts_for_nothing(
    alone: Workspace, tiny_model: Path
) -> None:
    run = make_run(
        alone,
        tiny_model,
        early_stopping_patience=2,
        early_stopping_min_delta=0.01,
        learning_rate=1e-9,
    )
    outcome, said = attempt(alone, run)
    baseline = only(Validation, said)[0]
    assert (baseline.step, baseline.improved, baseline.without_improvement) == (0, False, 0)
    assert outcome is not None
    assert outcome.best_step == 6


def test_a_run_without_validation_keeps_the_last_adapter(
    alone: Workspace, tiny_model: Path
) -> None:
    run = make_run(alone, tiny_model, valid=None)
    outcome, said = attempt(alone, run)
    assert outcome is not None
    assert (outcome.best_val_loss, outcome.gap_status) == (None, None)
    assert best_adapter(run)
    assert not only(Validation, said)


def test_a_diverging_run_saves_nothing_bad(alone: Workspace, tiny_model: Path) -> None:
    # After the first update the adapter's output, scaled so, is beyond float32.
    lora = {**SETTINGS["lora"], "scale": 3e38}
    run = make_run(alone, tiny_model, lora=lora, learning_rate=1.0, num_epochs=50)
    with pytest.raises(Diverged, match=r"at step \d+"):
        attempt(alone, run)
    for row in metrics(run):
        assert row["loss"] is None or math.isfinite(row["loss"])
    for path in [*run.path.glob("checkpoint_*/*.safetensors"), *run.adapters.glob("*.safetensors")]:
        arrays = mx.load(str(path))
        assert isinstance(arrays, dict)
        assert all(bool(mx.all(mx.isfinite(value))) for value in arrays.values())
