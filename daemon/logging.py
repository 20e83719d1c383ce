"""The daemon's log: one JSON object a line in ``logs/daemon.jsonl``, rotated by size.

Everything goes there: our own events (structlog) and what libraries say through Python's logging.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import orjson
import structlog
from redis.exceptions import RedisError

from jobs.errors import FarenseError
from jobs.paths import Workspace
from jobs.storage.files import append, explain, plain

MAX_BYTES = 5_000_000
# The key that marks lines of other processes: they say nothing of whether the daemon lives.
BESIDE = "beside"
KEPT = 3


def configure_logging(workspace: Workspace, level: int = logging.INFO) -> None:
    """Send the log of this process to the workspace's daemon log.

    Raises:
        WorkspaceError: the log cannot be written.
    """
    log_to(workspace.daemon_log, level)


def log_to(path: Path, level: int) -> None:
    """Send the log of this process to a file that no other process writes.

    Raises:
        WorkspaceError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(path, maxBytes=MAX_BYTES, backupCount=KEPT, encoding="utf-8")
    except OSError as error:
        raise explain(error, path) from error
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                _without_known_traceback,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(serializer=to_json),
            ],
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Huey tells of every step of every task; what matters of it is said by the worker.
    logging.getLogger("huey").setLevel(logging.WARNING)


def add_line(path: Path, event: str, logger: str, level: str, values: Mapping[str, Any]) -> None:
    """Add a line to the daemon's log from another process; where that fails, it is left out.

    The file is opened for this line alone: the daemon may give it another name at any time.
    """
    moment = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    said = {**values, "event": event, "level": level, "logger": logger, "time": moment}
    line = to_json({**said, BESIDE: True})
    with suppress(OSError, FarenseError):
        path.parent.mkdir(parents=True, exist_ok=True)
        append(path, line.encode())


def to_json(event: MutableMapping[str, Any], **_: Any) -> str:
    """Return an event as a line of JSON, whatever it holds: logging never raises.

    orjson refuses integers over 64 bits and halves of surrogate pairs; Python's own json does not.
    """
    try:
        return orjson.dumps(plain(event), default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError):
        return json.dumps(plain(event), default=repr, skipkeys=True)


def _without_known_traceback(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Put an error of the connection in one line: while Redis is away, Huey logs many."""
    found = event.get("exc_info")
    error = found[1] if isinstance(found, tuple) else found
    if isinstance(error, RedisError | OSError):
        event["error"] = f"{type(error).__name__}: {error}"
        del event["exc_info"]
    return event
