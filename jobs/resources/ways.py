"""The ways of computing a run's steps, and which of them the memory allows.

The plain way keeps what the backward pass needs and computes on every stream at once. Where that
does not fit, others take less and longer. Which one is taken changes the bits of a run, so it is
chosen once, before the first step, and every checkpoint names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from jobs.errors import OutOfMemory
from jobs.resources.preflight import MemoryLimits
from jobs.storage.formatting import size_text

# What checkpoints call it, beside the versions: bits depend on it as they do on those.
STREAMS, AGAIN, HALVINGS = "streams", "grad_checkpoint", "validation_halvings"


@dataclass(frozen=True)
class Way:
    """How the steps of a run are computed.

    Attributes:
        streams: how many pieces are computed at the same time.
        again: blocks are computed again in the backward pass.
        halvings: how often the pieces of a validation are halved.
    """

    streams: int
    again: bool
    halvings: int = 0

    def differences(self, plain: Self) -> str:
        """Return what is done otherwise than in the plain way, for a person."""
        fewer = "on one stream" if self.streams == 1 else f"on {self.streams} streams"
        said = [f"computing {fewer}"] if self.streams != plain.streams else []
        if self.again != plain.again:
            said.append("blocks are computed again in the backward pass")
        if self.halvings:
            said.append("validations are computed in smaller pieces")
        return ", ".join(said) or "the plain way"

    def as_versions(self) -> dict[str, str]:
        """Return what a checkpoint keeps of it."""
        halvings = {HALVINGS: str(self.halvings)} if self.halvings else {}
        return {STREAMS: str(self.streams), AGAIN: str(self.again).lower(), **halvings}

    @classmethod
    def from_versions(cls, versions: Mapping[str, str]) -> Self | None:
        """Return the way that a checkpoint names; None for the plain one, which it does not name.

        So a checkpoint from before there were others says that its run took the plain way.
        """
        try:
            streams, halvings = int(versions[STREAMS]), int(versions.get(HALVINGS, 0))
            return cls(max(1, streams), versions[AGAIN] == "true", max(0, halvings))
        except (KeyError, ValueError):
            return None


def ways(streams: int, again: bool | None) -> list[Way]:
    """Return the ways to try, the plain one first, each slower than those before it.

    Computing blocks again takes a third more time and saves the larger part of what a step keeps;
    half the streams save half of it, and take about half as long again on a CPU with two cores.

    Args:
        streams: of the machine.
        again: whether blocks are computed again; None where memory is to decide.
    """
    counts = [streams]
    while counts[-1] > 1:
        counts.append(counts[-1] // 2)
    choices = (False, True) if again is None else (again,)
    return [Way(count, choice) for count in counts for choice in choices]


@dataclass(frozen=True)
class Peak:
    """What a trial took, bytes.

    Attributes:
        rest: what is held all the time.
        each: what the largest piece takes beside that, on its stream.
    """

    rest: int
    each: int

    def on(self, streams: int, share: float = 1.0) -> int:
        """Return what such a piece on each of so many streams takes; ``share``: or a part of it."""
        return self.rest + streams * int(self.each * share)


@dataclass(frozen=True)
class Room:
    """The memory that training may take.

    Attributes:
        cap: of the config, bytes; None without one.
    """

    limits: MemoryLimits
    cap: int | None

    @property
    def most(self) -> int | None:
        """The most that may be taken, bytes; None where nothing is known."""
        return min((b for b in (self.limits.whole, self.cap) if b is not None), default=None)

    def holds(self, needed: int) -> bool:
        """Tell whether so many bytes fit."""
        return self.most is None or needed <= self.most

    @property
    def text(self) -> str:
        """What there is, for a person."""
        if self.cap is not None and self.most == self.cap:
            return f"the {size_text(self.cap)} that the setting memory allows"
        return f"the {size_text(self.most or 0)} of this machine"


# What was tried: bytes, or None where memory ran out in the trial itself.
Tried = Mapping[Way, int | None]


def chosen_text(tried: Tried, taken: Way, room: Room) -> str:
    """Return what a run's log says of a way that is not the plain one."""
    plain = next(iter(tried))
    how = f"{taken.differences(plain)}: about {size_text(tried[taken] or 0)}"
    needs = _needs(tried[plain])
    if taken == replace(plain, halvings=taken.halvings):
        needs = f"a validation of the longest texts needs {size_text(tried[plain] or 0)}"
    return f"Memory: {needs}, which does not fit into {room.text}; {how}."


def none_fits(tried: Tried, room: Room) -> OutOfMemory:
    """Return the error where no way fits."""
    plain, *others = tried
    text = f"Out of memory before training: {_needs(tried[plain])}, and it has to fit into "
    also = "; ".join(f"{way.differences(plain)}: {_taken(tried[way])}" for way in others)
    return OutOfMemory(f"{text}{room.text}." + (f" Also tried: {also}." if also else ""))


def _needs(needed: int | None) -> str:
    step = "a training step on the largest batch"
    return f"{step} ran out of memory" if needed is None else f"{step} needs {size_text(needed)}"


def _taken(needed: int | None) -> str:
    return "it ran out of memory" if needed is None else size_text(needed)
