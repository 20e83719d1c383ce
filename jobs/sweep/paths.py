"""Every path of a sweep. Loads nothing: a daemon looks at them without knowing what a sweep is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jobs.paths import Workspace


@dataclass(frozen=True)
class SweepFolder:
    """The folder of a sweep."""

    path: Path

    @property
    def id(self) -> str:
        """The id of the sweep."""
        return self.path.name

    @property
    def workspace(self) -> Workspace:
        """The workspace it is in."""
        return Workspace(self.path.parent.parent.parent)

    @property
    def spec(self) -> Path:
        """What was ordered."""
        return self.path / "sweep.json"

    @property
    def state(self) -> Path:
        """Where it stands."""
        return self.path / "state.json"

    @property
    def trials(self) -> Path:
        """A file for each trial."""
        return self.path / "trials"

    @property
    def study(self) -> Path:
        """The sampler's database."""
        return self.path / "study.db"

    @property
    def lock(self) -> Path:
        """Held (flock) by the one process that coordinates."""
        return self.path / "coordinator.lock"

    @property
    def stderr(self) -> Path:
        """What that process said beside the daemon's log."""
        return self.path / "coordinator.stderr"

    @property
    def report(self) -> Path:
        """The page about it, where one was made."""
        return self.path / "report.html"

    @property
    def plots(self) -> Path:
        """The pictures in that page."""
        return self.path / "plots"

    def trial(self, number: int) -> Path:
        """Return the file of a trial."""
        return self.trials / f"{number:04}.json"


def sweeps_of(workspace: Workspace) -> Path:
    """Return the folder of a workspace's sweeps."""
    return workspace.runs / "sweeps"
