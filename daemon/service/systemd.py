"""The daemon as a unit of the user's systemd, on Linux."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from daemon.service.base import COMMAND, RESTART_SECONDS, Service
from jobs.paths import Workspace

WORD = r'"((?:[^"\\]|\\.)*)"'
PROGRAM = re.compile(rf"^ExecStart=:/usr/bin/env {WORD}", re.MULTILINE)
WORKSPACE = re.compile(r'^Environment="FARENSE_HOME=((?:[^"\\]|\\.)*)"$', re.MULTILINE)
ESCAPED = re.compile(r"\\(.)|%(%)")


class SystemdUnit(Service):
    """A unit of the user's systemd: it runs while its user is logged in, or always if lingering."""

    tool = "systemctl"

    def __init__(self, workspace: Workspace, home: Path | None = None) -> None:
        super().__init__(workspace, home)
        user, unit = ("systemctl", "--user"), self.path.name
        self.load = ((*user, "daemon-reload"), (*user, "enable", "--now", unit))
        self.unload = ((*user, "disable", "--now", unit),)
        self.after_removal = ((*user, "daemon-reload"),)

    @property
    def path(self) -> Path:
        """Where the user's systemd looks for the file."""
        return self.home / ".config" / "systemd" / "user" / f"{self.name}.service"

    @property
    def advice(self) -> str | None:
        """How the daemon runs while nobody is logged in."""
        return "It runs while you are logged in. To let it run on its own: loginctl enable-linger"

    def render(self, variables: Mapping[str, str], stop_seconds: int) -> bytes:
        """Return the unit.

        ``KillMode=process``: only the daemon gets SIGTERM. It asks its child for a checkpoint, and
        needs the queue's server until its end; where it is killed, the child sees that and writes
        its checkpoint, and the next daemon finds the server running. ``OOMPolicy=continue``: a
        child that the kernel kills for its memory is the daemon's to deal with. The colon before
        the command keeps systemd from replacing what looks like a variable in a path; ``env`` is
        there because systemd takes no executable with a quote or a backslash in its name.
        """
        values = [f"Environment={_quoted(f'{name}={value}')}" for name, value in variables.items()]
        lines = [
            "[Unit]",
            f"Description=farense daemon ({self.workspace.root})".replace("%", "%%"),
            "",
            "[Service]",
            "Type=exec",
            f"ExecStart=:/usr/bin/env {' '.join(_quoted(word) for word in COMMAND)}",
            *values,
            "Restart=on-failure",
            f"RestartSec={RESTART_SECONDS}",
            # Settings that are not allowed do not mend themselves.
            "RestartPreventExitStatus=2",
            "KillMode=process",
            f"TimeoutStopSec={stop_seconds}",
            "OOMPolicy=continue",
            "",
            "[Install]",
            "WantedBy=default.target",
        ]
        return ("\n".join(lines) + "\n").encode()

    def parse(self, content: bytes) -> tuple[str, str]:
        """Return the program and the workspace of a unit; raises as :meth:`Service.parse`."""
        text = content.decode(errors="replace")
        found = [PROGRAM.search(text), WORKSPACE.search(text)]
        program, home = (_unquoted(match[1]) if match else None for match in found)
        if program is None or home is None:
            raise ValueError("no service of farense")
        return program, home


def _quoted(text: str) -> str:
    """Return ``text`` as one word of a unit file, which it stays whatever it holds."""
    for special, escaped in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%")):
        text = text.replace(special, escaped)
    return f'"{text}"'


def _unquoted(text: str) -> str:
    """Return what :func:`_quoted` was given, from what is between the quotes."""
    return ESCAPED.sub(lambda match: match[1] or match[2], text)
