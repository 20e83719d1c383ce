"""The sender: takes up what happened, gathers, sends, and tries again. Read :meth:`Sender.tick`.

It runs in a process of its own (:mod:`daemon.notify.__main__`) and leaves each delivery to a
courier, so that an address that hangs delays no other. Nothing that a person is to be told is lost
with it: what happened and what waits are files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from daemon.logging import add_line
from daemon.notify.addresses import Address, all_addresses
from daemon.notify.delivery import Delivered, Delivery, to_address, to_command
from daemon.notify.happening import Happening, What, happenings, held_class, put_down_ids
from daemon.notify.kinds import NoticeKind
from daemon.notify.look_up import matter_of
from daemon.notify.matters import Matter, notice_of
from daemon.notify.outbox import Outbox, Unsent
from daemon.notify.paths import NotifyFolder
from daemon.notify.standing import Standing, read_standing, write_standing
from jobs.errors import FarenseError
from jobs.paths import Workspace

# Between two messages of a kind to an address.
MINUTE = 60.0
FIRST_DELAY, LONGEST_DELAY = 2.0, 900.0
# From what happened to the last try to tell of it.
GIVEN_UP_AFTER = 24 * 3600.0
# Jobs that are held for the same reason again within this time are not told of again.
HELD_AGAIN = 3600.0
ON_EVENT = "on_event"

Start = Callable[[dict[str, Any]], Delivery]


@dataclass
class Target:
    """An address, or the command of ``on_event``, and how it goes with it.

    Attributes:
        shown: for the log.
        not_before: when it is next tried, by the clock.
        failing: why the last delivery failed; empty while they arrive.
    """

    key: str
    shown: str
    kinds: frozenset[NoticeKind]
    address: Address | None
    not_before: float = 0.0
    delay: float = FIRST_DELAY
    failing: str = ""
    delivery: Delivery | None = None
    batch: list[Unsent] = field(default_factory=list)


class Sender:
    """Sends what a workspace's daemon has put down.

    Args:
        on_event: the words of the command that is run with each event; None for none.
        start: starts a courier.
        clock: seconds since the epoch.
        minute: seconds between two messages of a kind to an address.
    """

    def __init__(
        self,
        workspace: Workspace,
        on_event: Sequence[str] | None,
        *,
        start: Start = Delivery.start,
        clock: Callable[[], float] = time.time,
        minute: float = MINUTE,
    ) -> None:
        self.workspace, self._on_event = workspace, on_event
        self._start, self._clock, self._minute = start, clock, minute
        self.folder = NotifyFolder.of(workspace)
        self.outbox = Outbox(self.folder.outbox)
        self.outbox.load()
        self.standing: Standing = read_standing(self.folder)
        self._targets: dict[str, Target] = {}
        self._said = ""
        self._reread()

    def tick(self) -> float:
        """Do what is to be done now; return in how many seconds there is something again."""
        self._reread()
        self._take_up()
        self._give_up()
        for target in self._targets.values():
            self._conclude(target)
            self._deliver(target)
        return self._next()

    @property
    def idle(self) -> bool:
        """Whether nothing is under way or waits."""
        under_way = any(target.delivery for target in self._targets.values())
        return not under_way and not any(self.outbox.addresses())

    @property
    def busy(self) -> bool:
        """Whether a delivery is under way."""
        return any(target.delivery for target in self._targets.values())

    def happened(self, happening: Happening) -> None:
        """Let everybody who wants to know be told of something, by and by."""
        if happening.what is What.HELD and self._held_before(happening):
            return
        wants_best = any(NoticeKind.BEST in target.kinds for target in self._targets.values())
        try:
            matter = matter_of(self.workspace, happening, wants_best=wants_best)
        except FarenseError as error:
            self._log("notification_not_made", what=str(happening.what), reason=error.message)
            return
        except Exception as error:
            # A mistake of ours with one must not keep this process from telling of all others.
            reason = f"{type(error).__name__}: this is a fault in farense"
            self._log("notification_not_made", what=str(happening.what), reason=reason)
            return
        if matter is not None:
            self._route(matter)

    def _route(self, matter: Matter) -> None:
        for target in self._targets.values():
            wanted = [kind for kind in matter.kinds if kind in target.kinds]
            if wanted:
                self.outbox.add(target.key, wanted[0], matter)

    def _held_before(self, happening: Happening) -> bool:
        """Tell whether this was told of shortly before; each time puts that off further."""
        reason, now = held_class(str(happening.detail.get("reason", ""))), self._clock()
        before = self.standing.held.get(reason)
        self.change(held={**self.standing.held, reason: now})
        return before is not None and abs(now - before) < HELD_AGAIN

    # What there is to be told, and whom.

    def _reread(self) -> None:
        """Read the addresses again; what waits for one that was removed is dropped."""
        try:
            addresses = all_addresses(self.workspace)
            self._said = ""
        except FarenseError as error:
            if error.message != self._said:
                self._log("addresses_not_read", reason=error.message)
            self._said = error.message
            return
        found = {
            address.key: Target(
                address.key,
                f"{address.name} ({address.shown})",
                frozenset(address.kinds),
                address,
            )
            for address in addresses
        }
        if self._on_event:
            found[ON_EVENT] = Target(ON_EVENT, ON_EVENT, frozenset(NoticeKind), None)
        for key, target in found.items():
            if (known := self._targets.get(key)) is not None:
                found[key] = replace(
                    known, shown=target.shown, kinds=target.kinds, address=target.address
                )
        for key, target in self._targets.items():
            if key not in found and target.delivery is not None:
                target.delivery.kill()
        self._targets = found
        for key in set(self.outbox.addresses()) - set(found):
            self.outbox.drop(key)

    def _take_up(self) -> None:
        for path, happening in happenings(put_down_ids(self.folder)):
            if happening is not None:
                self.happened(happening)
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _give_up(self) -> None:
        for target in self._targets.values():
            if target.delivery is None:
                old = [w for w in self.outbox.of(target.key) if self._is_old(w.matter)]
                self._forget(target, old, target.failing or "it was not sent within a day")

    def _is_old(self, matter: Matter) -> bool:
        return self._clock() - _seconds(matter.at) > GIVEN_UP_AFTER

    def _forget(self, target: Target, waiting: Sequence[Unsent], why: str) -> None:
        if waiting:
            kinds = sorted({str(found.kind) for found in waiting})
            self._log(
                "notification_given_up",
                to=target.shown,
                kinds=kinds,
                matters=len(waiting),
                since=waiting[0].matter.at,
                reason=why,
            )
            self.outbox.remove(target.key, waiting)

    # Deliveries.

    def _deliver(self, target: Target) -> None:
        """Start a delivery to a target, of the kind whose oldest matter waits longest."""
        now = self._clock()
        if target.delivery is not None or now < target.not_before:
            return
        batch = self._due(target, now)
        if not batch:
            return
        message = notice_of(batch[0].kind, [waiting.matter for waiting in batch])
        done = [waiting.path for waiting in batch]
        if target.address is not None:
            question = to_address(target.address.url, message, done)
        else:
            question = to_command(self._on_event or (), message, self.workspace, done)
        try:
            target.delivery, target.batch = self._start(question), batch
        except OSError as error:
            self._failed(target, Delivered(False, f"no process: {error.strerror}"))

    def _due(self, target: Target, now: float) -> list[Unsent]:
        """Return the matters of one kind that may be sent now, oldest first."""
        waiting = self.outbox.of(target.key)
        last = self.standing.last.get(target.key, {})
        for first in waiting:
            since = now - last.get(first.kind, 0.0)
            if since >= self._minute or since < 0:  # the clock was put back
                return [found for found in waiting if found.kind is first.kind]
        return []

    def _conclude(self, target: Target) -> None:
        if target.delivery is None or (found := target.delivery.poll()) is None:
            return
        target.delivery = None
        if not found.ok:
            self._failed(target, found)
            return
        if target.failing:
            self._log("notifications_arrive_again", level="info", to=target.shown)
        target.failing, target.delay, target.not_before = "", FIRST_DELAY, 0.0
        kind = target.batch[0].kind
        self._log(
            "notification_sent",
            level="info",
            to=target.shown,
            kind=str(kind),
            matters=len(target.batch),
        )
        self.outbox.remove(target.key, target.batch)
        target.batch = []
        times = {**self.standing.last.get(target.key, {}), str(kind): self._clock()}
        self.change(last={**self.standing.last, target.key: times})

    def _failed(self, target: Target, found: Delivered) -> None:
        """Let some time pass before the next try, and more each time."""
        if found.never:
            self._forget(target, target.batch, found.why)
        elif found.why != target.failing:
            self._log("notification_not_sent", to=target.shown, reason=found.why)
        target.failing, target.batch = found.why, []
        target.not_before = self._clock() + target.delay
        target.delay = min(2 * target.delay, LONGEST_DELAY)

    def _next(self) -> float:
        """Return in how many seconds a target may be due; a delivery is looked at often."""
        now, soonest = self._clock(), MINUTE
        for target in self._targets.values():
            if target.delivery is not None:
                return 0.1
            last = self.standing.last.get(target.key, {})
            for kind in {waiting.kind for waiting in self.outbox.of(target.key)}:
                at = max(target.not_before, last.get(kind, 0.0) + self._minute)
                soonest = min(soonest, max(0.05, at - now))
        return soonest

    def kill(self) -> None:
        """End the deliveries under way: what they have not sent waits."""
        for target in self._targets.values():
            if target.delivery is not None:
                target.delivery.kill()

    def change(self, **changes: Any) -> None:
        """Change what is kept of how it stands."""
        self.standing = replace(self.standing, **changes)
        write_standing(self.folder, self.standing)

    def _log(self, event: str, level: str = "warning", **values: Any) -> None:
        add_line(self.workspace.daemon_log, event, __name__, level, values)


def _seconds(moment: str) -> float:
    try:
        return datetime.fromisoformat(moment).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0
