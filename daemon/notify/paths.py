"""Where notifications are kept: in the workspace's private folder, for the user alone.

Loads nothing: a daemon looks there, and at each end of a job, without knowing what is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jobs.paths import Workspace


@dataclass(frozen=True)
class NotifyFolder:
    """``.farense/notify/``."""

    path: Path

    @classmethod
    def of(cls, workspace: Workspace) -> NotifyFolder:
        """Return the folder of a workspace."""
        return cls(workspace.private / "notify")

    @property
    def addresses(self) -> Path:
        """The addresses that were added, with all that is secret in them."""
        return self.path / "addresses.json"

    @property
    def happened(self) -> Path:
        """What the daemon has put down and the sender has not taken up yet, a file each."""
        return self.path / "happened"

    @property
    def outbox(self) -> Path:
        """What waits to be sent: a folder for each address, a file for each matter."""
        return self.path / "outbox"

    @property
    def standing(self) -> Path:
        """When what was last sent, and whether the daemon has taken its leave."""
        return self.path / "standing.json"

    @property
    def left(self) -> Path:
        """The pid of a daemon that took its leave, where its sender may have been killed first."""
        return self.path / "left"

    @property
    def lock(self) -> Path:
        """Held (flock) by the one process that sends, and by what it has started."""
        return self.path / "sender.lock"

    @property
    def stderr(self) -> Path:
        """What that process said itself."""
        return self.path / "sender.stderr"

    @property
    def command_output(self) -> Path:
        """What the last ``on_event`` command said."""
        return self.path / "on_event.output"
