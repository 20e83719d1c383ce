"""What a child writes into its job's log, carried to Redis: events and progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from daemon.joblog import LogLines, LogReader, size_of
from daemon.queue.reconnect import RedisLink
from daemon.store.job_store import JobStore
from daemon.store.records import Claim, JobRecord, Written


class LogMirror:
    """Follows the log of a running job; catches up where Redis was away.

    Args:
        claim: the attempt.
        reader: of the job's log, from where its stream ends.
        link: the way to Redis.
        lease_seconds: how long the claim holds; it is renewed three times as often.
        restore: makes the record say again what ``state.json`` says, and returns it.

    Attributes:
        renewed: called after each renewal of the lease.
        cancel_requested: the user wants the job to end.
        pause_requested: the user wants it to rest.
        kill_requested: the user does not want to wait for its last checkpoint.
        prune_requested: who wants the run, a trial of a sweep, to end early.
        superseded: a newer attempt has the job.
    """

    def __init__(
        self,
        claim: Claim,
        reader: LogReader,
        store: JobStore,
        link: RedisLink,
        lease_seconds: float,
        restore: Callable[[], JobRecord | None],
    ) -> None:
        self._claim = claim
        self._reader = reader
        self._store = store
        self._link = link
        self._lease_seconds = lease_seconds
        self._restore = restore
        self._renew_at = 0.0
        self.renewed: Callable[[], None] = lambda: None
        self._unsent: LogLines | None = None
        self.cancel_requested = False
        self.pause_requested = False
        self.kill_requested = False
        self.prune_requested: str | None = None
        self.superseded = False

    @property
    def log_size(self) -> int:
        """Bytes in the job's log."""
        return size_of(self._reader.path)

    def note(self, **values: Any) -> None:
        """Set fields of the record."""
        job_id, attempt = self._claim.job_id, self._claim.attempt
        self._arrived(self._link.call(lambda: self._store.update(job_id, attempt, values)))

    def sync(self) -> None:
        """Carry over what is new, renew the lease where it is time, look for a wish to cancel."""
        self.carry()
        self._renew()
        self._look()

    def carry(self) -> bool:
        """Send new log lines; True where all of them have arrived."""
        if self.log_size < self._reader.offset:
            self._begin_anew()
        while lines := self._unsent or self._reader.read():
            self._unsent = lines
            if not self._send(lines):
                return False
            self._unsent = None
        return True

    def _send(self, lines: LogLines) -> bool:
        job_id, attempt = self._claim.job_id, self._claim.attempt
        written = self._link.call(lambda: self._store.events.send(job_id, attempt, lines))
        if written is Written.MOVED:
            self._reposition()
        return self._arrived(written)

    def _reposition(self) -> None:
        """Go to where the stream ends: an answer was lost on the way, or Redis was wiped."""
        offset = self._link.call(lambda: self._store.events.log_offset(self._claim.job_id))
        if offset is not None:
            self._reader.offset = offset
            self._unsent = None

    def _begin_anew(self) -> None:
        """Carry the log over from its beginning: it was removed, or never was as long as noted."""
        if self._link.call(lambda: self._store.events.begin(self._claim.job_id)):
            self._reader.offset = 0
            self._unsent = None

    def _renew(self) -> None:
        if time.monotonic() < self._renew_at:
            return
        job_id, attempt, seconds = self._claim.job_id, self._claim.attempt, self._lease_seconds
        if self._arrived(
            self._link.call(lambda: self._store.renew_lease(job_id, attempt, seconds))
        ):
            self._renew_at = time.monotonic() + seconds / 3
            self.renewed()

    def _look(self) -> None:
        record = self._link.call(lambda: self._store.get(self._claim.job_id))
        if record is not None:
            self.cancel_requested |= record.cancel_requested
            self.pause_requested = record.pause_requested
            self.kill_requested |= record.kill_requested
            self.prune_requested = self.prune_requested or record.prune_requested

    def _arrived(self, written: Written | None) -> bool:
        """Tell whether a write was made; mend a record that is lost or of another time."""
        if written in (Written.MISSING, Written.REFUSED):
            self._link.lost_something = True
            record = self._link.call(self._restore)
            self.superseded |= record is not None and record.attempt != self._claim.attempt
        return written is Written.DONE
