"""The picture of a run: what a person reads for each event."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.console import Console
from jobs.events import (
    BestModel,
    CheckpointSaved,
    Envelope,
    Event,
    Failed,
    Finished,
    Progress,
    Started,
    StoppedEarly,
    TrainMetrics,
    Validation,
    Warned,
)
from jobs.storage.formatting import duration
from jobs.verdict import gap_status

JOB = "20251122-220104-v2-kqzd"
CONFIG: dict[str, Any] = {
    "lora": {"rank": 6, "scale": 16.0, "dropout": 0.08, "num_layers": 8},
    "batch_size": 2,
    "gradient_accumulation": 4,
    "learning_rate": 2e-4,
    "warmup_steps": 100,
    "weight_decay": 0.01,
    "eval_steps": 200,
    "early_stopping_patience": 5,
    "early_stopping_min_delta": 0.001,
}


def started(resumed_step: int = 0, **changes: Any) -> Started:
    values: dict[str, Any] = {
        "pid": 1,
        "preset": "v2",
        "model": "models/mistral-7b-4bit",
        "device": "cpu",
        "total_steps": 1272,
        "steps_per_epoch": 424,
        "num_epochs": 3,
        "validations": 6,
        "train_examples": 848,
        "valid_examples": 94,
        "trainable_parameters": 1_234_567,
        "config": CONFIG,
    }
    return Started(**{**values, **changes}, resumed_step=resumed_step)


def row(step: int, loss: float | None, epoch: int = 1) -> TrainMetrics:
    return TrainMetrics(
        epoch, step, step // 4, loss, None, None, None, 2e-4, 1.0, 812.4, 500.0, 60.0, "t"
    )


def measured(step: int, val_loss: float, gap: float, failures: int = 0) -> Validation:
    return Validation(
        epoch=1,
        step=step,
        val_loss=val_loss,
        train_eval_loss=val_loss - gap,
        overfitting_gap=gap,
        gap_status=gap_status(gap),
        improved=step > 0 and failures == 0,
        without_improvement=failures,
        patience=5,
        seconds=3.0,
    )


def finished(**changes: Any) -> Finished:
    values: dict[str, Any] = {
        "state": "early_stopped",
        "step": 1200,
        "best_epoch": 1,
        "best_step": 200,
        "best_val_loss": 1.1,
        "baseline_val_loss": 4.4,
        "gap_status": "BOM",
        "best_gap": 0.12,
        "mean_gap": 0.2,
        "max_gap": 0.31,
        "min_gap": 0.03,
        "elapsed_time_sec": 754.0,
        "adapters": f"checkpoints_qlora/{JOB}/adapters",
        "run_dir": f"checkpoints_qlora/{JOB}",
    }
    return Finished(**{**values, **changes})


def shown(*events: Event, attempt: int = 1) -> list[str]:
    console = Console()
    return [line for e in events for line in console.lines(Envelope(e, JOB, attempt, "t"))]


def test_the_header_states_the_configuration() -> None:
    text = "\n".join(shown(started()))
    for part in (
        JOB,
        "preset v2",
        "models/mistral-7b-4bit",
        "848 training examples, 94 validation",
        "rank 6, scale 16, dropout 0.08, last 8 layers",
        "2 x 4 accumulated = 8",
        "2.0e-04 after 100 warmup steps",
        "3 of 424 steps = 1272",
        "6, every 200 steps; stops after 5 without an improvement over 0.001, keeps the lowest",
        "cpu",
    ):
        assert part in text


def test_the_header_states_the_kind_of_adapter_and_what_it_starts_from() -> None:
    plain = "\n".join(shown(started()))
    assert "LoRA" in plain
    assert "Starts from" not in plain
    lora = {**CONFIG["lora"], "kind": "dora"}
    text = "\n".join(shown(started(config={**CONFIG, "lora": lora}, init_from="20261122-a")))
    assert "  DoRA           rank 6, scale 16" in text
    assert "  Starts from    20261122-a" in text


def test_a_run_without_validation_or_patience_says_so() -> None:
    assert any("Validations" in line and "none" in line for line in shown(started(validations=0)))
    patient = {**CONFIG, "early_stopping_patience": None, "early_stopping_min_delta": None}
    assert any("no early stopping" in line for line in shown(started(config=patient)))


def test_a_log_of_another_version_is_still_shown() -> None:
    lines = shown(started(config={"lora": {}}), row(10, 5.0))
    assert any("848 training examples" in line for line in lines)
    assert any("5.0000" in line for line in lines)


def test_a_resumed_job_says_where_it_goes_on() -> None:
    (line,) = [line for line in shown(started(400), attempt=2) if line]
    assert "resumes after step 400 of 1272" in line
    assert "attempt 2" in line


def test_an_epoch_is_announced_once_and_after_the_baseline() -> None:
    lines = shown(
        started(),
        measured(0, 4.4, 0.0),
        row(0, None),
        Progress(5, 1272, 1, 2.0, 600.0),
        row(10, 4.0),
        row(20, 3.5),
        row(430, 1.5, epoch=2),
    )
    headings = [line for line in lines if line.startswith("📚")]
    assert headings == ["📚 Epoch 1/3", "📚 Epoch 2/3"]
    baseline = next(i for i, line in enumerate(lines) if "baseline" in line)
    assert baseline < lines.index("📚 Epoch 1/3")
    assert "4.4000" in lines[baseline]


def test_the_loss_is_shown_beside_the_one_before() -> None:
    lines = [line for line in shown(started(), row(10, 5.0), row(20, 3.5)) if "Loss" in line]
    assert lines[0].split() == [
        "Step",
        "10/1272",
        "Loss:",
        "5.0000",
        "lr",
        "2.0e-04",
        "812",
        "tok/s",
    ]
    assert "Step   20/1272   Loss: 5.0000 → 3.5000" in lines[1]


def test_a_diverged_loss_is_shown_as_such() -> None:
    assert any("nan" in line for line in shown(started(), row(10, float("nan"))))


@pytest.mark.parametrize(
    ("gap", "word", "mark"),
    [
        (0.049, "EXCELENTE", "✅"),
        (0.05, "BOM", "✅"),
        (0.15, "MODERADO", "⚠️"),
        (0.30, "CRÍTICO", "🔴"),
        (2.27, "CRÍTICO", "🔴"),
    ],
)
def test_a_validation_judges_the_gap(gap: float, word: str, mark: str) -> None:
    lines = shown(started(), measured(200, 1.8, gap))
    assert f"  Overfitting Gap: {gap:.3f}   {mark} {word}" in lines


def test_a_validation_says_best_or_how_long_there_was_none() -> None:
    lines = shown(started(), measured(200, 1.8, 0.1), measured(400, 1.9, 0.1, failures=2))
    assert any("Val Loss: 1.8000   best so far" in line for line in lines)
    assert any("Val Loss: 1.9000   no improvement (2/5)" in line for line in lines)


def test_early_stopping_names_the_best() -> None:
    text = "\n".join(shown(started(), StoppedEarly(3, 1200, 1, 200, 1.1, 5)))
    assert "EARLY STOPPING at step 1200: 5 validations without improvement" in text
    assert "epoch 1, step 200, val loss 1.1000" in text


def test_the_end_is_the_final_analysis() -> None:
    text = "\n".join(shown(started(), finished()))
    for part in (
        "ANÁLISE FINAL",
        "✅ BOM (gap < 0.15; 0.120 at the best step)",
        "mean 0.200, max 0.310, min 0.030",
        "1.1000 (epoch 1, step 200)",
        "4.4000 before training (-75% since)",
        "early_stopped after 1200 steps, 12m 34s",
        f"checkpoints_qlora/{JOB}/adapters",
        f"checkpoints_qlora/{JOB}/training_metrics.csv",
        f"checkpoints_qlora/{JOB}/training_summary.json",
    ):
        assert part in text


def test_the_analysis_without_validation_data_claims_nothing() -> None:
    absent = dict.fromkeys(
        [
            *("best_epoch", "best_step", "best_val_loss", "baseline_val_loss"),
            *("gap_status", "best_gap", "mean_gap", "max_gap", "min_gap"),
        ]
    )
    text = "\n".join(shown(started(), finished(**absent)))
    assert "unknown" in text
    assert "None" not in text


def test_warnings_checkpoints_and_failures_are_told() -> None:
    lines = shown(
        started(),
        Warned("The disk has 1.2 GB left."),
        CheckpointSaved(1, 340, "x", "the daemon stops"),
        Failed(341, "Diverged", "The loss became NaN."),
    )
    assert any("The disk has 1.2 GB left." in line for line in lines)
    assert any("Checkpoint saved at step 340: the daemon stops" in line for line in lines)
    assert any("FAILED at step 341: The loss became NaN." in line for line in lines)


def test_a_reader_that_comes_late_still_gets_sense() -> None:
    lines = shown(row(430, 1.5, epoch=2), BestModel(2, 430, 1.1, "x"))
    assert lines[1] == "📚 Epoch 2"
    assert "Step 430   Loss: 1.5000" in lines[2]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59.4, "59s"),
        (59.6, "1m 00s"),
        (200, "3m 20s"),
        (3600, "1h 00m"),
        (7500, "2h 05m"),
        (97_200, "1d 03h"),
        (-1, "0s"),
    ],
)
def test_durations_read_like_a_person_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_between_losses_that_are_not_finite_there_is_no_gap() -> None:
    lines = shown(measured(200, float("nan"), float("nan")))
    assert "  Overfitting Gap: -" in lines
    assert "nan" not in next(line for line in lines if "Gap" in line)
