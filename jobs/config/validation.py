"""What is wrong with the settings that a person gives, said a line each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from jobs.config.config_file import shown
from jobs.errors import ConfigError
from jobs.suggest import did_you_mean

Model = TypeVar("Model", bound=BaseModel)


def names_in(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the dotted names of all keys of a model."""
    names: list[str] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names += names_in(kind, f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
    return names


def validated(
    model: type[Model], values: Any, source: str, known: Sequence[str] | None = None
) -> Model:
    """Return ``values`` as a model; what is wrong with them is said a line each.

    Args:
        known: the keys, dotted, that may be meant where one is unknown; the model's own, where left
            out.

    Raises:
        ConfigError: naming ``source``, each key, what was given and what is allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        names = names_in(model) if known is None else known
        lines = [_problem(details, names) for details in error.errors()]
        raise ConfigError("\n".join([f"{source}:", *lines])) from error


def _problem(details: Any, names: Sequence[str]) -> str:
    """Return one line: the key, what is allowed, what was given.

    Args:
        names: of all keys, dotted.
    """
    key = ".".join(str(part) for part in details["loc"] if part != "config")
    message = str(details["msg"]).removeprefix("Value error, ")
    match details["type"]:
        case "extra_forbidden" if key in names:
            group, _, last = key.rpartition(".")
            return f"  {key}: in a file, this is {group}: {{{last}: {shown(details['input'])}}}"
        case "extra_forbidden":
            groups = {name.rpartition(".")[0] for name in names} - {""}
            meant = did_you_mean(key, [*names, *sorted(groups)])
            return f"  {key}: unknown key (given: {shown(details['input'])}). {meant}".rstrip(". ")
        case "missing":
            return f"  {key}: required, but not given"
        case "value_error":
            return f"  {message}"
        case "tuple_type":
            message = "expected a list, as [first, second]"
        case "model_type":
            inner = ", ".join(name for name in names if name.startswith(f"{key}."))
            message = f"stands for a group of settings: {inner}" if inner else message
    allowed = message[0].lower() + message[1:]
    return f"  {key}: {allowed} (given: {shown(details['input'])})"
