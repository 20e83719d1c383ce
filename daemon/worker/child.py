"""One training child: started, watched, asked to stop, and killed where it does not.

The child is a fresh interpreter in its own process group, never a fork: fork and Metal do not mix,
and a Metal out-of-memory then kills only it. It has the read end of a pipe whose write end only
this process holds: when the daemon dies, however it dies, the child sees the end of the pipe,
writes a checkpoint and exits.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from daemon import piped
from daemon.piped import Piped
from daemon.runs.private_folder import PRIVATE, temporary_folder
from daemon.settings import Settings
from jobs.errors import WorkspaceError
from jobs.paths import Workspace
from jobs.stopping import BEAT, end_early

# The part of a lease for which a child goes on without a word: the rest is for its checkpoint,
# before another machine may take the job.
SILENCE = 2 / 3
# What the child need not know: it never talks to Redis, and tells nobody; both hold secrets.
WITHHELD = ("FARENSE_REDIS_URL", "FARENSE_NOTIFY")


class Child:
    """A running child; as a context manager it is certain to be gone afterwards.

    Attributes:
        pid: its process id, which is also its process group.
        stop_requested: it has been sent SIGTERM.
        killed: it has been sent SIGKILL.
    """

    def __init__(self, started: Piped, grace_seconds: float) -> None:
        self._oom_kills = oom_kills()
        self._process, self._pipe = started.process, started.pipe
        self._end = _end_of(self._process.pid)
        self._grace_seconds = grace_seconds
        self._kill_at: float | None = None
        self.pid = self._process.pid
        self.stop_requested = False
        self.killed = False
        self._told_to_end = False

    @classmethod
    def start(
        cls,
        workspace: Workspace,
        settings: Settings,
        job_id: str,
        attempt: int,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> Child:
        """Start the child of an attempt.

        Args:
            variables: of its environment, where the daemon's own has no others of these names.

        Raises:
            WorkspaceError: the process cannot be started.
        """
        stderr = workspace.job_stderr(job_id)
        stderr.parent.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        command = [*settings.child, str(workspace.run(job_id).path), "--attempt", str(attempt)]
        if settings.redis_url is not None:
            command += ["--silence", str(settings.lease_seconds * SILENCE)]
        try:
            with stderr.open("ab") as output:
                started = piped.start(
                    command, workspace, _environment(workspace, variables), output
                )
        except OSError as error:
            raise WorkspaceError(f"The job's process cannot be started: {error}") from error
        return cls(started, settings.grace_seconds)

    def wait(self, seconds: float) -> int | None:
        """Wait for the end; return the exit code (minus a signal's number), or None by ``seconds``.

        A child that was asked to stop and has not within the grace period is killed.
        """
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self.kill()
        if self._end is not None:
            # Popen.wait would look every 50 ms: it wakes more often, and learns of the end later.
            end = select.poll()
            end.register(self._end, select.POLLIN)
            end.poll(seconds * 1000)
            return self._process.poll()
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def beat(self) -> None:
        """Tell the child that the lease was renewed, unless it is stopped with its pipe full."""
        self._say(BEAT)

    def end_early(self, by: str | None) -> None:
        """Tell the child to end its run now, with what it has reached; once is enough.

        Not by a signal: one that comes before the child listens would kill it.

        Args:
            by: who wants it: the name of a pruner, or ``time``; None for nobody.
        """
        if by is not None:
            self._told_to_end = self._told_to_end or self._say(end_early(by))

    def _say(self, words: bytes) -> bool:
        """Write into the pipe, all of it or nothing; return whether that was done."""
        with suppress(BlockingIOError, BrokenPipeError):
            return os.write(self._pipe, words) == len(words)
        return False

    def stop(self) -> None:
        """Ask the child to write a checkpoint and exit; asking twice is asking once."""
        if not self.stop_requested:
            self.stop_requested = True
            self._kill_at = time.monotonic() + self._grace_seconds
            # It alone: the compiler that it may be waiting for has to end its work first. Without
            # the library that this makes, MLX fails the job instead of coming to the checkpoint.
            self._process.terminate()

    def kill(self) -> None:
        """Kill the child and what it has started."""
        if not self.killed:
            self.killed = True
            if self._process.poll() is None:
                # macOS answers "not permitted" for a group whose leader has just ended.
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, signal.SIGKILL)

    @property
    def killed_for_memory(self) -> bool:
        """Whether it was killed, not by us, while the kernel killed something for lack of memory.

        Known on Linux alone.
        """
        by_signal = self._process.poll() == -signal.SIGKILL and not self.killed
        return by_signal and oom_kills() > self._oom_kills

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._pipe)
        self.stop()
        while self.wait(0.2) is None:
            pass
        if self._end is not None:
            os.close(self._end)


def oom_kills(counters: Path = Path("/proc/vmstat")) -> int:
    """Return how many processes the kernel has killed for lack of memory; 0 where it is unknown."""
    try:
        lines = counters.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def _end_of(pid: int) -> int | None:
    """Return a descriptor that can be read once the process has ended; None where there is none."""
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # a kernel before 5.3
        return None


def _environment(workspace: Workspace, variables: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in WITHHELD}
    if kept.pop("PYTHONDONTWRITEBYTECODE", None):
        # It keeps source folders clean, and takes a child half a second to compile all it imports.
        kept.setdefault("PYTHONPYCACHEPREFIX", str(workspace.private / "bytecode"))
    return {
        **variables,
        **kept,
        "HF_HUB_OFFLINE": "1",
        "TMPDIR": str(temporary_folder(workspace)),
    }
