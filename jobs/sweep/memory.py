"""Whether a trial would fit into the machine: by what was estimated, and by what was met.

Sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable

from jobs.config.config import TrainConfig


def too_large(
    config: TrainConfig,
    estimated: int | None,
    limit: int | None,
    out_of_memory: Iterable[tuple[int, TrainConfig]],
) -> str | None:
    """Return why a trial is not to be started; None where it may.

    Args:
        estimated: what a run of it would take (:mod:`jobs.resources.estimate`); None where that is
            not known.
        limit: what there is; None where that is not known.
        out_of_memory: the trials that ran out of memory, by number: what is at least as large in
            every respect would, too.
    """
    for number, known in out_of_memory:
        if at_least_as_large(config, known):
            return f"never started: trial {number}, which is no larger, ran out of memory"
    if estimated is not None and limit is not None and estimated > limit:
        return (
            f"never started: it would need about {estimated / 1e9:.2f} GB of memory, and there are "
            f"{limit / 1e9:.2f} GB"
        )
    return None


def at_least_as_large(config: TrainConfig, other: TrainConfig) -> bool:
    """Tell whether a run takes at least as much memory as another, in every respect."""
    pairs = (
        (config.batch_size, other.batch_size),
        (config.max_seq_length, other.max_seq_length),
        (config.lora.rank, other.lora.rank),
        (config.lora.num_layers, other.lora.num_layers),
        (other.grad_checkpoint, config.grad_checkpoint),
    )
    return set(other.lora.keys) <= set(config.lora.keys) and all(a >= b for a, b in pairs)
