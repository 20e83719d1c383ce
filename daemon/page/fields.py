"""The form of a new job: the settings of a preset as fields, and what is wrong beside each."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from jobs.config.config import Preset, TrainConfig, find_preset, setting_names
from jobs.config.config_file import flatten, preset_names
from jobs.config.yaml12 import parse_yaml
from jobs.errors import DataError, FarenseError, InvalidInput, ModelError
from jobs.paths import REPOSITORY, Workspace
from jobs.storage.values import printable

# What most people change; the rest is folded away.
FIRST = (
    "model",
    "data.train",
    "data.valid",
    "learning_rate",
    "num_epochs",
    "max_steps",
    "batch_size",
    "gradient_accumulation",
    "lora.rank",
    "lora.num_layers",
    "max_seq_length",
    "eval_steps",
    "early_stopping_patience",
    "seed",
)
KEY = re.compile(r"[a-z_]+(?:\.[a-z_]+)?")
# As an error names what was given by `--set`.
OVERRIDE = re.compile(r"--set ([a-z_.]+)=.*?: (?=')")
# What a form may send of one field.
LONGEST = 2_000


@dataclass(frozen=True)
class Problems:
    """What is wrong with a form.

    Attributes:
        fields: by the names of the fields, a text for each.
        general: what belongs to none of them.
        hint: what to do.
    """

    fields: dict[str, str] = field(default_factory=dict)
    general: str | None = None
    hint: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        return {"fields": self.fields, "general": self.general, "hint": self.hint}


def names_of_presets(workspace: Workspace) -> list[str]:
    """Return the presets that a form offers: the workspace's own, and the repository's."""
    return preset_names((workspace.configs, REPOSITORY / "configs"))


def preset_from_form(workspace: Workspace, name: Any, changes: Any) -> Preset:
    """Return a preset with the changes of a form, as ``farense enqueue --set`` makes it.

    Raises:
        ConfigError: a value is not allowed.
        InvalidInput: the form itself is none of ours.
    """
    if name not in names_of_presets(workspace):
        raise InvalidInput("There is no such preset.", "Choose one of the list.")
    if not isinstance(changes, Mapping):
        raise InvalidInput("The form holds no settings.")
    overrides = []
    for key, text in changes.items():
        if not isinstance(text, str) or len(text) > LONGEST or not KEY.fullmatch(str(key)):
            raise InvalidInput("A field of the form holds what no setting can.")
        overrides.append(f"{key}={text.strip() or 'null'}")
    return find_preset(str(name), workspace, tuple(overrides))


def form_of(preset: Preset) -> dict[str, Any]:
    """Return the fields of a preset's settings, those that most people change first."""
    values = flatten(preset.config.model_dump(mode="json"))
    described = _described(TrainConfig)
    names = [*FIRST, *(name for name in setting_names() if name not in FIRST)]
    return {
        "name": preset.name,
        "description": printable(preset.description),
        "first": len(FIRST),
        "fields": [
            {
                "name": name,
                "value": as_text(values.get(name)),
                "about": described[name].description,
                "why": printable(preset.why.get(name, "")) or None,
                **_kind(described[name].annotation),
            }
            for name in names
        ],
    }


def problems_of(error: FarenseError, preset: Preset | None = None) -> Problems:
    """Return what an error says of a form, each line of it beside the field that it is about.

    Args:
        preset: what the form stands for, once that is known.
    """
    names = setting_names()
    found: dict[str, str] = {}
    general = []
    lines = error.message.splitlines()
    for line in [line for line in lines if line.strip()]:
        key = _field_in(line, names)
        if key is not None:
            text = OVERRIDE.sub("", line.strip()).removeprefix(f"{key}: ")
            found[key] = printable(f"{found[key]} {text}" if key in found else text)
        elif not (len(lines) > 1 and line.endswith(":")):  # the heading names the preset's file
            general.append(printable(line.strip()))
    if not found and (key := _field_of_kind(error, preset)) is not None:
        found, general = {key: " ".join(general)}, []
    return Problems(found, " ".join(general) or None, error.hint and printable(error.hint))


def as_text(value: Any) -> str:
    """Return a setting as ``--set`` takes it, which is YAML; nothing for one that is left out."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, str) and parse_yaml(value) == value:
        return value
    return str(yaml.safe_dump(value, default_flow_style=True, width=10_000)).removesuffix(
        "...\n"
    ).strip()  # fmt: skip


def _field_in(line: str, names: list[str]) -> str | None:
    """Return the setting that a line of an error is about: it begins with it, or names it."""
    if override := OVERRIDE.match(line):
        return override[1] if override[1] in names else None
    begins = KEY.match(line.strip())
    if begins and begins[0] in names:
        return begins[0]
    if begins and line.strip().startswith(f"{begins[0]}:"):
        return None  # of an unknown setting, which a known one may only be near
    found = [name for name in KEY.findall(line) if name in names]
    return found[0] if found and line.startswith(" ") else None


def _field_of_kind(error: FarenseError, preset: Preset | None) -> str | None:
    if isinstance(error, ModelError):
        return "model"
    if not isinstance(error, DataError) or preset is None:
        return None
    data = preset.config.data
    of_valid = data.valid and data.valid in error.message and data.train not in error.message
    return "data.valid" if of_valid else "data.train"


def _described(model: type[BaseModel], prefix: str = "") -> dict[str, FieldInfo]:
    found: dict[str, FieldInfo] = {}
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= _described(kind, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = info
    return found


def _kind(annotation: Any) -> dict[str, Any]:
    """Return how a setting is entered: which words it may be, or what is typed."""
    kinds = _kinds(annotation)
    optional = type(None) in get_args(annotation)
    if words := _words(annotation):
        return {"kind": "choice", "words": words, "optional": optional}
    if kinds == [bool]:
        return {"kind": "choice", "words": ["true", "false"], "optional": optional}
    if kinds == [int]:
        return {"kind": "whole", "optional": optional}
    return {"kind": "number" if kinds == [float] else "text", "optional": optional}


def _kinds(annotation: Any) -> list[Any]:
    """Return the types that a setting may have, but for none."""
    union = get_origin(annotation) in (Union, types.UnionType)
    return [kind for kind in (get_args(annotation) if union else (annotation,))
            if kind is not type(None)]  # fmt: skip


def _words(annotation: Any) -> list[str]:
    """Return the words of which a setting is one; none where it is typed freely."""
    return [str(word) for kind in _kinds(annotation) if get_origin(kind) is Literal
            for word in get_args(kind)]  # fmt: skip
