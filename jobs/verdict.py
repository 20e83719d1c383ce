"""What a training has come to, in a word: the one place where that is judged. Pure.

A gap tells how much better a model does on what it has seen. Of a model that has learned nothing it
tells nothing: validation and training loss may be equally high. So the losses come first, then the
gap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# The user's own bands: gap below the bound -> word.
GAP_BANDS = ((0.05, "EXCELENTE"), (0.15, "BOM"), (0.30, "MODERADO"))
WORST_BAND = "CRÍTICO"

# The best validation is not below the one before training.
NOT_LEARNED = "SEM APRENDIZAGEM"
# Below 0 by as much as the target allows above it: more than the chance of which examples are in
# the slice of the training set. Nats per token.
FAR_BELOW = -GAP_BANDS[1][0]
BELOW, BELOW_IN_TABLE = "validation below training", "val below train"
MARKS = {"EXCELENTE": "✅", "BOM": "✅", "MODERADO": "⚠️", "CRÍTICO": "🔴", NOT_LEARNED: "❌"}


@dataclass(frozen=True)
class Verdict:
    """What a training has come to. Losses are nats per token.

    Attributes:
        word: one of the user's four for the gap, or :data:`NOT_LEARNED`.
        best: the lowest validation loss after a step.
        gap: validation minus training loss there; None where it is not known.
        baseline: the validation loss before training; None where it is not known, as of runs that
            another program made: those are judged by the gap alone.
    """

    word: str
    best: float
    gap: float | None
    baseline: float | None

    @property
    def learned(self) -> bool:
        """Whether the best validation is below the one before training, as far as is known."""
        return self.word != NOT_LEARNED

    @property
    def far_below(self) -> bool:
        """Whether the run learned, and its gap is so far below 0 that it says something else."""
        return self.learned and is_far_below(self.gap)

    @property
    def mark(self) -> str:
        """The sign before the word; no check mark for what is nothing to be glad of."""
        return MARKS.get(self.word, "")

    @property
    def short(self) -> str:
        """The word, and in a few words what a gap far below 0 is."""
        return f"{self.word}, {BELOW}" if self.far_below else self.word

    @property
    def why(self) -> str:
        """What the word rests on: the losses, or the band of the gap."""
        if not self.learned and self.baseline is not None:
            return f"best {self.best:.4f} is not below {self.baseline:.4f} before training"
        bounds = {word: f"gap < {bound:.2f}" for bound, word in GAP_BANDS}
        return bounds.get(self.word, f"gap >= {GAP_BANDS[-1][0]:.2f}")

    @property
    def note(self) -> str | None:
        """What else there is to know, in a sentence; None where nothing is."""
        if not self.learned:
            return (
                "The model answers no better than before training, so its gap says nothing: try a "
                "lower learning rate, or a longer warmup."
            )
        if self.far_below:
            return (
                f"The gap is far below 0, with {BELOW}: that is not overfitting, but the "
                "validation set is easier than the training set, or has examples of it."
            )
        if self.baseline is None:
            return "Judged by the gap alone: no validation loss before training is known."
        return None


def verdict(
    *, baseline: float | None, best: float | None, gap: float | None, told: str | None = None
) -> Verdict | None:
    """Return what a training has come to; None while that cannot be said.

    That is before the first validation after a step (the gap of the baseline is that of the base
    model), without validation data, and where no validation was finite. What an evaluation
    measures is no training, and has no verdict.

    Args:
        baseline: the validation loss before training, where it was measured.
        best: the lowest validation loss after a step; of one validation that is judged by itself,
            its loss.
        gap: validation minus training loss at ``best``.
        told: the word in a file that does not hold the gap.
    """
    if best is None or not math.isfinite(best):
        return None
    known = baseline if baseline is not None and not math.isnan(baseline) else None
    if known is not None and best >= known:
        return Verdict(NOT_LEARNED, best, gap, known)
    word = told if gap is None else gap_status(gap)
    return None if word is None else Verdict(word, best, gap, known)


def word_of(found: Verdict | None) -> str | None:
    """Return the word of a verdict, for a file; None where there is none."""
    return None if found is None else found.word


def is_far_below(gap: float | None) -> bool:
    """Tell whether a gap is further below 0 than chance would have it."""
    return gap is not None and gap < FAR_BELOW


def gap_status(gap: float) -> str:
    """Return the word for an overfitting gap (validation minus training loss, nats per token).

    A gap that is not a number is in the worst band.
    """
    return next((word for bound, word in GAP_BANDS if gap < bound), WORST_BAND)
