"""Connections to a Unix socket whose path may be long.

The path in a socket address holds 103 bytes on macOS (107 on Linux), and a workspace may lie
deeper. Changing the working directory would reach it, but that belongs to the whole process:
another thread would see it change. ``/proc/self/fd`` exists on Linux only, and there is no
``connectat``. So a long path is reached through a short symbolic link to its folder, in a temporary
folder of mode 0700 with a random name, that exists for the one call of ``connect``: nothing is
shared between threads, nobody else can redirect it, and nothing needs cleaning up later.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import ConnectionPool, UnixDomainSocketConnection
from redis.backoff import NoBackoff
from redis.retry import Retry

MAX_PATH_BYTES = 103


class LongPathConnection(UnixDomainSocketConnection):
    """redis-py's connection to a Unix socket, for paths of any length."""

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.socket_connect_timeout)
            with short_path(Path(self.path)) as path:
                sock.connect(str(path))
            sock.settimeout(self.socket_timeout)
        except BaseException:
            sock.close()
            raise
        return sock


def socket_pool(path: Path, timeout: float) -> ConnectionPool:
    """Return a pool of connections to ``path`` that try once and wait ``timeout`` seconds."""
    return ConnectionPool(
        connection_class=LongPathConnection,
        path=str(path),
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        driver_info=None,
    )


@contextmanager
def short_path(path: Path) -> Iterator[Path]:
    """Yield a path to the same socket that fits a socket address."""
    if len(os.fsencode(path)) <= MAX_PATH_BYTES:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="farense-", dir=_short_folder()) as folder:
        link = Path(folder) / "s"
        link.symlink_to(path.parent.resolve(), target_is_directory=True)
        yield link / path.name


def _short_folder() -> str:
    """Return the temporary folder of the user, or ``/tmp`` where that is itself too deep."""
    folder = tempfile.gettempdir()
    return folder if len(os.fsencode(folder)) <= MAX_PATH_BYTES - 40 else "/tmp"  # noqa: S108
