"""Config files: where they are, what they say, and the preset that they change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import Repr
from typing import Any

from jobs.config.yaml12 import YAMLError, load_yaml, parse_yaml
from jobs.errors import ConfigError
from jobs.suggest import did_you_mean

SHORT = Repr()
SHORT.maxstring = SHORT.maxother = 200

EXPLANATIONS = ("description", "why")
# The preset that a file changes.
BASE = "preset"
ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True)
class ConfigFile:
    """What a config file says, with all that it has from the presets below it.

    Attributes:
        settings: nested, as yet unchecked.
        explanations: ``description`` and ``why``.
        made_from: the preset that it changes, as it names it, then the one that this one changes.
    """

    settings: dict[str, Any]
    explanations: dict[str, Any]
    made_from: tuple[str, ...] = ()


def find_file(name: str, folders: tuple[Path, ...], beside: Path = Path()) -> Path:
    """Return the file of a preset, or the config file of a path.

    Args:
        name: a path ends in ``.yaml`` or ``.yml``.
        folders: where presets are looked for, first match wins.
        beside: what a path is relative to.

    Raises:
        ConfigError: there is none; the nearest is suggested.
    """
    if name.endswith(ENDINGS):
        path = beside / Path(name).expanduser()
        if _is_file(path):
            return path
        raise ConfigError(f"There is no config file {path}.", _meant(path) or "Check the path.")
    for folder in folders:
        path = folder / f"{name}.yaml"
        if Path(name).name == name and _is_file(path):
            return path
    known = preset_names(folders)
    hint = (
        did_you_mean(name, known),
        f"Presets: {', '.join(known) or 'none'}.",
        "A config file is given by its path, ending in .yaml.",
    )
    raise ConfigError(f"There is no preset {name!r}.", " ".join(filter(None, hint)))


def preset_names(folders: tuple[Path, ...]) -> list[str]:
    """Return the names of the presets in ``folders``."""
    return sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})


def read_config_file(
    path: Path, folders: tuple[Path, ...], above: tuple[Path, ...] = ()
) -> ConfigFile:
    """Return what a config file says; ``preset: v2`` in it stands for all that v2 says.

    A path after ``preset:`` is relative to the file that holds it.

    Args:
        above: the files that build on this one.

    Raises:
        ConfigError: it cannot be read, holds no settings, or its preset is none or builds on it.
    """
    loaded = load_yaml(path)
    if not isinstance(loaded, dict):
        raise ConfigError(
            f"{path}: expected settings as `key: value` lines, found {shown(loaded)}."
        )
    explanations = {key: loaded.pop(key) for key in EXPLANATIONS if key in loaded}
    if BASE not in loaded:
        return ConfigFile(loaded, explanations)
    named = loaded.pop(BASE)
    if not isinstance(named, str) or not named:
        raise ConfigError(
            f"{path}: {BASE}: expected a preset or the path of a config file, found {shown(named)}."
        )
    try:
        below = find_file(named, folders, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {BASE}: {error.message}", error.hint) from error
    chain = [*above, path, below]
    if below.resolve() in [file.resolve() for file in chain[:-1]]:
        raise ConfigError(
            f"{path}: {BASE}: {named} builds on itself: {' -> '.join(map(str, chain))}.",
            f"One of them has to stand without `{BASE}:`.",
        )
    base = read_config_file(below, folders, (*above, path))
    return ConfigFile(
        merged(base.settings, loaded),
        _explained(base, loaded, {"description": f"{named} with changes", **explanations}),
        (named, *base.made_from),
    )


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings with some of them changed; lists are replaced as a whole."""
    values = dict(base)
    for key, value in changes.items():
        inner = values.get(key)
        if isinstance(inner, dict) and isinstance(value, dict):
            values[key] = merged(inner, value)
        else:
            values[key] = value
    return values


def apply_override(settings: dict[str, Any], override: str) -> None:
    """Change one of nested settings, in place, as ``--set`` says it: ``lora.rank=4``.

    Raises:
        ConfigError: it is no ``key=value``, or its key goes through a single value.
    """
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ConfigError(
            f"--set {override}: expected key=value.", "For example: --set learning_rate=1e-4"
        )
    try:
        value = parse_yaml(text)
    except YAMLError as error:
        raise ConfigError(f"--set {override}: {text!r} is not a valid YAML value.") from error
    *parents, last = key.strip().split(".")
    target = settings
    for parent in parents:
        child = target.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {parent!r} is a single value, not a group.")
        target = child
    target[last] = value


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one dictionary with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def shown(value: Any) -> str:
    """Return a value as a person recognizes it: its beginning, where it is long or nested."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    try:
        return SHORT.repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a very long number"


def _explained(
    base: ConfigFile, changes: dict[str, Any], explanations: dict[str, Any]
) -> dict[str, Any]:
    """Return the explanations of a file, with the reasons of its preset that still hold."""
    reasons, own = base.explanations.get("why", {}), explanations.get("why", {})
    if not isinstance(reasons, dict) or not isinstance(own, dict):
        return explanations
    changed = flatten(changes)
    kept = {key: reason for key, reason in reasons.items() if key not in changed}
    return {**explanations, "why": {**kept, **own}}


def _meant(path: Path) -> str:
    """Return the question whether another config file beside the one that is missing is meant."""
    try:
        beside = [file.name for file in path.parent.iterdir() if file.name.endswith(ENDINGS)]
    except OSError:
        return ""
    return did_you_mean(path.name, sorted(beside))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than any file's, or a folder that is closed to us
        return False
