"""The daemon as a service of the user's own: a launchd agent on macOS, a systemd unit on Linux.

One a workspace: its name ends in a digest of the workspace's path. A daemon that ends by itself
without an error (``farense daemon stop``) stays ended until the next login; one that crashes is
started again.
"""

from __future__ import annotations

import sys

from daemon.service.base import Service
from daemon.service.launchd import LaunchdAgent
from daemon.service.systemd import SystemdUnit
from jobs.paths import Workspace


def service_of(workspace: Workspace, platform: str = sys.platform) -> Service:
    """Return the service of a workspace, as this system has them; nothing is installed for it."""
    return LaunchdAgent(workspace) if platform == "darwin" else SystemdUnit(workspace)
