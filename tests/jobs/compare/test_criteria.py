"""The six criteria of the procedure."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.compare.criteria import Judged, criteria
from jobs.compare.side import Side
from jobs.state import State
from tests.helpers.sides import made_side, older

NAMES = [
    "No crash",
    "Loss decreased",
    "Gap < 0.15",
    "Token F1 >= 0.93",
    "Early stopping engaged",
    "Best model saved",
]


def judged(side: Side) -> dict[str, Judged]:
    found = criteria(made_side(), side)
    assert [row.name for row in found] == NAMES
    return {row.name: row.b for row in found}


def test_a_success_meets_them_all() -> None:
    found = judged(made_side(scores={"token_f1": 0.94}))
    assert all(row.met for row in found.values())
    assert found["Loss decreased"].figure == "3.0000 to 1.0000"
    assert found["Gap < 0.15"].figure == "0.100 BOM"
    assert found["Token F1 >= 0.93"].figure == "0.940"
    assert found["Early stopping engaged"].figure == "step 600, best 400"
    assert found["Best model saved"].figure == "adapters/, step 400"


@pytest.mark.parametrize(
    ("name", "changes", "met", "figure"),
    [
        ("No crash", {"state": State.FAILED, "failure": "diverged"}, False, "failed: diverged"),
        ("No crash", {"failed_attempts": ("killed",)}, False, "resumed after: killed"),
        ("No crash", {"state": State.RUNNING}, None, "running"),
        ("Loss decreased", {"not_finite": 37}, False, "not finite, step 37"),
        ("Loss decreased", {"last_loss": 3.5}, False, "3.0000 to 3.5000"),
        ("Loss decreased", {"first_loss": None}, None, "not measured"),
        ("Gap < 0.15", {"gap": 0.15, "gap_status": "MODERADO"}, False, "0.150 MODERADO"),
        ("Gap < 0.15", {"gap": None}, None, "not measured"),
        ("Gap < 0.15", {"gap": 0.1, "like_with_like": False}, None, "0.100, rough"),
        ("Gap < 0.15", {"gap": 2.27, "like_with_like": False}, False, "2.270, rough"),
        ("Token F1 >= 0.93", {}, None, "not evaluated"),
        ("Token F1 >= 0.93", {"scores": {"token_f1": 0.929}}, False, "0.929"),
        (
            "Token F1 >= 0.93",
            {"scores": {"token_f1": 0.95}, "outdated": True},
            None,
            "0.950, outdated",
        ),
        (
            "Early stopping engaged",
            {"state": State.COMPLETED},
            False,
            "1 of 5 at the end",
        ),
        ("Early stopping engaged", {"state": State.RUNNING}, None, "running"),
        ("Best model saved", {"state": State.QUEUED, "has_adapter": False}, None, "queued"),
        ("Best model saved", {"has_adapter": False}, False, "no adapters/"),
        (
            "Best model saved",
            {"best_val_loss": None},
            False,
            "last, not best",
        ),
    ],
)
def test_each_is_met_or_not_or_unknown(
    name: str, changes: dict[str, Any], met: bool | None, figure: str
) -> None:
    assert judged(made_side(**changes))[name] == Judged(met, figure)


def test_without_early_stopping_it_cannot_engage() -> None:
    found = judged(made_side("v1", state=State.COMPLETED))
    assert found["Early stopping engaged"] == Judged(False, "none was set")


def test_of_an_older_run_little_is_known() -> None:
    found = judged(older())
    assert {name: row.met for name, row in found.items()} == {
        "No crash": None,
        "Loss decreased": True,
        "Gap < 0.15": True,
        "Token F1 >= 0.93": None,
        "Early stopping engaged": None,
        "Best model saved": None,
    }
