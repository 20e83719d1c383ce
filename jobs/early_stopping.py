"""When to stop, and whether the model overfits: pure arithmetic over losses, no MLX."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

# The user's own bands: gap below the bound -> word.
GAP_BANDS = ((0.05, "EXCELENTE"), (0.15, "BOM"), (0.30, "MODERADO"))
WORST_BAND = "CRÍTICO"


def gap_status(gap: float) -> str:
    """Return the word for an overfitting gap (validation minus training loss, nats per token).

    A gap that is not a number is in the worst band.
    """
    return next((word for bound, word in GAP_BANDS if gap < bound), WORST_BAND)


@dataclass(frozen=True)
class EarlyStopping:
    """The best validation so far, and how many have passed since.

    Attributes:
        patience: stop after this many validations without an improvement; None never stops.
        min_delta: an improvement is a loss below the best by more than this (absolute, nats).
        best_loss, best_epoch, best_step: of the best validation; None and 0 before the first.
        without_improvement: validations since then.
    """

    patience: int | None
    min_delta: float = 0.0
    best_loss: float | None = None
    best_epoch: int = 0
    best_step: int = 0
    without_improvement: int = 0

    def improves(self, loss: float) -> bool:
        """Tell whether ``loss`` would be an improvement; NaN and infinity never are."""
        if not math.isfinite(loss):
            return False
        return self.best_loss is None or loss < self.best_loss - self.min_delta

    def after(self, loss: float, epoch: int, step: int) -> EarlyStopping:
        """Return the state after a validation."""
        if self.improves(loss):
            return replace(
                self, best_loss=loss, best_epoch=epoch, best_step=step, without_improvement=0
            )
        return replace(self, without_improvement=self.without_improvement + 1)

    @property
    def should_stop(self) -> bool:
        """Tell whether patience has run out."""
        return self.patience is not None and self.without_improvement >= self.patience


@dataclass(frozen=True)
class GapStatistics:
    """Running statistics of the gap over the validations of a run, the baseline left out."""

    count: int = 0
    total: float = 0.0
    highest: float = -math.inf
    lowest: float = math.inf
    at_best: float | None = None

    def after(self, gap: float, *, improved: bool) -> GapStatistics:
        """Return the statistics with one more gap."""
        return GapStatistics(
            count=self.count + 1,
            total=self.total + gap,
            highest=max(self.highest, gap),
            lowest=min(self.lowest, gap),
            at_best=gap if improved else self.at_best,
        )

    @property
    def mean(self) -> float | None:
        """The mean gap, or None before the first validation."""
        return self.total / self.count if self.count else None
