"""The learning rate of each update: the schedule of a run. Pure."""

from __future__ import annotations

from jobs.config.config import TrainConfig


def learning_rate(config: TrainConfig, step: int, rollbacks: int) -> float:
    """Return the rate of an update at ``step``: linear warmup counted in steps, then constant.

    Each rollback has halved it.
    """
    highest = config.learning_rate * 0.5**rollbacks
    return highest * (min(1.0, step / config.warmup_steps) if config.warmup_steps else 1.0)
