"""The names of settings, and what to say of one that there is not."""

from __future__ import annotations

from difflib import get_close_matches

from pydantic import BaseModel

from jobs.config import TrainConfig


def setting_names(model: type[BaseModel] = TrainConfig, prefix: str = "") -> list[str]:
    """Return the dotted names of all settings of a config."""
    names: list[str] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names += setting_names(kind, f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
    return names


def unknown_setting(name: str, names: list[str]) -> str:
    """Return what to say of a setting that there is not; the nearest is suggested."""
    inner = [found for found in names if found.rpartition(".")[2] == name]
    return nearest(name, inner or names, "setting", inner[:1])


def nearest(name: str, names: list[str], what: str = "key", sure: list[str] | None = None) -> str:
    """Return what to say of a name that there is not.

    Args:
        names: those there are.
        what: what it would be the name of.
        sure: what is meant, where that is certain.
    """
    near = sure or get_close_matches(name, names, n=1, cutoff=0.6)
    return f"{name}: unknown {what}" + (f"; did you mean {near[0]}?" if near else "")
