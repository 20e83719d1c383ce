"""What would not fit is not started, and what is lost is made again from the jobs' orders."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.sweep.capacity import at_least_as_large, too_large
from daemon.sweep.known import merged
from jobs.config.config import TrainConfig, load_preset
from jobs.paths import REPOSITORY
from jobs.spec import EVALUATE, TRAIN, DataFile, EvaluationSpec, JobSpec, SweepTrial
from jobs.sweep.plan import with_settings
from jobs.sweep.trial import Trial

GB = 10**9
SWEEP = "20260101-000000-night-aaaa"


def config(**settings: Any) -> TrainConfig:
    base = load_preset("v2", (REPOSITORY / "configs",)).config.model_dump(mode="json")
    named = {key.replace("__", "."): value for key, value in settings.items()}
    return TrainConfig.model_validate(with_settings(base, named))


@pytest.mark.parametrize(
    ("estimated", "limit", "words"),
    [
        (None, None, None),
        (2 * GB, None, None),
        (None, GB, None),
        (GB, GB, None),
        (2 * GB, GB, "it would need about 2.00 GB of memory, and there are 1.00 GB"),
    ],
)
def test_what_was_estimated(estimated: int | None, limit: int | None, words: str | None) -> None:
    reason = too_large(config(), estimated, limit, [])
    assert (reason is None) if words is None else (reason is not None and words in reason)


@pytest.mark.parametrize(
    ("settings", "larger"),
    [
        ({}, True),
        ({"batch_size": 4}, True),
        ({"batch_size": 1}, False),
        ({"lora__rank": 8, "batch_size": 1}, False),
        ({"lora__num_layers": 16}, True),
        ({"max_seq_length": 256}, False),
        # Where memory decides, a run that ran out has tried that, too.
        ({"grad_checkpoint": True}, True),
        ({"grad_checkpoint": False}, True),
        ({"memory": "1GB"}, True),
        ({"lora__keys": ["q_proj"]}, False),
        ({"learning_rate": 1e-3, "gradient_accumulation": 1}, True),
    ],
)
def test_what_was_met(settings: dict[str, Any], larger: bool) -> None:
    assert at_least_as_large(config(**settings), config()) is larger
    reason = too_large(config(**settings), None, None, [(3, config())])
    assert (reason is not None and "trial 3" in reason) is larger


@pytest.mark.parametrize(
    ("settings", "known", "larger"),
    [
        ({"grad_checkpoint": True}, {"grad_checkpoint": False}, False),
        ({}, {"grad_checkpoint": True}, False),
        ({"grad_checkpoint": False}, {"grad_checkpoint": True}, True),
        ({}, {"memory": "1GB"}, False),
        ({"memory": "2GB"}, {"memory": "1GB"}, False),
        ({"memory": "900MB"}, {"memory": "1GB"}, True),
    ],
)
def test_what_may_fit_all_the_same(
    settings: dict[str, Any], known: dict[str, Any], larger: bool
) -> None:
    assert at_least_as_large(config(**settings), config(**known)) is larger


def spec(letters: str, number: int, part: int = 0, **values: Any) -> JobSpec:
    known: dict[str, Any] = {
        "kind": TRAIN,
        "sweep": SweepTrial(SWEEP, number, part, {"lora.rank": number}),
        **values,
    }
    data = DataFile("data/imported/x.jsonl", "x", 1, "x")
    job = f"20260101-00000{part}-v2-{letters}"
    return JobSpec(job, "v2", f"2026-01-01T00:00:0{part}", {}, data, data, "", 10, **known)


def test_trials_are_made_again_from_their_jobs() -> None:
    other = spec("dddd", 0, sweep=SweepTrial("20250101-000000-old-zzzz", 0, 0, {}))
    plain = spec("eeee", 0, sweep=None)
    specs = [spec("cccc", 2), spec("bbbb", 0, 1), spec("aaaa", 0), other, plain]
    found = merged([], specs, SWEEP, evaluated=False)
    assert [(t.number, t.params, [job[-4:] for job in t.jobs]) for t in found] == [
        (0, {"lora.rank": 0}, ["aaaa", "bbbb"]),
        (2, {"lora.rank": 2}, ["cccc"]),
    ]


def test_a_job_that_was_enqueued_but_not_noted_joins_its_trial_once() -> None:
    asked = Trial(0, {"lora.rank": 0}, asked_at="then")
    once = merged([asked], [spec("aaaa", 0)], SWEEP, evaluated=False)
    assert [job[-4:] for job in once[0].jobs] == ["aaaa"]
    assert once[0].asked_at == "then"
    assert merged(once, [spec("aaaa", 0)], SWEEP, evaluated=False) == once


@pytest.mark.parametrize("evaluated", [True, False])
def test_evaluations_are_a_part_of_trials_where_they_give_the_objective(evaluated: bool) -> None:
    trained = spec("aaaa", 0)
    evaluation = spec("ffff", 0, kind=EVALUATE, evaluation=EvaluationSpec(trained.id))
    [found] = merged([], [trained, evaluation], SWEEP, evaluated=evaluated)
    assert found.jobs == [trained.id]
    assert found.evaluations == ([evaluation.id] if evaluated else [])
