"""Which of two runs to use."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jobs.compare.decision import Action, Basis, Recommendation, Relation, decide
from jobs.compare.paired import ScoreDifference
from jobs.compare.side import Side
from jobs.state import State
from tests.helpers.sides import made_side, older

NO_SCORES = ScoreDifference("token_f1", None, None, None)
WHY = "B was not evaluated (farense evaluate B)"
NO_ADAPTER: dict[str, Any] = {"has_adapter": False, "best_val_loss": None}


def f1(low: float, high: float) -> ScoreDifference:
    return ScoreDifference("token_f1", 0.8, 0.85, 0.05, low, high, 0.1, 40)


def by_losses(a: dict[str, Any], b: dict[str, Any]) -> Recommendation:
    return decide(made_side(**a), made_side(**b), NO_SCORES, WHY)


@pytest.mark.parametrize(
    ("low", "high", "verdict", "action"),
    [
        (0.01, 0.09, Relation.BETTER, Action.USE_B),
        (-0.09, -0.01, Relation.WORSE, Action.KEEP_A),
        (-0.01, 0.09, Relation.SIMILAR, Action.KEEP_A),
        (0.0, 0.09, Relation.SIMILAR, Action.KEEP_A),
    ],
)
def test_the_interval_of_the_token_f1_decides_whatever_the_losses(
    low: float, high: float, verdict: Relation, action: Action
) -> None:
    found = decide(made_side(), made_side(best_val_loss=1.15), f1(low, high), None)
    assert (found.verdict, found.action, found.basis) == (verdict, action, Basis.F1)
    assert f"is {low:+.3f} to {high:+.3f}" in found.reasons[0]
    assert "over 40 questions" in found.reasons[0]
    assert "Best validation loss: 1.1500 with B, 1.2000 with A" in found.reasons[1]


@pytest.mark.parametrize(
    ("loss", "verdict", "action"),
    [
        (1.18, Relation.BETTER, Action.USE_B),
        (1.195, Relation.SIMILAR, Action.KEEP_A),
        (1.205, Relation.SIMILAR, Action.KEEP_A),
        (1.22, Relation.WORSE, Action.KEEP_A),
    ],
)
def test_without_an_evaluation_the_losses_decide_by_a_margin(
    loss: float, verdict: Relation, action: Action
) -> None:
    found = by_losses({}, {"best_val_loss": loss})
    assert (found.verdict, found.action, found.basis) == (verdict, action, Basis.LOSS)
    assert "the margin of 0.01 nats" in found.reasons[0]
    assert found.reasons[1] == f"That rests on validation losses alone: {WHY}."


@pytest.mark.parametrize(
    ("gap_a", "gap_b", "action"),
    [
        (0.2, 0.1, Action.USE_B),
        (0.1, 0.095, Action.KEEP_A),
        (0.1, 0.2, Action.KEEP_A),
        # Below 0 nothing overfits: what learned less does not generalize better.
        (0.005, -0.3, Action.KEEP_A),
        (0.05, -0.3, Action.USE_B),
    ],
)
def test_of_similar_ones_the_one_that_generalizes_better_is_used(
    gap_a: float, gap_b: float, action: Action
) -> None:
    found = by_losses({"gap": gap_a}, {"gap": gap_b})
    assert (found.verdict, found.action) == (Relation.SIMILAR, action)
    assert f"gap {gap_b:.3f} with B, {gap_a:.3f} with A" in found.reasons[-1]


def test_a_small_gap_of_a_run_that_has_learned_less_is_no_merit() -> None:
    a, b = made_side(gap=0.11), made_side(gap=0.03, best_val_loss=1.4)
    found = decide(a, b, f1(-0.1, 0.1), None)
    assert (found.verdict, found.action) == (Relation.SIMILAR, Action.KEEP_A)
    assert "B has learned less" in found.reasons[-1]
    as_good = made_side(gap=0.03, best_val_loss=1.205)
    assert decide(a, as_good, f1(-0.1, 0.1), None).action is Action.USE_B


def test_a_rough_gap_of_a_counts_but_one_of_b_does_not() -> None:
    """A rough gap is too small if anything: B's may not look better by it."""
    rough = older(gap=2.27, like_with_like=False)
    found = decide(rough, made_side(), NO_SCORES, WHY)
    assert found.action is Action.USE_B
    back = decide(made_side(gap=0.5), older(gap=0.1, like_with_like=False), NO_SCORES, WHY)
    assert (back.verdict, back.action) == (Relation.SIMILAR, Action.KEEP_A)
    assert "B's gap is only rough" in back.reasons[-1]
    two = decide(rough, older(gap=0.1, like_with_like=False), NO_SCORES, WHY)
    assert "B's gap is only rough" in two.reasons[-1]
    none = decide(made_side(gap=None), older(gap=None, like_with_like=False), NO_SCORES, WHY)
    assert "no gap of A and B" in none.reasons[-1]


