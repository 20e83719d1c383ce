"""What a daemon does beside training: ``configs/daemon/night.yaml``, then the environment."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from jobs.config.config import ConfigModel
from jobs.config.config_file import shown
from jobs.config.validation import validated
from jobs.config.yaml12 import YAMLError, load_yaml, parse_yaml
from jobs.errors import ConfigError
from jobs.paths import Workspace

Program = Literal["ollama", "lmstudio"]


class Rest(ConfigModel):
    """A rest for the machine: a checkpoint, the end of the child, and a pause.

    Attributes:
        after_minutes: of a child's life, after which it is asked to write a checkpoint and to end.
        minutes: how long nothing runs then; the same job goes on afterwards.
    """

    after_minutes: float = Field(gt=0, le=24 * 60)
    minutes: float = Field(ge=0, le=24 * 60)


class NightSettings(ConfigModel):
    """The settings of a daemon's machine that no job carries.

    Attributes:
        on_event: the words of a command that is given each event as JSON on its standard input.
        display: ``sleep``: a Mac's display is put to sleep when a job starts.
        gpu_watchdog: ``relaxed``: Metal's time-out for a command buffer is made longer in children.
        rest: None: children run for as long as their jobs do.
        unload: programs that are asked to let go of their models before a job starts.
        battery_floor: percent of charge below which jobs wait on battery power; None: never.
    """

    on_event: tuple[str, ...] | None = None
    display: Literal["leave", "sleep"] = "leave"
    gpu_watchdog: Literal["default", "relaxed"] = "default"
    rest: Rest | None = None
    unload: tuple[Program, ...] = ()
    battery_floor: int | None = Field(None, ge=1, le=99)

    @field_validator("on_event", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        """Take one line apart as a shell would, without a shell."""
        if not isinstance(value, str):
            return tuple(value) if isinstance(value, list) else value
        try:
            return tuple(shlex.split(value)) or None
        except ValueError as error:
            raise ValueError(f"on_event: {error} in {value!r}") from error

    @field_validator("rest", mode="before")
    @classmethod
    def _both_lengths(cls, value: Any) -> Any:
        if value is None or isinstance(value, dict | Rest):
            return value
        raise ValueError("rest: expected {after_minutes: 60, minutes: 2}, or null")

    @field_validator("unload", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        if isinstance(value, str):
            return (value,)
        return tuple(value) if isinstance(value, list) else value

    @classmethod
    def of(cls, workspace: Workspace, environment: Mapping[str, str] = os.environ) -> NightSettings:
        """Return the settings of a workspace's file, changed by ``FARENSE_*`` variables.

        Raises:
            ConfigError: the file cannot be read, or one of its values, or of the variables', is not
                allowed.
        """
        path = workspace.night_settings
        values = _of_file(path) if path.exists() else {}
        source = path.relative_to(workspace.root).as_posix()
        found = validated(cls, values, source)
        given = {name: _of_variable(environment, name) for name in cls.model_fields}
        changes = {name: value for name, value in given.items() if value is not UNSET}
        if not changes:
            return found
        names = ", ".join(variable(name) for name in changes)
        return validated(cls, {**found.model_dump(), **changes}, names)


UNSET = object()


def variable(name: str) -> str:
    """Return the name of the environment variable that stands for a setting."""
    return f"FARENSE_{name.upper()}"


def _of_file(path: Path) -> dict[str, Any]:
    loaded = load_yaml(path)
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected settings as `key: value`, found {shown(loaded)}.")
    return loaded


def _of_variable(environment: Mapping[str, str], name: str) -> Any:
    text = environment.get(variable(name), "").strip()
    if not text:
        return UNSET
    if name == "on_event":  # a command is no YAML: `notify: it` would be a group
        return text
    try:
        return parse_yaml(text)
    except YAMLError as error:
        raise ConfigError(f"{variable(name)}={text}: is not a valid YAML value.") from error
