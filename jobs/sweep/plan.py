"""A sweep file: what to try, how, for how long. Validated like a config, before anything starts.

Everything that can be refused is refused here: a value that no config allows, a combination that
the constraints rule out, a setting that is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice, product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from jobs.config.config import (
    ConfigModel,
    TrainConfig,
    config_from,
    load_preset,
    setting_names,
    unknown_setting,
)
from jobs.config.share import percent
from jobs.config.validation import validated
from jobs.config.yaml12 import load_yaml
from jobs.errors import ConfigError
from jobs.sweep.space import (
    MOST_VALUES,
    Choice,
    Dimension,
    Range,
    Scalar,
    dimension,
    label,
    settings_of,
    size,
)

# What cannot be searched, and why.
NOT_SEARCHED = {
    "seed": "a seed is not a setting to tune; for several seeds a trial, set seeds_per_trial: 2",
    "model": "losses of different models cannot be compared",
    "prompt_format": "losses of different prompts cannot be compared",
    "chat_template": "losses of different prompts cannot be compared",
    "thinking": "losses of different prompts cannot be compared",
    "loss_on": "losses over different tokens cannot be compared",
    "mask_prompt": "losses over different tokens cannot be compared",
    "init_from": "the adapter is frozen when the sweep starts, one for all trials; name it in set",
    "data.valid": "losses on different data cannot be compared",
}
# Counted in micro-batches, and kept at the same number of examples where the batch size changes.
STEPS = ("max_steps", "eval_steps", "save_steps", "log_steps", "warmup_steps")
# Combinations that are tried out before a sweep starts.
TRIED = 2_000


class Pruner(ConfigModel):
    """Who ends trials that will come to nothing; a validation is counted as one step.

    The median one prunes a trial that is worse than half of those before it were at the same
    validation; Hyperband gives many trials a few validations and the best of them more.
    """

    kind: Literal["median", "hyperband", "none"] = "median"
    startup_trials: int = Field(default=4, ge=0, description="that are never pruned")
    warmup_validations: int = Field(default=1, ge=0, description="before which none is pruned")
    min_validations: int = Field(default=1, ge=1, description="of Hyperband's smallest bracket")
    reduction_factor: int = Field(default=3, ge=2, description="of Hyperband: one in so many stays")


class Constraints(ConfigModel):
    """What every trial must keep to."""

    effective_batch: int | None = Field(
        default=None, ge=1, description="batch_size x gradient_accumulation"
    )
    memory_gb: float | None = Field(
        default=None, gt=0, description="a trial that needs more is not started; else the machine's"
    )


def _pruner(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


def _space(value: Any) -> Any:
    if not isinstance(value, dict) or not value:
        raise ValueError("expected the settings to search, each with a list or a range")
    return {str(key): _dimension(str(key), found) for key, found in value.items()}


def _dimension(key: str, found: Any) -> Any:
    try:
        found = dimension(found)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    if isinstance(found, dict):
        kind = Choice if "choices" in found else Range
        return validated(kind, found, f"space.{key}")
    return found


class SweepPlan(ConfigModel):
    """What a sweep file says.

    Attributes:
        preset: the config that every trial starts from.
        set: settings that are fixed for all of them.
        space: what is searched, by the dotted names of settings.
        hours: how long the sweep may take; ``until``: a time of day by which it has ended.
        seeds_per_trial: trainings of a trial, each with another seed; their mean counts.
        give_up_after: failures in a row that end the sweep.
        seed: of the sampler.
    """

    preset: str = Field(min_length=1)
    description: str = ""
    set: dict[str, Any] = Field(default_factory=dict)
    space: Annotated[dict[str, Choice | Range], BeforeValidator(_space)]
    objective: Literal["val_loss", "token_f1"] = "val_loss"
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    pruner: Annotated[Pruner, BeforeValidator(_pruner)] = Pruner()
    trials: int | None = Field(default=None, ge=1, le=10_000)
    until: str | None = Field(default=None, min_length=1)
    hours: float | None = Field(default=None, gt=0, le=1_000)
    seeds_per_trial: int = Field(default=1, ge=1, le=20)
    constraints: Constraints = Constraints()
    give_up_after: int = Field(default=3, ge=1)
    seed: int = Field(default=42, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = setting_names()
        for name in (*self.space, *self.set):
            if name not in names:
                raise ValueError(unknown_setting(name))
        for name in self.space:
            if name in NOT_SEARCHED:
                raise ValueError(f"space.{name}: {NOT_SEARCHED[name]}")
            if name in self.set:
                raise ValueError(f"{name} is under both set and space: it is fixed or searched")
        if self.until is not None and self.hours is not None:
            raise ValueError("until and hours cannot be combined: each sets the end")
        if self.sampler == "grid":
            self._is_countable()
        elif self.trials is None and self.until is None and self.hours is None:
            raise ValueError("no end is set: give trials, until or hours")
        return self

    def _is_countable(self) -> None:
        for name, found in self.space.items():
            if found.values() is None:
                raise ValueError(
                    f"space.{name}: a grid needs a list of values, or a range with a step, "
                    f"of at most {MOST_VALUES:,} values"
                )

    @property
    def most_trials(self) -> int | None:
        """How many trials there will be at the most; None where only time ends the sweep.

        No point of a countable space is tried twice.
        """
        return min((n for n in (size(self.space), self.trials) if n is not None), default=None)

    @property
    def maximizes(self) -> bool:
        """Whether a larger value of the objective is better."""
        return self.objective == "token_f1"


def load_plan(path: Path) -> SweepPlan:
    """Return what a sweep file says.

    Raises:
        ConfigError: it cannot be read, or something in it is not allowed.
    """
    loaded = load_yaml(path)
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, with preset and space.")
    return plan_from(loaded, str(path))


def plan_from(values: Mapping[str, Any], source: str) -> SweepPlan:
    """Return the plan in ``values``.

    Raises:
        ConfigError: naming ``source``, the key, what was given and what is allowed.
    """
    for key in map(str, values):
        if key not in SweepPlan.model_fields and (hint := _if_config(key)):
            raise ConfigError(f"{source}:\n  {key}: unknown key", hint)
    return validated(SweepPlan, dict(values), source)


def base_config(plan: SweepPlan, folders: tuple[Path, ...], source: str) -> TrainConfig:
    """Return the config that every trial starts from, checked against all that may be tried.

    Raises:
        ConfigError: there is no such preset, or some trial could not be.
    """
    preset = load_preset(plan.preset, folders)
    values = with_settings(preset.config.model_dump(mode="json"), plan.set)
    base = config_from(values, f"{source}, preset {plan.preset} with set")
    if base.data.valid is None:
        raise ConfigError(
            f"{source}: a sweep compares trials on validation data, and {plan.preset} names none.",
            "Add it: set: {data.valid: data/valid.jsonl}",
        )
    if percent(base.data.valid) and "data.train" in plan.space:
        raise ConfigError(
            f"{source}: space.data.train: with data.valid: {base.data.valid}, each file would be "
            "validated on a part of its own, and losses on different data cannot be compared.",
            "Set data.valid to a file: set: {data.valid: data/valid.jsonl}",
        )
    _try_out(plan, base, source)
    return base


def config_of(
    plan: SweepPlan, base: TrainConfig, params: Mapping[str, Scalar], part: int = 0
) -> TrainConfig:
    """Return the config of a trial, or of one of its trainings.

    Where the batch size differs from the base's, what is counted in steps changes with it, so that
    validations of all trials come after the same number of examples.

    Raises:
        ConfigError: it is not allowed.
    """
    chosen = settings_of(plan.space, params)
    values = with_settings(base.model_dump(mode="json"), chosen)
    wanted = plan.constraints.effective_batch
    if wanted is not None:
        if "gradient_accumulation" not in chosen and wanted % values["batch_size"] == 0:
            values["gradient_accumulation"] = wanted // values["batch_size"]
        if (found := values["batch_size"] * values["gradient_accumulation"]) != wanted:
            raise ConfigError(
                f"batch_size {values['batch_size']} x gradient_accumulation "
                f"{values['gradient_accumulation']} is {found}, and effective_batch is {wanted}."
            )
    for name in STEPS:
        if name not in chosen and values[name]:
            scaled = round(values[name] * base.batch_size / values["batch_size"])
            values[name] = max(scaled, 1)
    values["seed"] = (base.seed + part) % 2**32
    return config_from(values, "the trial")


def with_settings(values: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings with some of them, by their dotted names, replaced."""
    changed = dict(values)
    for key, value in settings.items():
        first, _, rest = key.partition(".")
        inner = with_settings(dict(changed.get(first) or {}), {rest: value}) if rest else value
        changed[first] = inner
    return changed


