"""What is suggested for a name that there is not, and where nothing is."""

from __future__ import annotations

import pytest

from jobs.config.config import setting_names
from jobs.suggest import did_you_mean, nearest


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("learnng_rate", ["learning_rate"]),
        ("laerning_rate", ["learning_rate"]),
        ("Learning_Rate", ["learning_rate"]),
        ("lora.rnk", ["lora.rank"]),
        ("lra.rank", ["lora.rank"]),
        ("rnk", ["lora.rank"]),
        ("rank", ["lora.rank"]),
        ("lora.learning_rat", ["learning_rate"]),
        ("model.seed", ["seed"]),
        ("epochs", ["num_epochs"]),
        ("patience", ["early_stopping_patience"]),
        ("batchsize", ["batch_size"]),
        ("steps", ["warmup_steps", "max_steps", "save_steps", "eval_steps", "log_steps"]),
        ("early_stopping", ["early_stopping_patience", "early_stopping_min_delta"]),
        ("momentum", []),
        ("temperature", []),
        ("x", []),
        ("", []),
        ("--", []),
    ],
)
def test_settings(typed: str, expected: list[str]) -> None:
    assert nearest(typed, setting_names()) == expected


@pytest.mark.parametrize(
    ("typed", "known", "expected"),
    [
        ("run", ["prune", "resume"], []),
        ("import", ["export"], []),
        ("start", ["status", "retry"], []),
        ("rm", ["model", "prune"], []),
        ("dif", ["diff", "show"], ["diff"]),
        ("tpo", ["top", "move"], ["top"]),
        ("v3", ["v1", "v2"], []),
        ("stat", ["status", "start"], ["start"]),
        ("conf", ["config", "cancel"], ["config"]),
        ("same", ["same", "sane"], ["sane"]),
    ],
)
def test_words(typed: str, known: list[str], expected: list[str]) -> None:
    assert nearest(typed, known) == expected


def test_the_question() -> None:
    assert did_you_mean("naem", ["name"]) == "Did you mean name?"
    assert did_you_mean("v2", ["v2-a", "v2-b", "v2-c"]) == "Did you mean v2-a, v2-b or v2-c?"
    assert did_you_mean("run", ["prune"]) == ""
