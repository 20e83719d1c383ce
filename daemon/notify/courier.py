"""``python -P -m daemon.notify.courier``: carries one message to one address, and ends.

The one process that loads apprise. It reads what to carry from its standard input (an address in an
argument would be for all to see) and answers on its standard output, in words of our own: apprise
and the libraries below it write addresses into their logs, so what they say is heard here alone.

It removes the files of what it has sent itself: a matter is not sent again because the process that
started this one was killed meanwhile.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import orjson

# Of a delivery, whatever it does; whoever started it kills it a little later.
SECONDS = 45
COMMAND_SECONDS = 30
# Of a connection, and of an answer: apprise's own limits are 4 s each, too short for a slow line.
SOCKET_SECONDS = 10
STATUS = re.compile(r"\berror\s*=\s*(\d{3})\b")
UNREACHED = re.compile(r"connection|timed? ?out|resolve|unreachable|socket", re.IGNORECASE)
# What a command that is told of an event need not know.
WITHHELD = ("FARENSE_NOTIFY", "FARENSE_REDIS_URL")


def main() -> int:
    """Do what the question on standard input asks; answer in JSON on standard output."""
    signal.alarm(SECONDS)
    answer_to = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123 - no path to be worked with
        for stream in (0, 1, 2):
            if stream:
                os.dup2(nothing.fileno(), stream)
        question = orjson.loads(sys.stdin.buffer.read())
        try:
            answer = _answer(question)
        except Exception as error:
            # Its words may hold the address.
            answer = {"ok": False, "why": f"{type(error).__name__} in the library that sends"}
    answer_to.write(orjson.dumps(answer))
    answer_to.close()
    if answer.get("late") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # what the command has started, and this process
    return 0


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    if question["do"] == "check":
        return _check(question["address"])
    answer = _run(question) if question["do"] == "run" else _send(question)
    if answer["ok"]:
        for path in question["done"]:
            with suppress(OSError):
                Path(path).unlink(missing_ok=True)
    return answer


def _service(address: str) -> Any:
    """Return the service that an address leads to; None where apprise knows none."""
    from apprise import Apprise, AppriseAsset  # noqa: PLC0415 - only here, and only where needed

    asset = AppriseAsset(
        app_id="farense",
        app_desc="farense",
        app_url="",
        # No picture of another host in what is sent.
        image_url_mask="",
        image_url_logo="",
        async_mode=False,
        service_timeout=0,  # this process has a limit of its own
        secure_logging=True,
    )
    return Apprise.instantiate(address, asset=asset)


def _check(address: str) -> dict[str, Any]:
    """Tell whether apprise can send to an address, and what its service is called."""
    from apprise.apprise import N_MGR  # noqa: PLC0415 - only here, and only where needed

    with _heard():
        service, services = _service(address), cast(Any, N_MGR)
        known = address.partition("://")[0].lower() in services
        near = [] if known else sorted(map(str, services.schemas()))
    if service is None:
        return {"ok": False, "known": known, "schemes": near}
    return {"ok": True, "service": str(service.service_name)}


def _send(question: dict[str, Any]) -> dict[str, Any]:
    from apprise import Apprise, NotifyFormat, NotifyType  # noqa: PLC0415 - likewise

    with _heard() as said:
        service = _service(question["address"])
        if service is None:
            return {"ok": False, "why": "it is not an address that can be sent to", "never": True}
        for limit in ("socket_connect_timeout", "socket_read_timeout"):
            setattr(service, limit, max(SOCKET_SECONDS, getattr(service, limit)))
        # Said to be text: mail and others make HTML of it, where a name is no markup.
        sent = Apprise(service, asset=service.asset).notify(
            title=question["title"],
            body=question["body"],
            notify_type=NotifyType(question["type"]),
            body_format=NotifyFormat.TEXT,
        )
    return {"ok": True} if sent else {"ok": False, "why": _why(said)}


def _why(said: list[str]) -> str:
    """Return why it was not sent, of what apprise has logged no more than a number."""
    text = "\n".join(said)
    if found := STATUS.search(text):
        return f"the service answered {found[1]}"
    if UNREACHED.search(text):
        return "the service could not be reached, or did not answer in time"
    return "the service did not take it"


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Provide what libraries log meanwhile, in a list and nowhere else."""
    said: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with suppress(Exception):
                said.append(record.getMessage()[:500])

    root, ear = logging.getLogger(), Ear(logging.WARNING)
    before = root.handlers[:]
    root.handlers[:] = [ear]
    try:
        yield said
    finally:
        root.handlers[:] = before


def _run(question: dict[str, Any]) -> dict[str, Any]:
    """Run a command with the event on its standard input."""
    environment = {name: value for name, value in os.environ.items() if name not in WITHHELD}
    try:
        with Path(question["output"]).open("wb") as output:
            done = subprocess.run(
                question["command"],
                input=orjson.dumps(question["event"], option=orjson.OPT_APPEND_NEWLINE),
                stdout=output,
                stderr=output,
                cwd=question["folder"],
                env=environment,
                timeout=COMMAND_SECONDS,
                check=False,
            )
    except subprocess.TimeoutExpired:
        return {"ok": False, "why": f"it had not ended after {COMMAND_SECONDS} s", "late": True}
    except OSError as error:
        return {"ok": False, "why": f"it cannot be started: {error.strerror}"}
    if done.returncode:
        return {"ok": False, "why": f"it ended with code {done.returncode}"}
    return {"ok": True}


if __name__ == "__main__":
    sys.exit(main())