def _if_config(key: str) -> str | None:
    """Return a hint where a setting of the config stands among the keys of the sweep."""
    if key in setting_names() or key in TrainConfig.model_fields:
        return f"A fixed setting stands under set, one to search under space: set: {{{key}: ...}}"
    return None


def _try_out(plan: SweepPlan, base: TrainConfig, source: str) -> None:
    """Make the configs that trials may have, as far as their number allows.

    Raises:
        ConfigError: one is not allowed; or all fit alone, and not one of them the constraints.
    """
    for params in _samples(plan.space):
        try:
            config_of(plan, base, params)
        except ConfigError as error:
            shown = ", ".join(f"{name}: {value}" for name, value in params.items())
            lines = error.message.splitlines()
            reason = "\n".join(lines[1:] if len(lines) > 1 else lines).strip()
            raise ConfigError(
                f"{source}:\n  A trial with {shown} could not be:\n  {reason}", error.hint
            ) from error


def alone(plan: SweepPlan, base: TrainConfig) -> Iterator[TrainConfig]:
    """Yield the configs with each value of each setting, the others being the first of theirs.

    ``base`` was checked: all of them are allowed.
    """
    return (config_of(plan, base, params) for params in _alone(plan.space))


def _alone(space: Mapping[str, Dimension]) -> Iterator[dict[str, Scalar]]:
    labels = {name: _labels(found) for name, found in space.items()}
    first = {name: found[0] for name, found in labels.items()}
    for name, found in labels.items():
        yield from ({**first, name: value} for value in found)


def _samples(space: Mapping[str, Dimension]) -> Iterator[dict[str, Scalar]]:
    """Yield each value of each setting beside the first of the others, then their combinations."""
    yield from _alone(space)
    labels = {name: _labels(found) for name, found in space.items()}
    for values in islice(product(*labels.values()), TRIED):
        yield dict(zip(labels, values, strict=True))


def _labels(found: Dimension) -> list[Scalar]:
    return [label(value) for value in found.ends()]
