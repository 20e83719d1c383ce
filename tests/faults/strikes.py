"""The faults, carried out."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tests.children.full_disk import fill as fill_disk
from tests.faults.garbage import plant_events, plant_messages, plant_records
from tests.faults.plan import Fault
from tests.faults.stage import LEASE_SECONDS, Stage
from tests.helpers.waiting import wait_until

# Longer than a lease, and now and then longer than the daemon waits for an answer of Redis.
STILL_SECONDS = LEASE_SECONDS + 0.5
LONG_STILL_SECONDS = 5.6
# A disk is full until the daemon has met it, or for so long.
FULL_SECONDS = 4.0
NOTICED = {"queue_held", "state_not_written", "job_not_taken"}


@dataclass
class Struck:
    """What was done to the stage, and when (:func:`time.monotonic`).

    Attributes:
        first, last: the moments before and after the blow; it may be lifted later.
        planted: garbage, as it is to be found among the dead letters: they begin so.
        hit: the blow fell into the phase.
    """

    first: float
    last: float = 0.0
    planted: list[bytes] = field(default_factory=list)
    hit: bool = False


def strike(stage: Stage, pid: int) -> Struck:
    """Strike, and where the fault has an end, wait for it.

    Args:
        pid: of the victim's child.
    """
    struck = Struck(time.monotonic())
    fault = stage.plan.fault
    match fault:
        case Fault.KILL_CHILD | Fault.KILL_DAEMON | Fault.KILL_VALKEY | Fault.KILL_ALL:
            _kill(stage, pid, struck)
        case Fault.STOP_CHILD | Fault.STOP_DAEMON | Fault.STOP_VALKEY | Fault.STOP_ALL:
            _stop(stage, pid, struck)
        case Fault.CUT_OFF | Fault.SILENCE:
            _cut_off(stage, struck)
        case Fault.WIPE:
            stage.broker.redis.flushall()
        case Fault.FULL_DISK:
            filler = stage.workspace.root / "filler"
            _fill(stage, struck, lambda: fill_disk(filler), filler.unlink)
        case Fault.FAILING_WRITES:
            allowed = str(stage.plan.dice("writes").randint(0, 3))
            switch = stage.switch
            _fill(stage, struck, lambda: switch.write_text(allowed), switch.unlink)
        case Fault.BAD_MESSAGES:
            struck.planted = plant_messages(stage)
        case Fault.BAD_RECORDS:
            struck.planted = plant_records(stage)
        case Fault.BAD_EVENTS:
            struck.planted = plant_events(stage)
    struck.last = struck.last or time.monotonic()
    return struck


def _targets(stage: Stage, pid: int) -> dict[str, int]:
    assert stage.daemon is not None
    server = stage.server.pid()
    assert server is not None
    everyone = {"child": pid, "daemon": stage.daemon.pid, "valkey": server}
    whom = stage.plan.fault.value.split()[1]
    names = list(everyone) if whom == "all" else [whom]
    stage.plan.dice("order").shuffle(names)
    return {name: everyone[name] for name in names}


def _kill(stage: Stage, pid: int, struck: Struck) -> None:
    targets = _targets(stage, pid)
    for target in targets.values():
        with suppress(ProcessLookupError):  # the child sees the end of its daemon at once
            os.kill(target, signal.SIGKILL)
    struck.last = time.monotonic()
    if "daemon" in targets:
        stage.kill_daemon()


def _stop(stage: Stage, pid: int, struck: Struck) -> None:
    targets = _targets(stage, pid)
    for target in targets.values():
        with suppress(ProcessLookupError):
            os.kill(target, signal.SIGSTOP)
    struck.last = time.monotonic()
    try:
        _stand_still(stage)
    finally:
        for target in targets.values():
            with suppress(ProcessLookupError):
                os.kill(target, signal.SIGCONT)


def _cut_off(stage: Stage, struck: Struck) -> None:
    assert stage.proxy is not None
    if stage.plan.fault is Fault.CUT_OFF:
        stage.proxy.refuse()
    else:
        stage.proxy.hang()
    struck.last = time.monotonic()
    _stand_still(stage)
    stage.proxy.restore()


def _stand_still(stage: Stage) -> None:
    long = stage.plan.dice("stillness").random() < 0.15
    _pass(LONG_STILL_SECONDS if long else STILL_SECONDS)


def _fill(stage: Stage, struck: Struck, fill: Callable[[], Any], empty: Callable[[], None]) -> None:
    fill()
    struck.last = time.monotonic()
    deadline = struck.last + FULL_SECONDS

    def noticed() -> bool:
        said = {line["event"] for line in stage.daemon_log()}
        return bool(said & NOTICED) or time.monotonic() > deadline

    wait_until(noticed, "the daemon to notice")
    empty()


def _pass(seconds: float) -> None:
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until, "time to pass")
