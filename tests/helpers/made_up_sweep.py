"""A sweep of made-up trials, to be shown: of every kind, as its files would tell of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from jobs.config.config import TrainConfig, config_from
from jobs.report.sweep_data import Swept
from jobs.state import State
from jobs.sweep.folder import SweepSpec, SweepState
from jobs.sweep.plan import plan_from
from jobs.sweep.trial import Trial
from tests.helpers.runs import SETTINGS

SWEEP = "20261125-220000-night-aaaa"
KEYS = ["self_attn.q_proj", "self_attn.v_proj"]
PLAN: dict[str, Any] = {
    "preset": "tiny",
    "set": {"early_stopping_patience": None},
    "space": {
        "lora.rank": [2, 4, 8],
        "lora.keys": [KEYS, KEYS[:1]],
        "lora.dropout": {"low": 0.0, "high": 0.1},
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    },
    "trials": 12,
}
LABEL = '["self_attn.q_proj"]'


def base() -> TrainConfig:
    data = {"train": "data/train.jsonl", "valid": "data/valid.jsonl"}
    return config_from({"model": "models/tiny", **SETTINGS, "data": data}, "a test")


def trial(number: int, value: float | None = None, **changes: Any) -> Trial:
    """Return a trial that has come to a value, or as ``changes`` say."""
    params = {
        "lora.rank": (2, 4, 8)[number % 3],
        "lora.keys": LABEL,
        "lora.dropout": 0.01 * (number % 10),
        "learning_rate": 1e-4 * 10 ** (number % 3),
    }
    known: dict[str, Any] = {
        "settings": {**params, "lora.keys": KEYS[:1]},
        "state": State.COMPLETED,
        "jobs": [f"20261125-2200{number:02}-night-aaaa"],
        "curves": [[[3, value + 1], [6, value]]] if value is not None else [],
        "values": [] if value is None else [value],
        "value": value,
        "seconds": 60.0,
        "step": 6,
        "total_steps": 6,
    }
    return Trial(number, params, **{**known, **changes})


def every_kind() -> list[Trial]:
    """Return the best (2), a complete one, a pruned one, a NaN, a failed, a cancelled, two open."""
    nan = math.nan
    return [
        trial(0, 2.5),
        trial(1, 3.5, state=State.EARLY_STOPPED, pruned_by="median", step=3),
        trial(2, 1.25),
        trial(3, nan, curves=[[[3, nan], [6, math.inf]]]),
        trial(4, state=State.FAILED, reason="the loss became NaN at step 6", curves=[[[3, 9.0]]]),
        trial(5, state=State.CANCELLED, jobs=[], reason="the sweep's time was up"),
        trial(6, state=State.RUNNING, curves=[[[3, 2.0]]], step=3),
        trial(7, state=State.QUEUED, jobs=[], step=0, total_steps=None),
    ]


def made_up(trials: Sequence[Trial], plan: dict[str, Any] | None = None, **state: Any) -> Swept:
    """Return a sweep with some trials.

    Args:
        plan: changes of the sweep file.
        state: of its state.
    """
    ordered = plan_from({**PLAN, **(plan or {})}, "a test")
    spec = SweepSpec(SWEEP, "night", "2026-11-25T22:00:00+00:00", ordered, base())
    known = {"state": State.COMPLETED, "trials": 12, "updated_at": "2026-11-26T01:05:00+00:00"}
    return Swept(spec, SweepState(**{**known, **state}), trials)
