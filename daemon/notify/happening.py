"""What happened, as the daemon puts it down for the process that sends: one small file each.

A daemon has nothing else to do with it: what to say of it, to whom and when, the other process
decides. So this loads next to nothing.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from daemon.notify.paths import NotifyFolder
from daemon.runs.private_folder import PRIVATE
from jobs.paths import JOB_ID
from jobs.state import now
from jobs.storage.files import plain, read_json, write_json
from jobs.storage.values import well_typed

# Of a text that goes down a pipe with the rest, in one piece.
LONGEST_TEXT = 300


class What(StrEnum):
    """What happened."""

    JOB_ENDED = "job_ended"
    SWEEP_ENDED = "sweep_ended"
    QUEUE_EMPTY = "queue_empty"
    HELD = "held"
    DAEMON_GONE = "daemon_gone"
    WINDOW_ENDED = "window_ended"


@dataclass(frozen=True)
class Happening:
    """Something that happened.

    Attributes:
        at: when, ISO 8601 in UTC.
        subject: the id of the job or sweep; None where it is about none.
        detail: what else is known of it, as JSON has it.
        id: tells it apart, in the order in which things happened.
    """

    what: What
    subject: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    at: str = field(default_factory=now)
    id: str = field(default_factory=lambda: f"{time.time_ns():020}-{secrets.token_hex(4)}")

    def line(self) -> bytes:
        """Return it as one line of JSON."""
        return orjson.dumps(plain(asdict(self)))


def put_down(folder: NotifyFolder, happening: Happening) -> None:
    """Write down what happened.

    Raises:
        WorkspaceError: the folder cannot be written, or the disk is full.
        OSError: the folder cannot be made.
    """
    folder.happened.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    write_json(folder.happened / f"{happening.id}.json", asdict(happening))


def put_down_ids(folder: NotifyFolder) -> list[Path]:
    """Return the files of what happened and was not taken up yet, in order."""
    with suppress(OSError):
        return sorted(p for p in folder.happened.iterdir() if p.suffix == ".json")
    return []


def happenings(paths: list[Path]) -> Iterator[tuple[Path, Happening | None]]:
    """Yield what stands in files; None of one that cannot be made sense of."""
    for path in paths:
        try:
            yield path, happening_from(read_json(path))
        except FileNotFoundError:
            continue
        except OSError:  # for now
            continue
        except ValueError:
            yield path, None


def happening_from(values: Any) -> Happening:
    """Return what JSON holds.

    Raises:
        ValueError: it holds something else.
    """
    try:
        found = Happening(**{**values, "what": What(values["what"])})
    except (TypeError, KeyError) as error:
        raise ValueError("not what happened") from error
    if not well_typed(found) or not found.id.replace("-", "").isalnum():
        raise ValueError("not what happened")
    if found.subject is not None and not JOB_ID.fullmatch(found.subject):
        raise ValueError("no id of a job or sweep")
    return found


def held_class(reason: str) -> str:
    """Return what reasons to hold jobs have in common that differ in their figures alone."""
    return re.split(r"[:\d(]", reason, maxsplit=1)[0].strip()


def shortened(text: str, most: int = LONGEST_TEXT) -> str:
    """Return a text, cut where it is too long for a small file or a lock screen."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 3].rstrip()}..."
