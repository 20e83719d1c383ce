"""The kinds of matter that a person may want to be told of, and how they are chosen."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from jobs.errors import InvalidInput
from jobs.storage.values import printable
from jobs.suggest import did_you_mean


class NoticeKind(StrEnum):
    """A kind of matter."""

    FAILED = "failed"
    FINISHED = "finished"
    EARLY_STOPPED = "early_stopped"
    BEST = "best"
    """A training ended with the lowest loss so far on its model and validation data."""
    SWEEP = "sweep"
    QUEUE_EMPTY = "queue_empty"
    HELD = "held"
    """No job may start: a full disk, Redis away, outside the window, on battery power."""
    DAEMON_GONE = "daemon_gone"
    MORNING = "morning"
    """A window has ended: what the night has brought."""


DEFAULT = (
    NoticeKind.FAILED,
    NoticeKind.FINISHED,
    NoticeKind.EARLY_STOPPED,
    NoticeKind.SWEEP,
    NoticeKind.QUEUE_EMPTY,
    NoticeKind.HELD,
    NoticeKind.DAEMON_GONE,
)
ALL = "all"


def kinds_in(text: str) -> tuple[NoticeKind, ...]:
    """Return the kinds that a list with commas names, in the order in which they are declared.

    Args:
        text: ``failed,best``, or ``all``.

    Raises:
        InvalidInput: it names none, or one that there is not.
    """
    words = [word.strip().lower().replace("-", "_") for word in text.split(",") if word.strip()]
    known = list(map(str, NoticeKind))
    wrong = next((word for word in words if word not in (*known, ALL)), None)
    if wrong is not None or not words:
        # Not the text itself: it may be an address in the wrong place.
        shown = "an address" if "://" in text else repr(printable((wrong or text)[:40]))
        meant = did_you_mean(wrong, known) if wrong and "://" not in text else ""
        kinds = ", ".join([*known, ALL])
        raise InvalidInput(f"{shown} is no kind of message.", f"{meant} Kinds: {kinds}.".lstrip())
    return tuple(kind for kind in NoticeKind if kind in words or ALL in words)


def shown_kinds(kinds: Iterable[NoticeKind]) -> str:
    """Return kinds as a person types them."""
    chosen = tuple(kinds)
    return ALL if set(chosen) == set(NoticeKind) else ",".join(chosen)
