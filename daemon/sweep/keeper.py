"""A daemon's part in sweeps: it sees to it that each one under way has its coordinator."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

import structlog

from daemon import piped
from daemon.joblog import last_lines
from daemon.piped import Piped
from daemon.settings import Settings
from jobs.errors import ExitCode
from jobs.paths import JOB_ID, Workspace
from jobs.state import FINISHED, State
from jobs.storage.files import read_json
from jobs.storage.locks import is_held
from jobs.sweep.paths import SweepFolder, sweeps_of

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
# A sweep that is only just being ordered has no state yet.
ORDERED_SECONDS = 10.0
FIRST_DELAY, LONGEST_DELAY = 1.0, 60.0
STOP_SECONDS = 5.0


class SweepKeeper:
    """Starts the coordinators of a workspace's sweeps, again where one was killed.

    Nothing of a sweep is loaded into the daemon itself: a sweep is a folder with a ``state.json``.

    Args:
        on_end: is told of each sweep that has ended, by its id.
    """

    def __init__(
        self,
        workspace: Workspace,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        on_end: Callable[[str], object] = lambda sweep: None,
    ) -> None:
        self._workspace, self._settings, self._clock = workspace, settings, clock
        self._on_end = on_end
        self._folder = sweeps_of(workspace)
        self._kept: dict[str, Piped] = {}
        self._delays: dict[str, float] = {}
        self._not_before: dict[str, float] = {}
        self._look_at = 0.0

    @property
    def sweeps(self) -> dict[str, int]:
        """The sweeps whose coordinators were started here, with their process ids."""
        return {sweep: kept.process.pid for sweep, kept in self._kept.items()}

    def is_alive(self, sweep: str) -> bool:
        """Tell whether the coordinator of a sweep runs that was started here."""
        kept = self._kept.get(sweep)
        return kept is not None and kept.process.poll() is None

    def tick(self) -> None:
        """Look whether a sweep lacks its coordinator, from time to time."""
        if self._clock() < self._look_at:
            return
        self._look_at = self._clock() + LOOK_SECONDS
        for sweep in list(self._kept):
            self._reap(sweep)
        if not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            if JOB_ID.fullmatch(path.name) and self._lacks_one(path.name):
                self._start(path.name)

    def close(self) -> None:
        """End all coordinators: they have nothing in hand that is not on disk."""
        for kept in self._kept.values():
            os.close(kept.pipe)
            kept.process.terminate()
        for kept in self._kept.values():
            try:
                kept.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                kept.process.kill()
                kept.process.wait()
        self._kept.clear()

    def _lacks_one(self, sweep: str) -> bool:
        folder = SweepFolder(self._folder / sweep)
        state = _state(folder)
        # Lost or damaged: a coordinator makes it anew.
        active = _was_ordered(folder) if state is None else state is State.RUNNING
        waits = self._clock() < self._not_before.get(sweep, 0.0)
        return active and not waits and not is_held(folder.lock)

    def _start(self, sweep: str) -> None:
        if sweep in self._kept:
            return
        folder = SweepFolder(self._folder / sweep)
        command = [sys.executable, "-P", "-m", "daemon.sweep", str(folder.path)]
        try:
            with folder.stderr.open("wb") as output:
                started = piped.start(command, self._workspace, self._environment(), output)
        except OSError as error:
            self._wait_before(sweep, str(error))
            return
        self._kept[sweep] = started
        log.info("coordinator_started", sweep=sweep, pid=started.process.pid)

    def _environment(self) -> dict[str, str]:
        """Return the environment: the coordinator is to find the daemon's own queue."""
        found = dict(os.environ)
        if self._settings.redis_url is not None:
            found["FARENSE_REDIS_URL"] = self._settings.redis_url
        return found

    def _reap(self, sweep: str) -> None:
        kept = self._kept[sweep]
        code = kept.process.poll()
        if code is None:
            return
        os.close(kept.pipe)
        del self._kept[sweep]
        log.info("coordinator_ended", sweep=sweep, pid=kept.process.pid, code=code)
        if code in (ExitCode.OK, ExitCode.LOCKED):
            self._delays.pop(sweep, None)
            if _state(SweepFolder(self._folder / sweep)) in FINISHED:
                self._on_end(sweep)
            return
        self._wait_before(sweep, last_lines(SweepFolder(self._folder / sweep).stderr))

    def _wait_before(self, sweep: str, reason: str) -> None:
        """Let some time pass before the next try, and more each time."""
        delay = self._delays.get(sweep, FIRST_DELAY)
        self._delays[sweep] = min(2 * delay, LONGEST_DELAY)
        self._not_before[sweep] = self._clock() + delay
        log.warning("coordinator_lost", sweep=sweep, reason=reason, retry_in=delay)


def _state(folder: SweepFolder) -> State | None:
    """Return where a sweep stands; None where that cannot be read."""
    try:
        return State(read_json(folder.state)["state"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _was_ordered(folder: SweepFolder) -> bool:
    try:
        return time.time() - folder.spec.stat().st_mtime > ORDERED_SECONDS
    except OSError:
        return False
