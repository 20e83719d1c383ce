"""The trackers there are: their libraries, and where each keeps what it is sent."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import ConfigError
from jobs.paths import Workspace
from jobs.suggest import did_you_mean

# The project, or experiment, in which runs stand where the tracker's own variable names no other.
PROJECT = "farense"


@dataclass(frozen=True)
class Tracker:
    """A tracker.

    Attributes:
        name: as ``trackers`` in a config says it, and as its extra is called.
        modules: of its library, all of which are needed.
        shows: the command that shows what it holds, with a place for the folder.
    """

    name: str
    modules: tuple[str, ...]
    shows: str

    @property
    def installed(self) -> bool:
        """Whether its library is there; nothing of it is imported."""
        return all(importlib.util.find_spec(module) is not None for module in self.modules)


TRACKERS = {
    tracker.name: tracker
    for tracker in (
        Tracker("tensorboard", ("tensorboard",), "tensorboard --logdir {folder}"),
        Tracker("trackio", ("trackio",), "TRACKIO_DIR={folder} trackio show"),
        Tracker("wandb", ("wandb",), "wandb sync {folder}/offline-run-*"),
        Tracker(
            "mlflow",
            ("mlflow", "sqlalchemy", "alembic"),
            "mlflow ui --backend-store-uri sqlite:///{folder}/mlflow.db",
        ),
    )
}


def check_trackers(names: Iterable[str]) -> None:
    """Check that trackers are known, and their libraries installed here.

    Raises:
        ConfigError: one is not.
    """
    for name in names:
        if name not in TRACKERS:
            guess = did_you_mean(name, TRACKERS)
            raise ConfigError(
                f"{name} is no tracker that farense knows. {guess}".rstrip(),
                f"They are: {', '.join(TRACKERS)}",
            )
    missing = [name for name in names if not TRACKERS[name].installed]
    if missing:
        one = len(missing) == 1
        raise ConfigError(
            f"{', '.join(missing)} {'is' if one else 'are'} not installed here.",
            "Install the trackers: make trackers",
        )


def folder_of(workspace: Workspace, tracker: str) -> Path:
    """Return where a tracker keeps its files, unless a variable of its own leads elsewhere."""
    return workspace.logs / tracker
