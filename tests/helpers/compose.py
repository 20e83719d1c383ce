"""What docker-compose.yml starts, without Docker: its own command, between stand-ins."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from jobs.config.yaml12 import parse_yaml
from jobs.paths import REPOSITORY
from tests.helpers.waiting import wait_until

FILE = REPOSITORY / "docker-compose.yml"
VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<text>[^}]*))?\}")


class Unset(Exception):
    """A variable that the file demands is not set; the text is what the file says about it."""


def substituted(text: str, variables: dict[str, str]) -> str:
    """Return ``text`` as compose reads it: `$$`, `${X}`, `${X:-default}` and `${X:?message}`.

    Raises:
        Unset: a variable with a message is unset or empty.
    """

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        given = variables.get(found["name"], "")
        if given or found["kind"] is None:
            return given
        if found["kind"] == "?":
            raise Unset(found["text"])
        return found["text"]

    return VARIABLE.sub(value, text)


def service(variables: dict[str, str]) -> dict[str, Any]:
    """Return the one service of the file, its variables filled in.

    Raises:
        Unset: as :func:`substituted` does.
    """

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [filled(item) for item in value]
        return substituted(value, variables) if isinstance(value, str) else value

    (found,) = parse_yaml(FILE.read_text())["services"].values()
    return dict(filled(found))


class ComposeServer:
    """The server of the file, with a port, a folder and a binary of the test's own.

    Args:
        folder: takes the place of the volume, and holds the stand-ins.
        server: stands for `valkey-server`.
        options: more options of the server, among them how it listens.
        port: the one that these name; a free one where it is left out.
    """

    def __init__(
        self, folder: Path, server: Path, password: str, *options: str, port: int | None = None
    ) -> None:
        self.service = service({"FARENSE_REDIS_PASSWORD": password})
        self.password = password
        self.port = port or free_port()
        self.data = folder / "data"
        self._bin = folder / "bin"
        self._server = server
        self._options = options or ("--port", str(self.port))
        self._process: subprocess.Popen[bytes] | None = None
        self.data.mkdir(parents=True)
        self._bin.mkdir()

    @property
    def url(self) -> str:
        """What farense needs to reach it."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Run the command of the file, and wait until the server answers."""
        place = ("--bind", "127.0.0.1", "--dir", str(self.data))
        self._stand_in("docker-entrypoint.sh", f'exec "$@" {shlex.join((*self._options, *place))}')
        self._stand_in("valkey-server", f'exec {shlex.quote(str(self._server))} "$@"')
        with (self.data.parent / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.service["command"],
                env=self._environment(),
                cwd=self.data,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._listens, f"an answer of {self._server.name}")

    def kill(self) -> None:
        """Kill the server with SIGKILL, where it runs."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def healthy(self, cli: Path, **environment: str) -> bool:
        """Run the health check of the file, with ``cli`` for `valkey-cli`; tell what it says."""
        self._stand_in("valkey-cli", f'exec {shlex.quote(str(cli))} -p {self.port} "$@"')
        check = self.service["healthcheck"]["test"]  # a string is for the shell
        done = subprocess.run(
            ["sh", "-c", check],  # noqa: S607 - the one on the PATH
            env={**self._environment(), **environment},
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    def client(self, password: str | None = None) -> Redis:
        """Return a client, by default without a password."""
        return Redis(port=self.port, password=password, retry=Retry(NoBackoff(), 0))

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.data.parent / "log").read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.port)) != 0:
                return False
        if "--tls-port" in self._options:
            return True  # what listens there speaks TLS
        try:
            with self.client(self.password) as client:
                return bool(client.ping())
        except RedisError:  # it is loading
            return False

    def _environment(self) -> dict[str, str]:
        return {"PATH": f"{self._bin}:{os.defpath}", **self.service["environment"]}

    def _stand_in(self, name: str, script: str) -> None:
        path = self._bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
