"""The troubleshooting rules: from a symptom that was measured to settings that can be typed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cli.show.differences import set_text
from jobs.compare.advice import Advice, advice
from jobs.compare.side import Side
from jobs.config.config import load_preset
from jobs.paths import REPOSITORY
from jobs.state import State
from tests.helpers.sides import made_side, older

OVERFITS: dict[str, Any] = {"gap": 0.4, "gap_status": "CRÍTICO"}


def found(b: Side, a: Side | None = None) -> dict[str, Advice]:
    return {finding.rule: finding for finding in advice(a or made_side(), b)}


def changes(finding: Advice) -> dict[str, tuple[Any, Any]]:
    return {change.setting: (change.now, change.to) for change in finding.changes}


def test_overfitting_takes_capacity_speed_and_time_away() -> None:
    finding = found(made_side(**OVERFITS))["overfitting"]
    assert finding.symptom == "the gap at its best step is 0.400 (CRÍTICO)"
    assert changes(finding) == {
        "lora.rank": (6, 4),
        "lora.dropout": (0.08, 0.13),
        "learning_rate": (2e-4, 1e-4),
        "num_epochs": (3, 2),
    }
    assert "data" in finding.also


def test_underfitting_gives_them_back() -> None:
    slow = made_side(gap=0.01, train_loss=1.5, state=State.COMPLETED)
    assert changes(found(slow)["underfitting"]) == {
        "lora.rank": (6, 8),
        "lora.dropout": (0.08, 0.04),
        "learning_rate": (2e-4, 4e-4),
        "num_epochs": (3, 4),
    }
    # A was slower, and learned more: faster still would not help.
    fast = made_side("v1", gap=0.01, train_loss=1.5, state=State.COMPLETED)
    assert changes(found(fast)["underfitting"])["learning_rate"] == (5e-4, 2e-4)
    # A was faster, and learned more.
    faster = made_side("v1")
    slower = made_side(gap=0.01, train_loss=1.5, state=State.COMPLETED)
    assert changes(found(slower, faster)["underfitting"])["learning_rate"] == (2e-4, 5e-4)
    assert "underfitting" not in found(made_side(gap=0.01, train_loss=1.1))


def with_settings(side: Side, **changed: Any) -> Side:
    return replace(side, config={**side.config, **changed})


def test_where_one_setting_made_it_worse_the_advice_is_to_go_back() -> None:
    a = with_settings(made_side(), learning_rate=5e-3)
    learned_little = made_side(gap=0.01, train_loss=1.5, since_best=0, state=State.COMPLETED)
    b = with_settings(learned_little, learning_rate=1e-5)
    (finding,) = advice(a, b, is_worse=True)
    assert changes(finding) == {"learning_rate": (1e-5, 5e-3)}
    assert "learning_rate is all that differs" in finding.symptom
    patient = with_settings(b, learning_rate=5e-3, early_stopping_patience=None)
    (finding,) = advice(a, patient, is_worse=True)
    assert changes(finding) == {"early_stopping_patience": (None, 5)}


def test_what_no_single_setting_made_worse_is_told_by_its_symptoms() -> None:
    b = made_side(**OVERFITS)
    several = with_settings(made_side(), learning_rate=1e-4, num_epochs=2)
    for a in (several, made_side(), with_settings(made_side(), seed=7), older()):
        rules = [finding.rule for finding in advice(a, b, is_worse=True)]
        assert rules[0] == "overfitting"
    similar = advice(with_settings(made_side(), learning_rate=1e-4), b)
    assert similar[0].rule == "overfitting"


@pytest.mark.parametrize(
    ("unstable", "symptom"),
    [
        ({"not_finite": 37}, "a loss was not finite at step 37"),
        ({"failure": "diverged", "state": State.FAILED}, "it diverged"),
        ({"rollbacks": 2}, "it diverged, and went back 2 times"),
        ({"train_rise": 0.5}, "the training loss once rose by 0.50 between two validations"),
    ],
)
def test_an_unstable_run_goes_slower(unstable: dict[str, Any], symptom: str) -> None:
    finding = found(made_side(**unstable))["unstable"]
    assert finding.symptom == symptom
    assert changes(finding) == {
        "learning_rate": (2e-4, 1e-4),
        "warmup_steps": (100, 200),
        "max_grad_norm": (None, 1.0),
    }


def test_one_setting_is_told_one_thing_only() -> None:
    """What makes a run fail goes before the rest."""
    both = advice(made_side(), made_side(not_finite=37, **OVERFITS))
    assert [finding.rule for finding in both][:2] == ["unstable", "overfitting"]
    settings = [change.setting for finding in both for change in finding.changes]
    assert len(settings) == len(set(settings))
    assert "learning_rate" in settings


def test_out_of_memory_computes_the_same_in_smaller_pieces() -> None:
    finding = found(made_side(failed_attempts=("out_of_memory",)))["out of memory"]
    assert changes(finding) == {
        "batch_size": (2, 1),
        "gradient_accumulation": (4, 8),
        "grad_checkpoint": (None, True),
        "on_oom": ("stop", "retry_smaller"),
    }


def test_early_stopping_that_came_too_soon() -> None:
    stopped = made_side(steps=300, gap=0.1)
    assert changes(found(stopped)["stopped too soon"]) == {"early_stopping_patience": (5, 10)}
    missed = made_side(missed_gain=0.0005)
    assert changes(found(missed)["stopped too soon"]) == {"early_stopping_min_delta": (0.001, 0.0)}
    assert "stopped too soon" not in found(made_side(steps=300, **OVERFITS))


def test_a_run_that_ended_while_it_still_learned() -> None:
    finding = found(made_side(since_best=0, state=State.COMPLETED))["ended too soon"]
    assert changes(finding) == {"num_epochs": (3, 6)}
    limited = made_side("quickstart", since_best=0, state=State.COMPLETED)
    # An epoch has 300 steps: of 320 some belong to a second.
    assert changes(found(limited)["ended too soon"]) == {
        "max_steps": (160, 320),
        "num_epochs": (1, 2),
    }
    short = replace(limited, config={**limited.config, "max_steps": 64})
    assert changes(found(short)["ended too soon"]) == {"max_steps": (64, 128)}


def test_a_run_that_overfits_is_not_told_to_train_longer() -> None:
    both = found(made_side(since_best=0, state=State.COMPLETED, **OVERFITS))
    assert "overfitting" in both
    assert "ended too soon" not in both


def test_a_run_that_nothing_stopped() -> None:
    finding = found(made_side("v1", since_best=4, state=State.COMPLETED))["no early stopping"]
    assert changes(finding) == {
        "early_stopping_patience": (None, 5),
        "early_stopping_min_delta": (None, 0.001),
    }


def test_one_validation_or_none() -> None:
    one = made_side(validations=1, since_best=0, state=State.COMPLETED)
    assert changes(found(one)["few validations"]) == {"eval_steps": (200, 100)}
    assert "1 validation cannot show" in found(one)["few validations"].symptom
    assert "ended too soon" not in found(one)
    none = made_side(rows=[], valid=None, state=State.COMPLETED)
    (finding,) = advice(made_side(), none)
    a = made_side().valid
    assert a is not None
    assert [(c.setting, c.to) for c in finding.changes] == [("data.valid", a.path)]


def test_of_an_older_run_the_symptom_is_said_and_no_setting() -> None:
    finding = found(older(**OVERFITS))["overfitting"]
    assert finding.changes == ()


@pytest.mark.parametrize("preset", ["v1", "v2", "quickstart"])
@pytest.mark.parametrize(
    "trouble",
    [
        {"not_finite": 3, **OVERFITS},
        {"failed_attempts": ("out_of_memory",), "since_best": 4, **OVERFITS},
        {"gap": 0.0, "train_loss": 2.0, "since_best": 0, "state": State.COMPLETED},
        {"missed_gain": 0.0005},
        {"validations": 1, "since_best": 0, "state": State.COMPLETED},
    ],
)
def test_what_is_suggested_can_be_typed(preset: str, trouble: dict[str, Any]) -> None:
    all_changes = [c for f in advice(made_side(), made_side(preset, **trouble)) for c in f.changes]
    overrides = tuple(f"{change.setting}={set_text(change.to)}" for change in all_changes)
    load_preset(preset, (REPOSITORY / "configs",), overrides)
