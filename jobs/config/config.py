"""What a training run is told: presets, config files, overrides.

A preset is a YAML file in ``configs/``. Beside the settings it may carry ``description`` and
``why`` (a reason for each setting it changes): these explain the preset and are not the config.
``preset: v2`` in it stands for all that v2 says; its own settings are changes then.
Importing this module loads pydantic (0.3 s): commands that only read records must not.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from jobs.config.config_file import (
    BASE,
    EXPLANATIONS,
    apply_override,
    find_file,
    read_config_file,
)
from jobs.config.memory_size import AUTO, bytes_of, memory_setting
from jobs.config.share import percent
from jobs.config.step_plan import Schedule
from jobs.config.validation import names_in, validated
from jobs.paths import REPOSITORY, Workspace
from jobs.suggest import did_you_mean

# More than any run has; what is written must fit into 64 bits.
MANY = 1_000_000_000

# The adapter's factor where a config names neither a scale nor an alpha: that of v2.
DEFAULT_SCALE = 16.0
# What mask_prompt says of each loss_on: nothing of one that it cannot say.
MASKS = {"last_answer": True, "all_answers": None, "everything": False}


class ConfigModel(BaseModel):
    """Base of the config models: frozen, strictly typed, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class LoraConfig(ConfigModel):
    """Which layers are adapted, and how: y = W x + scale * dropout(x) A B.

    DoRA gives each output of that a learned magnitude (:mod:`jobs.model.dora`). What is left out is
    as in the preset v2.
    """

    kind: Literal["lora", "dora"] = Field(
        default="lora", description="dora: each output of a layer also learns its magnitude"
    )
    rank: int = Field(default=6, ge=1, le=1024)
    scale: float | None = Field(
        default=None, gt=0, description="a factor, not alpha: alpha / rank; 16 without an alpha"
    )
    alpha: float | None = Field(default=None, gt=0, description="in place of scale: alpha / rank")
    rslora: bool = Field(default=False, description="scale is alpha / sqrt(rank)")
    dropout: float = Field(default=0.08, ge=0, lt=1)
    num_layers: int = Field(
        default=8, ge=1, le=MANY, description="adapted blocks, counted from the last"
    )
    keys: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = (
        *("q_proj", "k_proj", "v_proj", "o_proj"),
        *("gate_proj", "up_proj", "down_proj"),
    )

    @model_validator(mode="before")
    @classmethod
    def _with_a_scale(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("scale") is None and given.get("alpha") is None:
            return {**given, "scale": DEFAULT_SCALE}
        return given

    @model_validator(mode="after")
    def _one_scale(self) -> Self:
        if self.scale is not None and self.alpha is not None:
            raise ValueError(
                "lora.scale and lora.alpha are both given, and each says how much the adapter "
                "counts: set the one that is not to be used to null"
            )
        if self.rslora and self.alpha is None:
            raise ValueError(
                "lora.rslora has no effect without lora.alpha: set lora.alpha, and lora.scale to "
                "null"
            )
        return self

    @property
    def factor(self) -> float:
        """What the product of the two matrices is multiplied with: ``scale``, or what alpha says.

        alpha / rank, and with rsLoRA alpha / sqrt(rank) (arXiv 2312.03732).
        """
        if self.alpha is None:
            return self.scale or DEFAULT_SCALE
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


class DataConfig(ConfigModel):
    """JSON Lines files, relative to the workspace or absolute; ``valid`` may be left out.

    ``valid`` may also be a share of ``train``, ``10%``, which is then not trained on.
    """

    train: str = Field(min_length=1)
    valid: str | None = Field(default=None, min_length=1)

    @field_validator("valid", mode="before")
    @classmethod
    def _a_file_or_a_share(cls, given: Any) -> Any:
        if isinstance(given, int | float) and not isinstance(given, bool):
            raise ValueError(
                f"data.valid: {given} is neither a file nor a share; a tenth of the training file "
                "is 10%"
            )
        return given

    @model_validator(mode="after")
    def _a_share_that_can_be(self) -> Self:
        percent(self.valid or "")
        return self


class TrainConfig(ConfigModel):
    """A complete training configuration. Every ``*_steps`` setting counts micro-batches."""

    model: str = Field(min_length=1, description="a folder or link in models/, or an absolute path")
    data: DataConfig
    prompt_format: Literal["farense", "chat"] = "farense"
    chat_template: str | None = Field(
        default=None, min_length=1, description="which one, of a model that has several"
    )
    thinking: Literal["off", "on"] = Field(
        default="off", description="whether the chat template asks the model to reason first"
    )
    loss_on: Literal["last_answer", "all_answers", "everything"] = Field(
        default="last_answer", description="whose tokens are learned"
    )
    mask_prompt: bool | None = Field(
        default=None,
        description="true is loss_on: last_answer, false loss_on: everything; give one of the two",
    )
    lora: LoraConfig = LoraConfig()
    init_from: str | None = Field(
        default=None,
        min_length=1,
        description="a job, or the folder of an adapter (mlx-lm's, PEFT's), to go on from",
    )
    batch_size: int = Field(ge=1, le=4096)
    gradient_accumulation: int = Field(default=1, ge=1, le=4096)
    learning_rate: float = Field(gt=0, le=1)
    optimizer: Literal["adamw"] = "adamw"
    adam_bias_correction: bool = False
    weight_decay: float = Field(default=0.01, ge=0, lt=1)
    lr_schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant", description="how the rate goes on after the warmup, to the last update"
    )
    min_learning_rate: float = Field(
        default=0.0, ge=0, le=1, description="of the last update, where lr_schedule lowers it"
    )
    warmup_steps: int = Field(default=0, ge=0, le=MANY)
    warmup_ratio: float | None = Field(
        default=None, ge=0, lt=1, description="in place of warmup_steps: a part of the updates"
    )
    num_epochs: int = Field(ge=1, le=10_000)
    max_steps: int | None = Field(default=None, ge=1, le=MANY, description="ends the run earlier")
    max_seq_length: int = Field(default=512, ge=8, le=1_048_576)
    seed: int = Field(default=42, ge=0, lt=2**32)
    save_steps: int = Field(default=200, ge=1, le=MANY)
    eval_steps: int = Field(default=200, ge=1, le=MANY)
    log_steps: int = Field(default=10, ge=1, le=MANY)
    early_stopping_patience: int | None = Field(default=None, ge=1, le=MANY)
    early_stopping_min_delta: float | None = Field(
        default=None,
        ge=0,
        description="nats by which a loss has to fall to count for patience; the adapter of the "
        "lowest validation is kept, by however little",
    )
    keep_checkpoints: int = Field(default=2, ge=1, le=MANY)
    gap_examples: int = Field(
        default=64,
        ge=1,
        le=MANY,
        description="training examples, in a fixed slice, whose loss the gap uses",
    )
    max_grad_norm: float | None = Field(
        default=None, gt=0, description="an update's gradient is scaled down to this L2 norm"
    )
    memory: str = Field(
        default=AUTO,
        description="the most that training may take: 6GB, say; auto: all that the machine has",
    )
    grad_checkpoint: bool | None = Field(
        default=None,
        description="compute activations again in the backward pass: less memory; left out: only "
        "where they do not fit otherwise",
    )
    on_divergence: Literal["stop", "rollback"] = Field(
        default="stop",
        description="rollback: from the last checkpoint with half the learning rate, at most twice",
    )
    on_oom: Literal["stop", "retry_smaller"] = Field(
        default="stop",
        description="retry_smaller: the next attempt computes each micro-batch in more pieces",
    )
    prefix_cache_gb: float | None = Field(
        default=None, ge=0, description="0: no cache; left out: a tenth of the free disk"
    )
    stall_minutes: float | None = Field(
        default=30.0,
        gt=0,
        description="of silence, then the job is stopped; a validation has to be shorter",
    )
    max_hours: float | None = Field(
        default=None, gt=0, description="of training, over all attempts; then the job is stopped"
    )
    trackers: Annotated[
        tuple[Literal["tensorboard", "trackio", "wandb", "mlflow"], ...], Field(strict=False)
    ] = Field(default=(), description="to which the curves are forwarded as well")

    @field_validator("trackers", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        named = [given] if isinstance(given, str) else () if given is None else given
        return tuple(dict.fromkeys(named)) if isinstance(named, list | tuple) else named

    @field_validator("warmup_steps", mode="before")
    @classmethod
    def _no_warmup(cls, given: Any) -> Any:
        return 0 if given is None else given  # as other settings are left out

    @field_validator("memory", mode="before")
    @classmethod
    def _auto_or_a_size(cls, given: Any) -> str:
        return memory_setting(given)

    @model_validator(mode="before")
    @classmethod
    def _both_say_what_is_learned(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        learned, masked = given.get("loss_on"), given.get("mask_prompt")
        if learned is None and (masked is None or isinstance(masked, bool)):
            learned = "everything" if masked is False else "last_answer"
            return {**given, "loss_on": learned, "mask_prompt": learned == "last_answer"}
        if masked is None and isinstance(learned, str) and learned in MASKS:
            return {**given, "mask_prompt": MASKS[learned]}
        return given

    @model_validator(mode="after")
    def _they_agree(self) -> Self:
        if self.mask_prompt != MASKS[self.loss_on]:
            raise ValueError(
                f"mask_prompt: {str(self.mask_prompt).lower()} contradicts loss_on: "
                f"{self.loss_on}. Set one of the two to null"
            )
        return self

    @model_validator(mode="after")
    def _patience_needs_validation(self) -> Self:
        if self.early_stopping_patience is not None and self.data.valid is None:
            raise ValueError(
                "early_stopping_patience needs validation data: set data.valid, "
                "or early_stopping_patience to null"
            )
        if self.early_stopping_min_delta is not None and self.early_stopping_patience is None:
            raise ValueError(
                "early_stopping_min_delta has no effect without early_stopping_patience: "
                "set both, or neither"
            )
        return self

    @model_validator(mode="after")
    def _one_learning_rate(self) -> Self:
        if self.warmup_ratio is not None and self.warmup_steps:
            raise ValueError(
                "warmup_steps and warmup_ratio are both given: set warmup_steps to 0, or "
                "warmup_ratio to null"
            )
        if self.min_learning_rate and self.lr_schedule == "constant":
            raise ValueError(
                "min_learning_rate has no effect with lr_schedule: constant; set lr_schedule to "
                "linear or cosine, or min_learning_rate to 0"
            )
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(
                f"min_learning_rate {self.min_learning_rate:g} is above learning_rate "
                f"{self.learning_rate:g}: it is what the rate goes down to"
            )
        return self

    @model_validator(mode="after")
    def _templates_need_chat(self) -> Self:
        if self.prompt_format != "chat":
            for key, set_ in (
                ("chat_template", self.chat_template is not None),
                ("thinking", self.thinking == "on"),
            ):
                if set_:
                    raise ValueError(f"{key} has no effect without prompt_format: chat")
        return self

    @property
    def memory_bytes(self) -> int | None:
        """The most that training may take, bytes; None for all that the machine has."""
        return bytes_of(self.memory)

    def schedule(self, examples: int) -> Schedule:
        """Return the steps, updates and validations of a run over ``examples`` examples."""
        return Schedule(
            examples=examples,
            batch_size=self.batch_size,
            gradient_accumulation=self.gradient_accumulation,
            num_epochs=self.num_epochs,
            max_steps=self.max_steps,
            eval_steps=self.eval_steps,
            has_validation=self.data.valid is not None,
        )


class Preset(ConfigModel):
    """A config with its name and the explanations its file carries."""

    name: str
    config: TrainConfig
    description: str = ""
    why: dict[str, str] = Field(default_factory=dict)
    made_from: tuple[str, ...] = Field(
        default=(), description="the preset whose settings it changes, and those that this one does"
    )


def load_preset(name: str, folders: tuple[Path, ...], overrides: tuple[str, ...] = ()) -> Preset:
    """Load a preset by name, or a config file by path, and apply ``--set`` overrides.

    Args:
        name: ``v2``, or a path that ends in ``.yaml`` or ``.yml``.
        folders: where presets are looked for, first match wins.
        overrides: ``key=value`` pairs with dotted keys; values are YAML.

    Raises:
        ConfigError: unknown preset, unreadable file, or a value that is not allowed.
    """
    path = find_file(name, folders)
    found = read_config_file(path, folders)
    settings = dict(found.settings)
    for override in overrides:
        apply_override(settings, override)
    source = f"{path}" + (" with --set" if overrides else "")
    values = {"name": path.stem, "config": settings, "made_from": found.made_from}
    known = [*setting_names(), *EXPLANATIONS, BASE]
    return validated(Preset, {**values, **found.explanations}, source, known)


def find_preset(name: str, workspace: Workspace, overrides: tuple[str, ...] = ()) -> Preset:
    """Load a preset as :func:`load_preset` does: the workspace's own, else the repository's."""
    return load_preset(name, (workspace.configs, REPOSITORY / "configs"), overrides)


def config_from(values: Any, source: str) -> TrainConfig:
    """Return the config in ``values`` (a job's frozen spec, say).

    Raises:
        ConfigError: naming ``source``, each offending key, what was given and what is allowed.
    """
    return validated(TrainConfig, values, source)


def setting_names() -> list[str]:
    """Return the dotted names of all settings of a config."""
    return names_in(TrainConfig)


def unknown_setting(name: str) -> str:
    """Return what to say of a setting that there is not."""
    return f"{name}: unknown setting. {did_you_mean(name, setting_names())}".rstrip()
