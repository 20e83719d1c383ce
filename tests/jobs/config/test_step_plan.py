import math

import pytest

from jobs.config.step_plan import Schedule


def schedule(examples: int, **changes: int | bool) -> Schedule:
    values: dict[str, int | bool | None] = {
        "batch_size": 2,
        "gradient_accumulation": 4,
        "num_epochs": 3,
        "max_steps": None,
        "eval_steps": 200,
        "has_validation": True,
    }
    return Schedule(examples=examples, **(values | changes))  # type: ignore[arg-type]


def test_v2_on_848_examples_validates_six_times() -> None:
    plan = schedule(848)
    assert plan.total_steps == 1272
    assert list(plan.validation_steps) == [200, 400, 600, 800, 1000, 1200]


def test_a_run_shorter_than_eval_steps_validates_at_its_end() -> None:
    assert list(schedule(10).validation_steps) == [15]


def test_max_steps_ends_a_run_with_an_update() -> None:
    plan = schedule(848, max_steps=10)
    assert plan.total_steps == 10
    assert plan.ends_update(10)
    assert schedule(4, max_steps=1000).total_steps == 6


def test_no_validation_data_no_validations() -> None:
    assert list(schedule(848, has_validation=False).validation_steps) == []


@pytest.mark.parametrize("examples", [1, 2, 7, 8, 9, 33])
def test_every_epoch_ends_with_an_update(examples: int) -> None:
    plan = schedule(examples)
    updates = [step for step in range(1, plan.total_steps + 1) if plan.ends_update(step)]
    assert len(updates) == math.ceil(plan.steps_per_epoch / 4) * plan.num_epochs
    for epoch in range(1, plan.num_epochs + 1):
        assert epoch * plan.steps_per_epoch in updates
