"""When to stop, and whether the model overfits: pure arithmetic over losses, no MLX."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class EarlyStopping:
    """The best validation so far, and how long patience has been tried.

    Two things are told apart. The best is the lowest loss, by however little: its adapter is kept.
    Patience asks for more: it starts anew only with a loss that is below the one that last did so
    by more than ``min_delta``. Small gains therefore add up, until together they count.

    Attributes:
        patience: stop after this many validations without an improvement; None never stops.
        min_delta: an improvement is a loss below ``reference_loss`` by more than this (absolute,
            nats). With 0 every new best is one.
        best_loss, best_epoch, best_step: of the lowest validation; None and 0 before the first.
        without_improvement: validations since the last improvement.
        reference_loss: of the last improvement. None before the first, and in checkpoints of a
            time when only improvements were kept: there it is ``best_loss``.
    """

    patience: int | None
    min_delta: float = 0.0
    best_loss: float | None = None
    best_epoch: int = 0
    best_step: int = 0
    without_improvement: int = 0
    reference_loss: float | None = None

    def is_best(self, loss: float) -> bool:
        """Tell whether ``loss`` would be the lowest so far; NaN and infinity never are."""
        return math.isfinite(loss) and (self.best_loss is None or loss < self.best_loss)

    def improves(self, loss: float) -> bool:
        """Tell whether ``loss`` would start patience anew; NaN and infinity never do."""
        reference = self._reference
        return math.isfinite(loss) and (reference is None or loss < reference - self.min_delta)

    def after(self, loss: float, epoch: int, step: int) -> EarlyStopping:
        """Return the state after a validation."""
        improved = self.improves(loss)
        after = replace(
            self,
            reference_loss=loss if improved else self._reference,
            without_improvement=0 if improved else self.without_improvement + 1,
        )
        if not self.is_best(loss):
            return after
        return replace(after, best_loss=loss, best_epoch=epoch, best_step=step)

    @property
    def should_stop(self) -> bool:
        """Tell whether patience has run out."""
        return self.patience is not None and self.without_improvement >= self.patience

    @property
    def _reference(self) -> float | None:
        return self.best_loss if self.reference_loss is None else self.reference_loss


@dataclass(frozen=True)
class GapStatistics:
    """Running statistics of the gap over the validations of a run, the baseline left out."""

    count: int = 0
    total: float = 0.0
    highest: float = -math.inf
    lowest: float = math.inf
    at_best: float | None = None

    def after(self, gap: float, *, best: bool) -> GapStatistics:
        """Return the statistics with one more gap; ``best``: that of the lowest validation."""
        return GapStatistics(
            count=self.count + 1,
            total=self.total + gap,
            highest=max(self.highest, gap),
            lowest=min(self.lowest, gap),
            at_best=gap if best else self.at_best,
        )

    @property
    def mean(self) -> float | None:
        """The mean gap, or None before the first validation."""
        return self.total / self.count if self.count else None
