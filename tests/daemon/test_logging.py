"""The daemon's log takes whatever it is given, a JSON object a line."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from redis.exceptions import ConnectionError as RedisConnectionError

from daemon.logging import configure_logging, to_json
from jobs.paths import Workspace
from jobs.storage.files import whole_lines


@pytest.fixture
def log(workspace: Workspace) -> Iterator[structlog.stdlib.BoundLogger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging(workspace)
    yield structlog.get_logger("test")
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(workspace: Workspace) -> list[dict[str, object]]:
    return [json.loads(line) for line in whole_lines(workspace.daemon_log)]


def test_events_carry_time_level_and_context(
    workspace: Workspace, log: structlog.stdlib.BoundLogger
) -> None:
    with structlog.contextvars.bound_contextvars(job="x"):
        log.info("job_started", attempt=1)
    (line,) = lines(workspace)
    assert (
        line.items() >= {"event": "job_started", "job": "x", "attempt": 1, "level": "info"}.items()
    )
    assert str(line["time"]).endswith("Z")


def test_nothing_that_is_logged_raises(
    workspace: Workspace, log: structlog.stdlib.BoundLogger
) -> None:
    log.info("odd", big=2**80, half="\ud800", nan=float("nan"), key={1: object()}, path=workspace)
    log.info("after")
    odd, after = lines(workspace)
    assert odd["big"] == 2**80
    assert odd["nan"] == "NaN"
    assert after["event"] == "after"
    assert json.loads(to_json({"event": "x", "keys": {(1, 2): 3}}))["event"] == "x"


def test_a_mistake_keeps_its_traceback_and_a_lost_connection_does_not(
    workspace: Workspace, log: structlog.stdlib.BoundLogger
) -> None:
    for error in (RedisConnectionError("gone"), ZeroDivisionError("ours")):
        try:
            raise error
        except Exception:
            logging.getLogger("huey.consumer").exception("Error reading from queue")
    gone, ours = lines(workspace)
    assert gone["error"] == "ConnectionError: gone"
    assert "Traceback" not in json.dumps(gone)
    assert "ZeroDivisionError: ours" in str(ours["exception"])


def test_huey_speaks_only_of_trouble(
    workspace: Workspace, log: structlog.stdlib.BoundLogger
) -> None:
    logging.getLogger("huey").info("Executing task")
    logging.getLogger("huey").warning("worker died")
    assert [line["event"] for line in lines(workspace)] == ["worker died"]


def test_the_log_is_rotated(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.logging.MAX_BYTES", 2_000)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging(workspace)
    for number in range(200):
        structlog.get_logger("test").info("filled", number=number)
    root.handlers[0].close()
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    names = sorted(path.name for path in workspace.logs.iterdir())
    assert names == ["daemon.jsonl", *(f"daemon.jsonl.{n}" for n in (1, 2, 3))]
    assert all(path.stat().st_size <= 2_200 for path in workspace.logs.iterdir())