def test_a_run_without_an_adapter_loses_against_one_that_has_one() -> None:
    failed = {**NO_ADAPTER, "state": State.FAILED}
    found = by_losses({}, failed)
    assert (found.verdict, found.action, found.basis) == (
        Relation.WORSE, Action.KEEP_A, Basis.ADAPTER,
    )  # fmt: skip
    assert found.reasons == ("B has no adapter: it failed.",)
    assert by_losses(failed, {}).action is Action.USE_B
    neither = by_losses(failed, failed)
    assert (neither.verdict, neither.action) == (Relation.UNKNOWN, Action.NONE)
    assert len(neither.reasons) == 2


def test_a_run_that_has_not_come_so_far_is_not_judged() -> None:
    found = by_losses({}, {**NO_ADAPTER, "state": State.RUNNING})
    assert (found.verdict, found.action) == (Relation.UNKNOWN, Action.NONE)


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ({}, {"best_val_loss": None}, "B has no finite validation loss"),
        ({"best_val_loss": None}, {}, "A has no finite validation loss"),
        ({"best_val_loss": None}, {"best_val_loss": None}, "Neither has a finite validation loss"),
    ],
)
def test_where_nothing_was_measured_of_both_nothing_is_decided(
    a: dict[str, Any], b: dict[str, Any], reason: str
) -> None:
    found = by_losses(a, b)
    assert (found.verdict, found.action, found.basis) == (Relation.UNKNOWN, Action.NONE, None)
    assert reason in found.reasons[0]


def with_settings(**changes: Any) -> Side:
    side = made_side(best_val_loss=0.8, gap=0.0)
    return replace(side, config={**side.config, **changes})


@pytest.mark.parametrize(
    "changed",
    [
        {"mask_prompt": False},
        {"model": "mlx-community/Another"},
        {"prompt_format": "plain"},
        {"max_seq_length": 128},
    ],
)
def test_losses_that_were_measured_in_another_way_decide_nothing(changed: dict[str, Any]) -> None:
    (name,) = changed
    a, b = made_side(), with_settings(**changed)
    found = decide(a, b, NO_SCORES, WHY)
    assert (found.verdict, found.action, found.basis) == (Relation.UNKNOWN, Action.NONE, None)
    (reason,) = found.reasons
    assert f"Losses do not compare (other {name})" in reason
    assert WHY in reason
    better = decide(a, b, f1(0.01, 0.09), None)
    assert (better.action, better.basis) == (Action.USE_B, Basis.F1)
    assert not any("validation loss" in reason for reason in better.reasons)
    similar = decide(a, b, f1(-0.01, 0.09), None)
    assert similar.action is Action.KEEP_A
    assert similar.reasons[1:] == (f"Their gaps do not compare: other {name}.",)


def test_the_model_is_known_by_its_files_rather_than_by_its_name() -> None:
    renamed = replace(with_settings(model="elsewhere/copy"), model_fingerprint="ab")
    same = replace(made_side(), model_fingerprint="ab")
    assert decide(same, renamed, NO_SCORES, WHY).basis is Basis.LOSS
    other = replace(with_settings(), model_fingerprint="cd")
    assert decide(same, other, NO_SCORES, WHY).action is Action.NONE


def test_what_stands_against_a_better_run_is_said() -> None:
    overfits = {"best_val_loss": 1.0, "gap": 0.4, "gap_status": "CRÍTICO", "state": State.FAILED}
    found = by_losses({}, overfits)
    assert found.action is Action.USE_B
    assert "B failed; its adapter is the best of what came before." in found.reasons
    assert "But B overfits: its gap is 0.400, CRÍTICO." in found.reasons
