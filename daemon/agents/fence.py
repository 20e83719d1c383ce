"""What an agent may name: presets, jobs, and files of the workspace. Nothing outside it is read.

A person may name any file of theirs, and so may their presets. An agent acts on what it was told
somewhere, so whatever it names is resolved, links and ``..`` with it, and refused where it leads
out. The folder of a model may be a link, as everywhere in farense: what is in it is never returned.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from daemon.store.records import JobRecord
from jobs.config.config import Preset, load_preset
from jobs.config.config_file import BASE, ENDINGS, find_file, preset_names
from jobs.config.share import percent
from jobs.config.yaml12 import load_yaml
from jobs.errors import ConfigError, InvalidInput
from jobs.evaluation.report import ANSWERS
from jobs.paths import REPOSITORY, RunDirectory, Workspace
from jobs.suggest import did_you_mean

NAMES = "Name a preset: the tool `presets` lists them."
RUN_FILES = (
    *("job.json", "state.json", "training_metrics.jsonl", "training_metrics.json"),
    *("training_summary.json", "training_state.json", "evaluation/evaluation_report.json"),
    f"evaluation/{ANSWERS}",
)


class Fence:
    """Finds what an agent names, and refuses what lies outside the workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._presets = (workspace.configs, REPOSITORY / "configs")

    def file(self, named: str) -> Path:
        """Return a file of the workspace.

        Args:
            named: relative to it.

        Raises:
            InvalidInput: it is not there, or leads out.
        """
        path = self._inside(named)
        if not path.is_file():
            raise InvalidInput(
                f"There is no file {named!r} in the workspace.",
                "Paths are relative to the workspace: data/train.jsonl, say.",
            )
        return path

    def preset(self, name: str, settings: dict[str, Any] | None = None) -> Preset:
        """Return a preset with some settings changed, by the rules of ``--set``.

        Args:
            settings: values by their dotted names.

        Raises:
            ConfigError: there is no such preset, or a setting is not allowed.
            InvalidInput: it leads out of the workspace.
        """
        if name.endswith(ENDINGS) or "/" in name:
            raise ConfigError(f"{name!r} is not the name of a preset.", NAMES)
        if name not in (known := preset_names(self._presets)):
            meant = did_you_mean(name, known)
            raise ConfigError(f"There is no preset {name!r}.", f"{meant} {NAMES}".lstrip())
        self._check_chain(name)
        changes = tuple(f"{key}={_yaml(value)}" for key, value in (settings or {}).items())
        found = load_preset(name, self._presets, changes)
        config = found.config
        for named in (config.data.train, config.data.valid):
            if named is not None and not percent(named):
                self._inside(named)
        if "model" in (settings or {}):  # the person's own presets may name a shared folder
            self._not_from_home(config.model)
            self.workspace.model(config.model)
        if config.init_from is not None and self._is_path(config.init_from):
            self._inside(config.init_from)
        return found

    def run(self, record: JobRecord) -> RunDirectory:
        """Return the run directory of a job, all of whose files are inside.

        Raises:
            InvalidInput: one of them is a link that leads out.
        """
        run = self.workspace.run(record.id)
        for name in RUN_FILES:
            self.workspace.inside(f"{record.run_dir}/{name}")
        return run

    def _inside(self, named: str) -> Path:
        self._not_from_home(named)
        path = Path(named)
        if path.is_absolute() and path.is_relative_to(self.workspace.root):
            named = path.relative_to(self.workspace.root).as_posix()
        found = self.workspace.inside(named)
        if found.is_relative_to(self.workspace.private.resolve()):
            raise InvalidInput(
                f"{named!r} is in the private folder of the workspace.",
                "Data stand in data/, runs in checkpoints_qlora/.",
            )
        return found

    def _not_from_home(self, named: str) -> None:
        """Refuse what others would take as a path from somebody's home folder on."""
        if named.startswith("~"):
            raise InvalidInput(
                f"{named!r} leads out of the workspace {self.workspace.root}.",
                "Name a file or folder of the workspace, relative to it.",
            )

    def _is_path(self, named: str) -> bool:
        """Tell whether what ``init_from`` names is, or may be, a folder and not a job."""
        there = (self.workspace.root / named).exists()
        return there or "/" in named or named.startswith(("~", "."))

    def _check_chain(self, name: str) -> None:
        """Refuse a preset, or one below it, whose file lies elsewhere; before it is read."""
        beside, seen = Path(), set[Path]()
        named: Any = name
        while isinstance(named, str):
            path = find_file(named, self._presets, beside)
            real = path.resolve()
            if not any(real.is_relative_to(folder.resolve()) for folder in self._folders):
                raise InvalidInput(f"The preset {named!r} leads out of the workspace.", NAMES)
            if real in seen:
                return  # builds on itself: what loads it says so
            seen.add(real)
            values = load_yaml(path)
            named = values.get(BASE) if isinstance(values, dict) else None
            beside = path.parent

    @property
    def _folders(self) -> tuple[Path, ...]:
        return (self.workspace.root, REPOSITORY / "configs")


def _yaml(value: Any) -> str:
    """Return a value as YAML, of which JSON is a part."""
    return orjson.dumps(value).decode()
