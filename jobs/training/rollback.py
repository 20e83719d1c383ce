"""Steps whose loss or update is not finite: what to say, and whether the run goes back."""

from __future__ import annotations

from jobs.config.config import TrainConfig
from jobs.errors import Diverged

MAX_ROLLBACKS = 2


def diverged(step: int) -> Diverged:
    """Return the error of a run whose first bad step is ``step``."""
    return Diverged(
        f"The loss or an update became NaN or infinite at step {step}. "
        "The best adapter so far is kept; nothing was saved from that step on.",
        "Lower learning_rate, or give it a longer warmup.",
    )


def may_go_back(config: TrainConfig, rollbacks: int, error: Diverged) -> None:
    """Raise ``error`` where a run that went back ``rollbacks`` times before is to end with it."""
    if config.on_divergence == "stop":
        raise error
    if rollbacks >= MAX_ROLLBACKS:
        halved = f"The learning rate had been halved {rollbacks} times by then."
        raise Diverged(f"{error.message} {halved}", error.hint) from error


def rollback_warning(config: TrainConfig, step: int, rollbacks: int, error: Diverged) -> str:
    """Return what to tell a person whose run went back to ``step``."""
    halved = config.learning_rate * 0.5**rollbacks
    return (
        f"{error.message.partition('. ')[0]}. Going back to step {step} with learning_rate "
        f"{halved:g} (rollback {rollbacks} of {MAX_ROLLBACKS})."
    )
