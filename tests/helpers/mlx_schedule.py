"""The learning rate as MLX's own schedules give it, to compare with."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import mlx.optimizers as optim


def mlx_schedule(
    kind: str, *, rate: float, lowest: float, warmup: int, updates: int
) -> Callable[[mx.array], mx.array]:
    """Return the rate of an update, counted from 1, as a function of MLX.

    Args:
        kind: ``constant``, ``linear`` or ``cosine``, from ``rate`` to ``lowest`` at the last.
        warmup: the update at which the rate is the full one; 0 for the first.
        updates: of the whole run.
    """
    peak = max(warmup, 1)
    decays = {
        "constant": lambda: optim.linear_schedule(rate, rate, 1),
        "linear": lambda: optim.linear_schedule(rate, lowest, updates - peak),
        "cosine": lambda: optim.cosine_decay(rate, updates - peak, lowest),
    }
    rising = optim.linear_schedule(0.0, rate, peak)
    joined: Callable[[mx.array], mx.array] = optim.join_schedules([rising, decays[kind]()], [peak])
    return joined
