"""The page beside a daemon: a process of its own, which comes back and ends with the daemon.

Nothing of the page is loaded into the daemon: it holds a pipe, and waits for a process.
"""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Self

import structlog

from daemon import piped
from daemon.joblog import last_lines
from daemon.page.address import LOOPBACK
from jobs.errors import ConfigError, ExitCode
from jobs.paths import Workspace
from jobs.storage.files import explain

log = structlog.get_logger(__name__)

FIRST_DELAY, LONGEST_DELAY = 1.0, 60.0
STOP_SECONDS = 5.0
# By which a daemon that the system starts serves the page.
VARIABLE = "FARENSE_UI"
ON, OFF = ("1", "yes", "true", "on"), ("", "0", "no", "false", "off")


def page_of_environment(
    workspace: Workspace,
    say: Callable[[str], object] = lambda line: None,
    environment: Mapping[str, str] = os.environ,
) -> AbstractContextManager[object]:
    """Return what serves the page where ``FARENSE_UI`` says so: ``on``, or an address.

    Raises:
        ConfigError: it says something else.
    """
    text = environment.get(VARIABLE, "").strip()
    if text.lower() in OFF:
        return nullcontext()
    if text.lower() in ON:
        return PageBeside(workspace, say=say)
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ConfigError(
            f"{VARIABLE}={text}: expected on, off or an address of this machine.",
            "For this machine alone: on. For your network, too: 0.0.0.0",
        ) from None
    return PageBeside(workspace, text, say=say)


class PageBeside:
    """Within it the page is served; a server that is killed is started again.

    Args:
        port: None for the first of a few that is free.
        say: is given a line for a person where the page cannot be served at all.
    """

    def __init__(
        self,
        workspace: Workspace,
        host: str = LOOPBACK,
        port: int | None = None,
        say: Callable[[str], object] = lambda line: None,
    ) -> None:
        self._workspace, self._say = workspace, say
        chosen = () if port is None else ("--port", str(port))
        module = (sys.executable, "-P", "-m", "daemon.page")
        self._command = [*module, "--host", host, *chosen]
        self._over = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="page", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        if (process := self._process) is not None:
            process.terminate()
        self._thread.join(STOP_SECONDS)
        if (process := self._process) is not None and process.poll() is None:
            process.kill()

    def _keep(self) -> None:
        delay = FIRST_DELAY
        while not self._over.is_set():
            code, said = self._run()
            if self._over.is_set():
                return
            if code == ExitCode.INVALID:
                # A port that is taken, an address that is not ours: so it would be again.
                self._say(f"The page to watch is not served: {said}")
                return
            log.warning("page_lost", code=code, reason=said, retry_in=delay)
            self._over.wait(delay)
            delay = min(2 * delay, LONGEST_DELAY)

    def _run(self) -> tuple[int, str]:
        """Serve the page once; return how that ended, and the last words of the server."""
        path = self._workspace.logs / "page.stderr"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as output:
                started = piped.start(self._command, self._workspace, os.environ, output)
        except OSError as error:
            return ExitCode.FAILED, explain(error, path).message
        self._process = started.process
        try:
            if self._over.is_set():
                started.process.terminate()
            return started.process.wait(), last_lines(path)
        finally:
            os.close(started.pipe)
