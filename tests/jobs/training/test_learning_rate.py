"""The learning rate of each update, beside MLX's own schedules; and a run that is stopped in it."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from jobs.config.config import TrainConfig, config_from
from jobs.paths import Workspace
from jobs.training.learning_rate import learning_rate
from tests.helpers.mlx_schedule import mlx_schedule
from tests.helpers.runs import SETTINGS, make_run, metrics, numbers
from tests.jobs.training.test_trainer import attempt, best_adapter, same

RATE, LOWEST = 2e-4, 1e-5
COSINE: dict[str, Any] = {"min_learning_rate": 1e-4, "warmup_steps": 4, "log_steps": 1}


def config(**changes: Any) -> TrainConfig:
    data = {"train": "data/train.jsonl", "valid": None}
    warmup = {"warmup_steps": 0, "learning_rate": RATE}
    return config_from({**SETTINGS, **warmup, "data": data, "lora": {}, **changes}, "test")


def rates(settings: TrainConfig, examples: int) -> list[float]:
    """Return the rate of every update of a run."""
    plan = settings.schedule(examples)
    ends = [step for step in range(1, plan.total_steps + 1) if plan.ends_update(step)]
    assert len(ends) == plan.total_updates
    return [learning_rate(settings, plan, step) for step in ends]


def theirs(kind: str, warmup: int, updates: int) -> list[float]:
    """Return what MLX's schedules give for a peak at update ``warmup``."""
    joined = mlx_schedule(kind, rate=RATE, lowest=LOWEST, warmup=warmup, updates=updates)
    with mx.stream(mx.cpu):
        return [float(joined(mx.array(n, dtype=mx.float64))) for n in range(1, updates + 1)]


@pytest.mark.parametrize(
    ("kind", "warmup", "accumulation"),
    list(product(["constant", "linear", "cosine"], [0, 20], [1, 4])),
)
def test_each_update_has_the_rate_of_mlxs_schedules(
    kind: str, warmup: int, accumulation: int
) -> None:
    lowest = 0.0 if kind == "constant" else LOWEST
    settings = config(
        lr_schedule=kind,
        warmup_steps=warmup,
        gradient_accumulation=accumulation,
        min_learning_rate=lowest,
        batch_size=2,
        num_epochs=3,
    )
    found = rates(settings, 64)
    assert len(found) == 3 * 32 // accumulation
    # Of the highest rate: MLX's cosine is that of 32 bits, and near the end little is left of it.
    expected = theirs(kind, warmup // accumulation, len(found))
    assert found == pytest.approx(expected, rel=1e-7, abs=1e-7 * RATE)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("changes", [{}, {"max_steps": 61}, {"warmup_ratio": 0.1}])
def test_the_last_update_has_the_end_value_and_none_is_above_the_highest(
    kind: str, changes: dict[str, Any]
) -> None:
    """Also where the last update of an epoch is smaller: 11 steps of 4 are 3 updates."""
    settings = config(
        lr_schedule=kind, min_learning_rate=LOWEST, gradient_accumulation=4, num_epochs=9, **changes
    )
    found = rates(settings, 22)
    peak = found.index(RATE)
    assert max(found) == RATE
    assert found[-1] == pytest.approx(LOWEST, rel=1e-12)
    assert found[peak:] == sorted(found[peak:], reverse=True)
    assert len(set(found)) == len(found)


def test_a_ratio_is_a_part_of_the_updates() -> None:
    found = rates(config(warmup_ratio=0.25, batch_size=1, gradient_accumulation=2), 40)
    assert found[:11] == pytest.approx([RATE * n / 10 for n in range(1, 11)] + [RATE])


def test_a_ratio_is_not_rounded_up_past_what_it_says() -> None:
    settings = config(warmup_ratio=0.07, batch_size=1, gradient_accumulation=1, num_epochs=1)
    assert rates(settings, 100)[5:8] == pytest.approx([RATE * 6 / 7, RATE, RATE])


def test_a_run_that_is_all_warmup_or_one_update_keeps_its_rate() -> None:
    short = {"batch_size": 1, "gradient_accumulation": 1, "num_epochs": 1, "lr_schedule": "cosine"}
    assert rates(config(**short), 1) == [RATE]
    assert rates(config(**short, warmup_steps=8), 4) == [RATE * n / 8 for n in range(1, 5)]


def test_each_rollback_halves_every_rate() -> None:
    settings = config(lr_schedule="cosine", warmup_steps=4, min_learning_rate=LOWEST)
    plan = settings.schedule(40)
    for step in range(1, plan.total_steps + 1):
        once = learning_rate(settings, plan, step)
        assert learning_rate(settings, plan, step, 2) == once / 4


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_stopped_in_warmup_and_in_the_decay_it_ends_with_the_same_bits(
    alone: Workspace, tiny_model: Path, kind: str
) -> None:
    settings = {**COSINE, "lr_schedule": kind}
    whole = make_run(alone, tiny_model, **settings)
    attempt(alone, whole)
    rate, lowest = SETTINGS["learning_rate"], COSINE["min_learning_rate"]
    logged = [row["learning_rate"] for row in metrics(whole)[1:]]
    assert logged[0] == pytest.approx(rate / 4)
    assert (max(logged), logged[-1]) == (rate, pytest.approx(lowest))

    broken = make_run(alone, tiny_model, "20261122-210001-tiny-abcd", **settings)
    for steps in (3, 5):
        attempt(alone, broken, stop_at=steps)
    attempt(alone, broken)
    assert numbers(broken) == numbers(whole)
    assert same(best_adapter(broken), best_adapter(whole))
