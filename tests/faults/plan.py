"""What a round of the storm does: a pure function of its seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from tests.helpers.phase_notes import Phase

PHASES = list(Phase)


class Fault(StrEnum):
    """What happens to whom."""

    KILL_CHILD = "kill child"
    KILL_DAEMON = "kill daemon"
    KILL_VALKEY = "kill valkey"
    KILL_ALL = "kill all"
    STOP_CHILD = "stop child"
    """By SIGSTOP, for longer than a lease; then it goes on."""
    STOP_DAEMON = "stop daemon"
    STOP_VALKEY = "stop valkey"
    STOP_ALL = "stop all"
    CUT_OFF = "cut off"
    """Connections to Redis are dropped and refused."""
    SILENCE = "silence"
    """Connections to Redis stand, and nothing is answered."""
    WIPE = "wipe"
    FULL_DISK = "full disk"
    """A real one, of a few megabytes."""
    FAILING_WRITES = "failing writes"
    """A disk that only says that it is full."""
    BAD_MESSAGES = "bad messages"
    BAD_RECORDS = "bad records"
    BAD_EVENTS = "bad events"


# The first few, which `make test` plays, differ most.
FAULTS = [
    Fault.KILL_ALL, Fault.BAD_RECORDS, Fault.FAILING_WRITES, Fault.CUT_OFF, Fault.KILL_CHILD,
    Fault.BAD_MESSAGES, Fault.STOP_DAEMON, Fault.FULL_DISK, Fault.KILL_VALKEY, Fault.WIPE,
    Fault.KILL_DAEMON, Fault.SILENCE, Fault.BAD_EVENTS, Fault.STOP_CHILD, Fault.STOP_VALKEY,
    Fault.STOP_ALL,
]  # fmt: skip
CUTS = (Fault.CUT_OFF, Fault.SILENCE)
# The rounds whose victim is a real training; the others' is made up.
REAL_EVERY, REAL_FIRST = 9, 5
OTHERS = ("quick", "early", "diverging", "refused", "cancelled")
# It starts when the victim has ended well.
FOLLOWER = "follower"


@dataclass(frozen=True)
class Plan:
    """A round.

    Attributes:
        beginning: the phase is struck in the so-manieth time that it begins, from 1.
        delay: of the way through the phase, 0 to 1.
        jobs: names, in the order of the queue; one is ``victim`` or ``real``.
    """

    seed: int
    fault: Fault
    phase: Phase
    beginning: int
    delay: float
    jobs: tuple[str, ...]

    @property
    def victim(self) -> str:
        """The name of the job that is struck."""
        return "real" if "real" in self.jobs else "victim"

    def dice(self, purpose: str) -> random.Random:
        """Return the random numbers of this round for one purpose."""
        return random.Random(f"{self.seed} {purpose}")  # noqa: S311 - no secret


def plan(seed: int) -> Plan:
    """Return the plan of a seed, from 1; 96 seeds hold every fault in every phase."""
    number = seed - 1
    fault = FAULTS[number % len(FAULTS)]
    phase = PHASES[(number + number // len(FAULTS)) % len(PHASES)]
    dice = random.Random(f"{seed} plan")  # noqa: S311 - no secret
    victim = "real" if seed % REAL_EVERY == REAL_FIRST else "victim"
    jobs = list(dice.sample(OTHERS, len(OTHERS)))
    jobs.insert(dice.randint(0, 2), victim)
    jobs.append(FOLLOWER)
    often = phase in (Phase.STEPS, Phase.VALIDATION, Phase.CHECKPOINT)
    beginning = dice.randint(1, 2) if often else 1
    return Plan(seed, fault, phase, beginning, dice.uniform(0.05, 0.6), tuple(jobs))
