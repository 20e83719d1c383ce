"""Which claims on other machines were not renewed for a whole lease.

Only what this process has seen by itself counts, by a clock that stands still while the machine
sleeps: that the lease of an attempt did not move for as long as it holds. No clock is compared with
another's, and after a reconnect, or a restart of Redis, the watch begins anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from daemon.store.records import JobRecord


class LeaseWatch:
    """Watches the leases of jobs that run elsewhere.

    Args:
        least_seconds: a lease holds at least so long; one whose length is not known, exactly.
    """

    def __init__(self, least_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._least_seconds = least_seconds
        self._clock = clock
        self._seen: dict[str, tuple[tuple[int, float | None], float]] = {}

    def forget(self) -> None:
        """Begin anew: what was seen before says nothing any more."""
        self._seen.clear()

    def expired(self, running: Iterable[JobRecord]) -> list[JobRecord]:
        """Return those of the running jobs whose lease has not moved for as long as it holds."""
        now, before = self._clock(), self._seen
        self._seen = {}
        found = []
        for record in running:
            lease = (record.attempt, record.lease_until)
            then, since = before.get(record.id, (lease, now))
            since = since if then == lease else now
            self._seen[record.id] = (lease, since)
            if now - since > max(record.lease_seconds or 0.0, self._least_seconds):
                found.append(record)
        return found
