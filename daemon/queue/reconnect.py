"""The daemon's way to Redis, which may be away for a while.

A running job does not depend on it: while the server is away, calls do nothing, one line of the
log says so, and the server is tried again, at growing intervals. When it is back, one more line
says that.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import TypeVar

from redis.exceptions import RedisError

from daemon.queue.broker import Broker, is_wrong_type
from jobs.errors import QueueUnreachable, WorkspaceError

log = logging.getLogger(__name__)

Result = TypeVar("Result")

FIRST_DELAY = 0.25
MAX_DELAY = 10.0
# A shorter limit than a client's: a job is being looked after meanwhile.
REVIVE_SECONDS = 3.0


class RedisLink:
    """Calls to Redis that may find it away.

    Attributes:
        away: whether the last call found no server.
        lost_something: messages or changes may have been lost since this was last set to False.
    """

    def __init__(self, broker: Broker, clock: Callable[[], float] = time.monotonic) -> None:
        self._broker = broker
        self._clock = clock
        self._delay = FIRST_DELAY
        self._next_try = 0.0
        self._lost_at = -math.inf
        self._said = ""
        self.away = False
        self.lost_something = False

    @property
    def seconds_to_next_try(self) -> float:
        """How long the server is left alone; 0 while it is there."""
        return max(0.0, self._next_try - self._clock()) if self.away else 0.0

    def call(self, operation: Callable[[], Result]) -> Result | None:
        """Return what ``operation`` returns; None where the server, or a file, is not there.

        An embedded server that has died is started again.
        """
        if self.away and self._clock() < self._next_try:
            return None
        try:
            if self.away:
                self._revive()
            result = operation()
        except (RedisError, QueueUnreachable) as error:
            self.lost(error)
            return None
        except (WorkspaceError, OSError) as error:
            if isinstance(error, OSError) and error.filename is None:  # of a socket
                self.lost(error)
            else:
                self._say_of_files(error)
            return None
        if self.away:
            log.info("the queue at %s is back", self._broker.address)
            self.away = False
        if self._clock() - self._lost_at > 2 * MAX_DELAY:
            # An answer alone does not tell: of two commands, the server may refuse one each time.
            self._delay = FIRST_DELAY
        return result

    def _revive(self) -> None:
        try:
            self._broker.ensure(REVIVE_SECONDS)
        except WorkspaceError as error:
            raise QueueUnreachable(error.message, error.hint) from error

    def _say_of_files(self, error: Exception) -> None:
        """Tell of a file that cannot be read or written for now: the queue is not away for that."""
        if str(error) != self._said:
            log.error("what the queue was asked for came to nothing: %s", error)
        self._said = str(error)

    def lost(self, error: Exception) -> None:
        """Note that the server did not answer."""
        if not self.away:
            what = "has a key of a wrong type" if is_wrong_type(error) else "is away"
            log.warning("the queue at %s %s: %s", self._broker.address, what, error)
        self.away = True
        self.lost_something = True
        self._lost_at = self._clock()
        self._next_try = self._lost_at + self._delay
        self._delay = min(self._delay * 2, MAX_DELAY)
