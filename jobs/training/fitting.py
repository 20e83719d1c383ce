"""Which way of computing a run takes: the first whose trial fits into memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from jobs.resources.out_of_memory import as_out_of_memory
from jobs.resources.ways import Peak, Room, Tried, Way, none_fits
from jobs.training.batches import BatchPlan, Piece
from jobs.training.engine import Engine

# Brings engine and batches to a way.
Compute = Callable[[Way], tuple[Engine, BatchPlan]]


@dataclass(frozen=True)
class Fitting:
    """What was found.

    Attributes:
        way: the one to take.
        tried: the bytes that each needs, the plain way first.
    """

    way: Way
    tried: Tried

    @property
    def needed(self) -> int:
        """What the way taken needs, bytes."""
        return self.tried[self.way] or 0

    @property
    def plain(self) -> bool:
        """Tell whether that is the plain way."""
        return self.way == next(iter(self.tried))


def first_fitting(
    ways: Sequence[Way], compute: Compute, room: Room, *, kept: bool = False
) -> Fitting:
    """Try steps of the largest shapes in one way after the other; return the first that fits.

    Args:
        kept: there is one way, and it stays as it is: an attempt before this one took it.

    Raises:
        OutOfMemory: none does.
    """
    tried: dict[Way, int | None] = {}
    peaks: dict[bool, Peak] = {}
    for way in ways:
        if (known := peaks.get(way.again)) and not room.holds(known.on(way.streams)):
            # The same pieces on fewer streams: no need to compute them.
            tried[way] = known.on(way.streams)
            continue
        engine, batches = compute(way)
        # In the plain way work is started as fast as ever, as far as a cap does not say otherwise.
        at_most = room.most if tried or kept else room.cap
        try:
            peak = engine.peak_memory(batches.largest_pieces(), at_most)
        except Exception as error:  # whatever MLX raises where memory ends
            if as_out_of_memory(error) is None or len(ways) == 1:
                raise
            tried[way] = None
            continue
        if at_most is not None:  # else it holds what was started ahead, too
            peaks[way.again] = peak
        tried[way] = peak.on(way.streams)
        if not room.holds(peak.on(way.streams)):
            continue
        if kept:
            return Fitting(way, tried)
        found = _also_measuring(way, peak, compute, room, tried)
        if found is not None:
            return Fitting(found, tried)
    raise none_fits(tried, room)


def _also_measuring(
    way: Way, peak: Peak, compute: Compute, room: Room, tried: dict[Way, int | None]
) -> Way | None:
    """Return ``way`` with validation pieces small enough; what they need is noted in ``tried``.

    A validation computes more rows at a time than a step may, and its texts may be longer. Without
    a backward pass a piece takes less than a step in its shape, so that one is tried only where
    the steps leave doubt.

    Returns:
        None where not even the smallest fits.
    """
    while True:
        engine, batches = compute(way)
        steps = batches.largest_pieces()
        doubtful = [
            piece
            for piece in batches.largest_measured()
            if not room.holds(peak.on(way.streams, min(_share(piece, step) for step in steps)))
        ]
        needed = engine.measuring_memory(doubtful).on(way.streams) if doubtful else 0
        tried[way] = max(needed, peak.on(way.streams))
        if room.holds(needed):
            return way
        if batches.measured_rows == 1:
            return None
        way = replace(way, halvings=way.halvings + 1)


def _share(piece: Piece, step: Piece) -> float:
    """Return how much more memory a piece may take than a step, both with a backward pass.

    What a token takes grows no faster than with the length of its text.
    """
    (rows, width), (step_rows, step_width) = piece.batch.inputs.shape, step.batch.inputs.shape
    tokens: float = rows * width / (step_rows * step_width) * max(1.0, width / step_width)
    return max(1.0, tokens, len(piece.batch.targets) / len(step.batch.targets))
