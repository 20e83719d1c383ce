"""The daemon's settings: from the environment, or from a program that starts one."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from daemon.times import Window
from jobs.backend.choice import wanted_backend
from jobs.errors import ConfigError
from jobs.state import DEFAULT_QUEUE
from jobs.storage.values import printable

URL_SCHEMES = ("redis", "rediss", "unix")
QUEUE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
# Machines that share a Redis over a network see it go away for minutes.
SHARED_LEASE_SECONDS = 600.0


@dataclass(frozen=True)
class Settings:
    """How the queue is reached and how jobs are supervised.

    Attributes:
        redis_url: a shared Redis (``FARENSE_REDIS_URL``); None means the workspace's own server.
        queue: the queue whose jobs the daemon runs, and to which clients add (``FARENSE_QUEUE``).
        lease_seconds: how long a claim holds without renewal (``FARENSE_LEASE_SECONDS``). With a
            shared Redis, a job whose lease was not renewed for two thirds of it stops.
        grace_seconds: from SIGTERM to SIGKILL: the time a child has for its checkpoint
            (``FARENSE_GRACE_SECONDS``).
        max_attempts: attempts that may be lost (killed, crashed) before a job is given up.
        poll_seconds: how often a running job is looked at.
        window: the part of the day in which jobs run (``FARENSE_WINDOW``); None for all of it.
        on_mains_only: jobs run only on mains power (``FARENSE_ON_MAINS_ONLY``).
        reconcile_seconds: how often files, records and queue are compared even if all seems well.
        notice_seconds: how long jobs are held, or a daemon is gone, before a person is told.
        child: the command of a training child, without its arguments. No environment variable
            sets it: one that changes what code a daemon runs would be a hole.
    """

    redis_url: str | None = None
    queue: str = DEFAULT_QUEUE
    lease_seconds: float = 30.0
    grace_seconds: float = 60.0
    max_attempts: int = 3
    poll_seconds: float = 0.2
    window: Window | None = None
    on_mains_only: bool = False
    reconcile_seconds: float = 30.0
    notice_seconds: float = 60.0
    child: tuple[str, ...] = (sys.executable, "-P", "-m", "jobs")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Return the settings that ``FARENSE_*`` variables make.

        Raises:
            ConfigError: a variable has a value that is not allowed.
        """
        wanted_backend(environment)  # of the jobs: told when the daemon starts, not in the night
        window = environment.get("FARENSE_WINDOW", "").strip()
        url = _url(environment.get("FARENSE_REDIS_URL", "").strip())
        lease = SHARED_LEASE_SECONDS if url else cls.lease_seconds
        return cls(
            redis_url=url,
            queue=check_queue_name(environment.get("FARENSE_QUEUE", "").strip() or DEFAULT_QUEUE),
            lease_seconds=_seconds(environment, "FARENSE_LEASE_SECONDS", lease),
            grace_seconds=_seconds(environment, "FARENSE_GRACE_SECONDS", cls.grace_seconds),
            window=_window(window) if window else None,
            on_mains_only=_flag(environment, "FARENSE_ON_MAINS_ONLY"),
        )


def check_queue_name(name: str) -> str:
    """Return ``name``, if a queue may be called so.

    Raises:
        ConfigError: it may not.
    """
    if not QUEUE_NAME.fullmatch(name):
        raise ConfigError(
            f"{printable(name[:60])!r} cannot be the name of a queue.",
            "Use up to 40 small letters (a-z), digits, dashes and underscores.",
        )
    return name


def redacted(url: str) -> str:
    """Return ``url`` without user, password and query: fit for a log and a screen."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _url(url: str) -> str | None:
    if not url:
        return None
    try:
        fits = _is_url(urlsplit(url))
    except ValueError:
        fits = False
    if not fits:
        # The value itself is not shown: a mistyped URL may still hold a password.
        raise ConfigError(
            "FARENSE_REDIS_URL is not the URL of a Redis server.",
            "Expected redis://[user:password@]host:port/0, rediss://... or unix:///path/to/socket; "
            "in a password, / ? # @ are written %2F %3F %23 %40.",
        )
    return url


def _is_url(parts: SplitResult) -> bool:
    """Tell whether what looks like a URL of Redis is one.

    A password with a bare ``/``, ``?`` or ``#`` would end up in the path, the query or the
    fragment, and a path is shown.
    """
    if parts.scheme == "unix":
        return parts.netloc in ("", parts.netloc.rpartition("@")[0] + "@")
    strayed = "@" in parts.query and "@" not in parts.netloc
    path_fits = re.fullmatch(r"/?\d*", parts.path) and not parts.fragment and not strayed
    return parts.scheme in URL_SCHEMES and parts.port != 0 and bool(path_fits)


def _window(text: str) -> Window:
    try:
        return Window.parse(text)
    except ConfigError as error:
        raise ConfigError(f"FARENSE_WINDOW={text}: {error.message}", error.hint) from error


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 1 <= value <= 86_400:
        raise ConfigError(f"{name}={text}: expected seconds, from 1 to 86400.")
    return value


def _flag(environment: Mapping[str, str], name: str) -> bool:
    text = environment.get(name, "").strip().lower()
    if text not in ("", "0", "1", "no", "yes", "false", "true"):
        raise ConfigError(f"{name}={text}: expected 1 or 0.")
    return text in ("1", "yes", "true")
