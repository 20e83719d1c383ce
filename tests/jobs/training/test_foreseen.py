"""What will not come about in a run is told before it starts."""

from __future__ import annotations

import pytest

from jobs.config.config import TrainConfig, config_from
from jobs.training.foreseen import foreseen

BASE = {
    "model": "models/m",
    "data": {"train": "t", "valid": "v"},
    "batch_size": 2,
    "learning_rate": 2e-4,
    "num_epochs": 3,
    "eval_steps": 200,
    "early_stopping_patience": 5,
}


def config(**changes: object) -> TrainConfig:
    return config_from({**BASE, **changes}, "test")


def said(examples: int, **changes: object) -> str | None:
    made = config(**changes)
    return foreseen(made, made.schedule(examples))


def test_a_run_in_which_all_comes_about_needs_no_word() -> None:
    assert said(848) is None
    assert said(848, warmup_steps=100, lr_schedule="cosine") is None
    assert said(848, warmup_ratio=0.99, lr_schedule="linear") is None
    # The last of the warmup's steps has the full rate.
    assert said(848, warmup_steps=1272) is None


def test_early_stopping_that_cannot_engage_is_told() -> None:
    text = said(240)
    assert text is not None
    assert "1 validation and a patience of 5" in text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"warmup_steps": 1273}, "learning_rate is never reached"),
        ({"warmup_steps": 1272, "lr_schedule": "cosine"}, "lr_schedule: cosine lowers nothing"),
        ({"warmup_steps": 2000, "lr_schedule": "linear"}, "lr_schedule: linear lowers nothing"),
    ],
)
def test_a_warmup_as_long_as_the_run_is_told(changes: dict[str, object], expected: str) -> None:
    text = said(848, **changes)
    assert text is not None
    assert expected in text
    assert f"takes {changes['warmup_steps']} steps, and the run has 1272" in text


def test_a_ratio_is_not_advised_where_one_is_given() -> None:
    text = said(8, warmup_ratio=0.3, lr_schedule="cosine", gradient_accumulation=4, num_epochs=1)
    assert text is not None
    assert "Lower warmup_ratio, or train longer: this is 1 update." in text
    assert "in its place" not in text
