"""Deliveries: each by a courier, a process of its own that is killed where it takes too long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import orjson

from daemon.notify.addresses import SCHEME, VARIABLE
from daemon.notify.kinds import NoticeKind
from daemon.notify.matters import Notice
from daemon.notify.paths import NotifyFolder
from jobs.errors import FarenseError, InvalidInput
from jobs.paths import Workspace
from jobs.suggest import did_you_mean

# A little more than the courier gives itself.
SECONDS = 50.0
# How a service may colour a message.
TYPES: dict[str, str] = {
    NoticeKind.FAILED: "failure",
    NoticeKind.HELD: "warning",
    NoticeKind.DAEMON_GONE: "failure",
}
GOOD = (NoticeKind.FINISHED, NoticeKind.BEST, NoticeKind.SWEEP)


@dataclass(frozen=True)
class Delivered:
    """What became of a delivery.

    Attributes:
        why: it was not delivered, in words that hold nothing of the address.
        never: trying again would end the same.
    """

    ok: bool
    why: str = ""
    never: bool = False


class Delivery:
    """A courier under way."""

    def __init__(
        self, process: subprocess.Popen[bytes], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._process, self._clock = process, clock
        self._late_at = clock() + SECONDS

    @classmethod
    def start(
        cls,
        question: dict[str, Any],
        kept: Sequence[int] = (),
        program: Sequence[str] = ("-m", "daemon.notify.courier"),
    ) -> Self:
        """Start a courier with what it is to do.

        Args:
            program: the courier, as Python is given it.
            kept: descriptors that stay open in it: a lock that it holds as long as it lives.

        Raises:
            OSError: it cannot be started.
        """
        # The addresses of others are none of its business.
        environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
        process = subprocess.Popen(
            [sys.executable, "-P", *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            pass_fds=tuple(kept),
            start_new_session=True,
        )
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.write(orjson.dumps(question))
                process.stdin.close()
        return cls(process)

    def poll(self) -> Delivered | None:
        """Return what became of it; None while it goes on."""
        late, code = self._clock() > self._late_at, self._process.poll()
        if code is None and not late:
            return None
        late |= code == -signal.SIGALRM
        return _delivered(self._answer(), late=late)

    def delivered(self) -> Delivered:
        """Wait for the end; return what became of it."""
        answer = self.wait()
        return _delivered(answer, late=not answer)

    def wait(self) -> dict[str, Any]:
        """Return its answer once it has ended; empty where it gave none, or took too long."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(SECONDS)
        return self._answer()

    def kill(self) -> None:
        """End it, with what it has started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        if self._process.poll() is None:
            self.kill()
        out = self._process.stdout
        if out is None:
            return {}
        with out:
            said = out.read()
        try:
            answer = orjson.loads(said)
        except ValueError:
            return {}
        return answer if isinstance(answer, dict) else {}


def _delivered(answer: dict[str, Any], *, late: bool) -> Delivered:
    silent = "it did not end in time" if late else "it ended without a word"
    return Delivered(
        bool(answer.get("ok")),
        "" if answer.get("ok") else str(answer.get("why", silent)),
        bool(answer.get("never")),
    )


def to_address(url: str, message: Notice, done: Sequence[Path] = ()) -> dict[str, Any]:
    """Return what a courier is told to send a message.

    Args:
        done: files that it removes once the message is sent.
    """
    return {
        "do": "send",
        "address": url,
        "title": message.title,
        "body": message.body,
        "type": TYPES.get(message.kind, "success" if message.kind in GOOD else "info"),
        "done": list(map(str, done)),
    }


def to_command(
    words: Sequence[str], message: Notice, workspace: Workspace, done: Sequence[Path] = ()
) -> dict[str, Any]:
    """Return what a courier is told to run a command with the message as JSON on its input."""
    return {
        "do": "run",
        "command": list(words),
        "event": message.as_event(),
        "folder": str(workspace.root),
        "output": str(NotifyFolder.of(workspace).command_output),
        "done": list(map(str, done)),
    }


def service_of(url: str) -> str:
    """Return what the service is called that an address leads to, asking apprise.

    Raises:
        InvalidInput: it leads to none, said without the address itself.
        FarenseError: apprise could not be asked.
    """
    scheme = SCHEME.match(url)
    if scheme is None:
        raise InvalidInput(
            "That is not an address: it has no scheme.",
            "An address begins as ntfy://, tgram:// or mailto:// do; docs/night.md shows some.",
        )
    try:
        answer = Delivery.start({"do": "check", "address": url}).wait()
    except OSError as error:
        raise FarenseError(f"The address could not be checked: {error.strerror}.") from error
    if not answer:
        raise FarenseError("The address could not be checked.", "Try again.")
    if answer.get("ok"):
        return str(answer["service"])
    name = scheme[1].lower()
    if answer.get("known"):
        raise InvalidInput(
            f"apprise cannot make sense of that {name}:// address.",
            f"How one is written: https://appriseit.com/services/ ({name}).",
        )
    meant = did_you_mean(name, [str(known) for known in answer.get("schemes", [])])
    raise InvalidInput(
        f"apprise knows no service {name}://.",
        f"{meant} All of them: https://appriseit.com/services/".lstrip(),
    )
