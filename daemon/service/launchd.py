"""The daemon as a launchd agent, on macOS."""

from __future__ import annotations

import os
import plistlib
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from xml.parsers.expat import ExpatError

from daemon.service.base import COMMAND, RESTART_SECONDS, STOP_MARGIN, Service
from jobs.paths import Workspace

POLL_SECONDS = 0.1
NO_PLIST = (plistlib.InvalidFileException, ExpatError, ValueError)


class LaunchdAgent(Service):
    """A launchd agent: it runs while its user is logged in."""

    tool = "launchctl"

    def __init__(self, workspace: Workspace, home: Path | None = None) -> None:
        super().__init__(workspace, home)
        self.domain = f"gui/{os.getuid()}"
        self.target = f"{self.domain}/{self.name}"
        self.load = (("launchctl", "bootstrap", self.domain, str(self.path)),)
        self.unload = (("launchctl", "bootout", self.target),)

    @property
    def path(self) -> Path:
        """Where launchd looks for the file."""
        return self.home / "Library" / "LaunchAgents" / f"{self.name}.plist"

    @property
    def advice(self) -> str | None:
        """A word on the folders that macOS guards, where the workspace is in one."""
        guarded = (self.home / name for name in ("Desktop", "Documents", "Downloads"))
        if not any(self.workspace.root.is_relative_to(folder) for folder in guarded):
            return None
        return (
            f"macOS guards the folder that {self.workspace.root} is in: where it asks whether "
            "Python may use it, allow it, or the daemon cannot read its workspace."
        )

    def render(self, variables: Mapping[str, str], stop_seconds: int) -> bytes:
        """Return the property list."""
        output = str(self.workspace.logs / "daemon.stderr")
        agent = {
            "Label": self.name,
            "ProgramArguments": list(COMMAND),
            "EnvironmentVariables": dict(variables),
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": RESTART_SECONDS,
            # launchd's own 5 to 20 seconds would kill the daemon before its child's checkpoint.
            "ExitTimeOut": stop_seconds,
            # Not "Background": that is for work nobody asked for, and it holds CPU and disk back.
            "ProcessType": "Standard",
            "StandardOutPath": output,
            "StandardErrorPath": output,
        }
        return plistlib.dumps(agent, sort_keys=False)

    def parse(self, content: bytes) -> tuple[str, str]:
        """Return the program and the workspace of an agent; raises as :meth:`Service.parse`."""
        try:
            agent = plistlib.loads(content)
            return agent["ProgramArguments"][0], agent["EnvironmentVariables"]["FARENSE_HOME"]
        except (*NO_PLIST, KeyError, TypeError, IndexError) as error:
            raise ValueError("no service of farense") from error

    def stop(self) -> str | None:
        """End the agent where it is loaded, and wait until launchd has let go of its name.

        ``bootout`` may return, and may fail, while the daemon still writes its checkpoint; a
        ``bootstrap`` in that time fails with "Input/output error".
        """
        if shutil.which(self.tool) is None or not self.is_loaded():
            return None
        deadline = time.monotonic() + self._exit_timeout() + STOP_MARGIN
        failure = super().stop()
        while self.is_loaded():
            if time.monotonic() > deadline:
                return failure or f"{self.target} has not ended"
            time.sleep(POLL_SECONDS)
        return None

    def is_loaded(self) -> bool:
        """Tell whether launchd knows the agent, running or not."""
        return self.run(("launchctl", "print", self.target)) is None

    def _exit_timeout(self) -> int:
        """Return the seconds that the agent which is installed now has for its end."""
        try:
            return int(plistlib.loads(self.path.read_bytes())["ExitTimeOut"])
        except (OSError, ValueError, KeyError, TypeError, plistlib.InvalidFileException):
            return 0
