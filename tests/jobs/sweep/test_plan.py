"""Sweep files: what is taken, and what is refused before anything starts."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.config.config import load_preset, setting_names
from jobs.errors import ConfigError
from jobs.paths import REPOSITORY
from jobs.sweep.plan import base_config, config_of, load_plan, plan_from

CONFIGS = REPOSITORY / "configs"
GOOD: dict[str, Any] = {"preset": "v2", "space": {"lora.rank": [4, 6, 8]}, "trials": 4}


def refused(values: dict[str, Any]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        base_config(plan_from(values, "FILE"), (CONFIGS,), "FILE")
    return caught.value


@pytest.mark.parametrize("path", sorted((CONFIGS / "sweeps").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_sweep_file_of_ours_is_valid(path: Path) -> None:
    plan = load_plan(path)
    base = base_config(plan, (CONFIGS,), str(path))
    assert base.data.valid is not None


def test_the_overnight_sweep_keeps_to_the_rules_of_thumb() -> None:
    plan = load_plan(CONFIGS / "sweeps" / "overnight.yaml")
    base = base_config(plan, (CONFIGS,), "overnight")
    ends = {name: found.ends() for name, found in plan.space.items()}
    assert ends["lora.dropout"] == (0.05, 0.15)
    assert set(ends["lora.rank"]) == {4, 6, 8}
    assert ends["learning_rate"] == (1e-4, 5e-4)
    assert set(ends["early_stopping_patience"]) == {5, 10}
    assert plan.until == "07:00"
    for size in ends["batch_size"]:
        params = {name: values[0] for name, values in ends.items()} | {"batch_size": size}
        config = config_of(plan, base, params)
        assert config.batch_size * config.gradient_accumulation == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trails": 3}, "trails: unknown key (given: 3). Did you mean trials?"),
        ({"preset": "v9"}, "There is no preset 'v9'."),
        ({"set": {"num_epoch": 1}}, "num_epoch: unknown setting. Did you mean num_epochs?"),
        ({"space": {"rank": [4]}}, "rank: unknown setting. Did you mean lora.rank?"),
        ({"space": {"lora.rang": [4]}}, "lora.rang: unknown setting. Did you mean lora.rank?"),
        ({"space": {"lora.rank": 4}}, "lora.rank: expected a list of values, or {low"),
        ({"space": {}}, "expected the settings to search"),
        ({"space": {"lora.rank": {"low": 8, "high": 4}}}, "low (8) must be below high (4)"),
        ({"space": {"lora.rank": [4, 0]}}, "lora.rank: input should be greater than or equal"),
        ({"space": {"lora.dropout": {"low": 0.5, "high": 1.5}}}, "A trial with lora.dropout: 1.5"),
        ({"space": {"learning_rate": ["fast"]}}, "A trial with learning_rate: fast could not be"),
        ({"space": {"init_from": ["a", "b"]}}, "space.init_from: the adapter is frozen when the"),
        ({"space": {"seed": [1, 2]}}, "space.seed: a seed is not a setting to tune"),
        ({"space": {"data.valid": ["a"]}}, "space.data.valid: losses on different data"),
        ({"space": {"model": ["models/a"]}}, "space.model: losses of different models"),
        ({"set": {"lora.rank": 4}}, "lora.rank is under both set and space"),
        ({"sampler": "grd"}, "sampler: input should be 'tpe', 'random' or 'grid' (given: 'grd')"),
        ({"pruner": "medain"}, "pruner.kind: input should be 'median', 'hyperband' or 'none'"),
        ({"pruner": {"warmup": 1}}, "pruner.warmup: unknown key"),
        ({"trials": 0}, "trials: input should be greater than or equal to 1"),
        ({"trials": None}, "no end is set"),
        ({"hours": 2, "until": "07:00"}, "until and hours cannot be combined"),
        ({"constraints": {"memory": 4}}, "constraints.memory: unknown key"),
        ({"objective": "f1"}, "objective: input should be 'val_loss' or 'token_f1'"),
        ({"set": {"data.valid": None}}, "early_stopping_patience needs validation data"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, Any], message: str) -> None:
    assert message in refused({**GOOD, **change}).message


def test_a_setting_in_the_wrong_place_gets_a_hint() -> None:
    assert "stands under set" in (refused({**GOOD, "learning_rate": 1e-4}).hint or "")


def test_without_validation_data_there_is_nothing_to_compare() -> None:
    without = {"early_stopping_patience": None, "early_stopping_min_delta": None}
    error = refused({**GOOD, "set": {**without, "data.valid": None}})
    assert "compares trials on validation data" in error.message


def test_a_grid_must_be_countable() -> None:
    endless = {"learning_rate": {"low": 1e-4, "high": 1e-3}}
    message = refused({**GOOD, "sampler": "grid", "space": endless}).message
    assert "a grid needs a list of values, or a range with a step" in message
    plan = plan_from({**GOOD, "sampler": "grid", "trials": None}, "FILE")
    assert plan.most_trials == 3
    assert plan_from({**GOOD, "sampler": "grid", "trials": 2}, "FILE").most_trials == 2


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_an_effective_batch_sets_what_follows_from_it(size: int) -> None:
    values = {**GOOD, "space": {"batch_size": [1, 2, 4, 8]}, "constraints": {"effective_batch": 8}}
    plan = plan_from(values, "FILE")
    base = base_config(plan, (CONFIGS,), "FILE")
    assert config_of(plan, base, {"batch_size": size}).gradient_accumulation == 8 // size


@pytest.mark.parametrize(
    "space",
    [
        {"batch_size": [3]},
        {"batch_size": [2, 16]},
        {"batch_size": [2, 4], "gradient_accumulation": [4, 2]},
    ],
)
def test_combinations_that_the_constraints_rule_out_are_refused(space: dict[str, Any]) -> None:
    values = {**GOOD, "space": space, "constraints": {"effective_batch": 8}}
    assert "and effective_batch is 8" in refused(values).message


def test_validations_come_after_the_same_number_of_examples_whatever_the_batch_size() -> None:
    values = {**GOOD, "space": {"batch_size": [1, 2, 4]}, "set": {"max_steps": 100}}
    plan = plan_from(values, "FILE")
    base = base_config(plan, (CONFIGS,), "FILE")
    names = ("max_steps", "eval_steps", "save_steps", "log_steps", "warmup_steps")
    for size, name in product([1, 2, 4], names):
        config = config_of(plan, base, {"batch_size": size})
        assert getattr(config, name) * size == getattr(base, name) * base.batch_size


def test_each_seed_of_a_trial_is_another_one() -> None:
    plan = plan_from({**GOOD, "seeds_per_trial": 3}, "FILE")
    base = base_config(plan, (CONFIGS,), "FILE")
    seeds = [config_of(plan, base, {"lora.rank": 4}, part).seed for part in range(3)]
    assert seeds == [42, 43, 44]


def test_a_trial_changes_what_it_names_and_nothing_else() -> None:
    plan = plan_from({**GOOD, "set": {"num_epochs": 5}}, "FILE")
    base = base_config(plan, (CONFIGS,), "FILE")
    config = config_of(plan, base, {"lora.rank": 4})
    preset = load_preset("v2", (CONFIGS,)).config
    changed = {"num_epochs": 5, "lora": preset.lora.model_copy(update={"rank": 4})}
    assert config == preset.model_copy(update=changed)


def test_a_plan_reads_what_it_has_written() -> None:
    space = {
        "lora.keys": [["q_proj"], ["q_proj", "v_proj"]],
        "learning_rate": {"low": 1e-4, "high": 1e-3, "log": True},
        "early_stopping_patience": [5, None],
    }
    plan = plan_from({**GOOD, "space": space, "pruner": "hyperband"}, "FILE")
    assert plan_from(plan.model_dump(mode="json"), "FILE").model_dump() == plan.model_dump()


@pytest.mark.parametrize("text", ["", "- a\n", "preset: [", "\0", "just words"])
def test_what_is_no_sweep_file_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"x\.yaml"):
        load_plan(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_plan(tmp_path / "none.yaml")


def test_settings_are_known_by_their_dotted_names() -> None:
    names = setting_names()
    config = load_preset("v2", (CONFIGS,)).config
    assert {"lora.rank", "data.train", "learning_rate"} <= set(names)
    assert yaml.safe_load(yaml.safe_dump(names)) == names
    for name in names:
        value: Any = config
        for part in name.split("."):
            value = getattr(value, part)


def test_a_sweep_starts_from_a_preset_with_changes(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("preset: v2\nweight_decay: 0.05\n")
    plan = plan_from({**GOOD, "preset": str(path)}, "s.yaml")
    base = base_config(plan, (CONFIGS,), "s.yaml")
    v2 = base_config(plan_from({**GOOD, "preset": "v2"}, "s.yaml"), (CONFIGS,), "s.yaml")
    assert base == v2.model_copy(update={"weight_decay": 0.05})
