"""What launchd and systemd have in common: one service for each workspace."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from daemon.host import run_tool
from daemon.settings import Settings
from jobs.errors import InvalidInput, WorkspaceError
from jobs.paths import Workspace
from jobs.storage.files import explain, write_atomic

COMMAND = (sys.executable, "-P", "-m", "daemon")
# The settings of the shell that installs the service; a service has another environment.
KEPT = (
    "FARENSE_REDIS_URL",
    "FARENSE_QUEUE",
    "FARENSE_BACKEND",
    "FARENSE_LEASE_SECONDS",
    "FARENSE_GRACE_SECONDS",
    "FARENSE_WINDOW",
    "FARENSE_ON_MAINS_ONLY",
    "FARENSE_NOTIFY",
    "FARENSE_NOTIFY_ON",
    "FARENSE_ON_EVENT",
    "FARENSE_UI",
)
# Beyond the grace period of a child: the daemon writes down how its job stands (30 s), stops the
# queue's server, exits. Only then may the system kill it.
STOP_MARGIN = 45
# Between two starts of a daemon that ends with an error.
RESTART_SECONDS = 30
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
Command = tuple[str, ...]


@dataclass(frozen=True)
class ServiceChange:
    """What became of an installation or a removal.

    Attributes:
        replaced: there was a service of this workspace before.
        failure: why the system's own tool did not do its part; None where it did.
    """

    replaced: bool
    failure: str | None


class Service(ABC):
    """The service of one workspace.

    Attributes:
        load: what starts it, now and at every login.
        unload: what ends that.
    """

    tool: str
    load: tuple[Command, ...]
    unload: tuple[Command, ...]
    after_removal: tuple[Command, ...] = ()

    def __init__(self, workspace: Workspace, home: Path | None = None) -> None:
        self.workspace = workspace
        self.home = home or Path.home()
        digest = hashlib.sha256(os.fsencode(workspace.root)).hexdigest()[:8]
        self.name = f"farense-{digest}"

    @property
    @abstractmethod
    def path(self) -> Path:
        """Where the system looks for the file."""

    @property
    def load_line(self) -> str:
        """What a person types to start it."""
        return " && ".join(shlex.join(command) for command in self.load)

    @property
    @abstractmethod
    def advice(self) -> str | None:
        """What the user should know or do besides; None where that is nothing."""

    @abstractmethod
    def render(self, variables: Mapping[str, str], stop_seconds: int) -> bytes:
        """Return the file's content for checked variables."""

    @abstractmethod
    def parse(self, content: bytes) -> tuple[str, str]:
        """Return the program that a file of this kind starts, and its workspace.

        Raises:
            ValueError: it was not made by :meth:`render`.
        """

    def content(self, environment: Mapping[str, str]) -> bytes:
        """Return the file for the settings in ``environment``.

        Raises:
            ConfigError: a ``FARENSE_*`` variable has a value that is not allowed.
            InvalidInput: a path or a setting holds what neither kind of file can.
        """
        from daemon.night.settings import NightSettings, variable  # noqa: PLC0415 - loads pydantic

        grace = Settings.from_environment(environment).grace_seconds
        NightSettings.of(self.workspace, environment)  # complains before the night
        names = (*KEPT, *map(variable, NightSettings.model_fields))
        found = {name: environment.get(name, "").strip() for name in names}
        variables = {"FARENSE_HOME": str(self.workspace.root)}
        variables |= {name: value for name, value in found.items() if value}
        _check({"The path of Python": COMMAND[0], **variables})
        return self.render(variables, round(grace) + STOP_MARGIN)

    def install(self, environment: Mapping[str, str] = os.environ) -> ServiceChange:
        """Write the file and start the service; one that is there is stopped and replaced.

        Raises:
            FarenseError: as :meth:`content`; or the file cannot be written.
        """
        content = self.content(environment)
        try:
            self.workspace.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain(error, self.workspace.logs) from error
        replaced = self.path.exists()
        failure = self.stop() if replaced else None
        try:
            write_atomic(self.path, content)  # mode 0600: the Redis URL may hold a password
        except WorkspaceError as error:
            hint = "Make it writable for you; `farense daemon install --print` shows the file."
            raise WorkspaceError(error.message, hint) from error
        return ServiceChange(replaced, failure or self._run_all(self.load))

    def uninstall(self) -> ServiceChange:
        """Stop the service and remove its file.

        Raises:
            WorkspaceError: the file cannot be removed.
        """
        if not self.path.exists():
            return ServiceChange(replaced=False, failure=None)
        failure = self.stop()
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise WorkspaceError(f"{self.path} cannot be removed: {error.strerror}.") from error
        return ServiceChange(True, failure or self._run_all(self.after_removal))

    def stop(self) -> str | None:
        """End the service, waiting for its last checkpoint; return why that failed, or None."""
        return self._run_all(self.unload)

    def _run_all(self, commands: tuple[Command, ...]) -> str | None:
        return next((failure for command in commands if (failure := self.run(command))), None)

    def run(self, command: Command) -> str | None:
        """Run a command of the system's tool; return why it failed, or None."""
        if shutil.which(self.tool) is None:
            return f"{self.tool} is not on the PATH"
        done = run_tool(command, seconds=None)  # a running job writes its last checkpoint
        said = " ".join((done.stderr or done.stdout).split())
        if done.returncode == 0:
            return None
        return f"`{shlex.join(command)}` failed: {said or f'exit code {done.returncode}'}"


def _check(values: Mapping[str, str]) -> None:
    """Refuse what neither XML nor a unit file can hold.

    Raises:
        InvalidInput: a value has a control character, or bytes that are not UTF-8.
    """
    for name, value in values.items():
        try:
            value.encode()
            fits = CONTROL.search(value) is None
        except UnicodeEncodeError:
            fits = False
        if not fits:
            # The value itself is not shown: it may hold a password.
            raise InvalidInput(
                f"{name} holds a control character, or is not UTF-8: no service can be made of it.",
                "Give the folder a plain name." if name != "FARENSE_REDIS_URL" else None,
            )
