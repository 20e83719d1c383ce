"""The learning rate of each update: warmup, then constant, or down a line or a cosine. Pure."""

from __future__ import annotations

import math

from jobs.config.config import TrainConfig
from jobs.config.step_plan import Schedule


def learning_rate(config: TrainConfig, plan: Schedule, step: int, rollbacks: int = 0) -> float:
    """Return the rate of the update that ``step`` ends; each rollback has halved all of them.

    The warmup is a line from 0 to ``learning_rate`` at the last of its steps. The decay is counted
    in updates: it begins with the first update at the full rate and the run's last update has
    ``min_learning_rate``, as ``linear_schedule`` and ``cosine_decay`` of :mod:`mlx.optimizers`
    compute it. A run that early stopping ends has not come so far down.

    Args:
        plan: of the run that the config describes.
    """
    halved = 0.5**rollbacks
    warmup = warmup_steps(config, plan)
    if step < warmup:
        return config.learning_rate * halved * (step / warmup)
    first = plan.updates(max(warmup, 1))
    over = plan.total_updates - first
    if config.lr_schedule == "constant" or over < 1:
        return config.learning_rate * halved
    done = min(plan.updates(step) - first, over) / over
    left = 1 - done if config.lr_schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    lowest = config.min_learning_rate
    return (lowest + left * (config.learning_rate - lowest)) * halved


def warmup_steps(config: TrainConfig, plan: Schedule) -> int:
    """Return the step from which the rate is the full one; 0 where there is no warmup.

    Of ``warmup_ratio`` that is where so large a part of the run's updates ends, rounded up.
    """
    if config.warmup_ratio is None:
        return config.warmup_steps
    # Rounded first: 0.07 x 100 is 7.000000000000001.
    updates = math.ceil(round(config.warmup_ratio * plan.total_updates, 9))
    return plan.last_step(updates) if updates else 0
