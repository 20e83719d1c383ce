"""How many steps, updates and validations a run has: plain arithmetic, known before it starts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """The plan of a run; a step is one micro-batch.

    Every example is used every epoch, so the last batch of an epoch, and the last update, may be
    smaller than the others.
    """

    examples: int
    batch_size: int
    gradient_accumulation: int
    num_epochs: int
    max_steps: int | None
    eval_steps: int
    has_validation: bool

    @property
    def steps_per_epoch(self) -> int:
        """Micro-batches in an epoch."""
        return -(-self.examples // self.batch_size)

    @property
    def updates_per_epoch(self) -> int:
        """Updates of the optimizer in an epoch."""
        return -(-self.steps_per_epoch // self.gradient_accumulation)

    @property
    def total_steps(self) -> int:
        """Micro-batches in the run: all epochs, or ``max_steps`` if that is less."""
        steps = self.steps_per_epoch * self.num_epochs
        return steps if self.max_steps is None else min(steps, self.max_steps)

    @property
    def validation_steps(self) -> range:
        """The steps after which the run validates; the baseline before step 1 is not among them.

        A run shorter than ``eval_steps`` validates once, at its end: without that no adapter could
        be called the best.
        """
        if not self.has_validation or self.total_steps == 0:
            return range(0)
        if self.total_steps < self.eval_steps:
            return range(self.total_steps, self.total_steps + 1)
        return range(self.eval_steps, self.total_steps + 1, self.eval_steps)

    def position(self, step: int) -> tuple[int, int]:
        """Return the epoch of ``step`` and its batch within it, both from 0; steps are from 1."""
        return divmod(step - 1, self.steps_per_epoch)

    def place_in_update(self, step: int) -> int:
        """Return how many steps of the same update come before ``step``."""
        return self.position(step)[1] % self.gradient_accumulation

    def ends_update(self, step: int) -> bool:
        """Tell whether the optimizer updates after ``step``: accumulation full, or epoch over."""
        _, index = self.position(step)
        full = (index + 1) % self.gradient_accumulation == 0
        return full or index + 1 == self.steps_per_epoch or step == self.total_steps

    def updates(self, step: int) -> int:
        """Return how many updates there are up to the one that ``step`` belongs to, with it."""
        epoch, index = self.position(step)
        return epoch * self.updates_per_epoch + index // self.gradient_accumulation + 1

    @property
    def total_updates(self) -> int:
        """Updates of the optimizer in the run."""
        return self.updates(self.total_steps) if self.total_steps else 0

    def last_step(self, update: int) -> int:
        """Return the step that an update ends with; both are counted from 1."""
        epoch, index = divmod(update - 1, self.updates_per_epoch)
        within = min((index + 1) * self.gradient_accumulation, self.steps_per_epoch)
        return min(epoch * self.steps_per_epoch + within, self.total_steps)
