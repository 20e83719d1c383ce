"""What a person should know of a run's plan before it starts. Pure."""

from __future__ import annotations

from jobs.config.config import TrainConfig
from jobs.config.step_plan import Schedule
from jobs.storage.formatting import counted
from jobs.training.learning_rate import warmup_steps


def foreseen(config: TrainConfig, plan: Schedule) -> str | None:
    """Return what will not come about in the run that a config describes; None where all will."""
    found = (_of_early_stopping(config, plan), _of_warmup(config, plan))
    return " ".join(filter(None, found)) or None


def _of_early_stopping(config: TrainConfig, plan: Schedule) -> str | None:
    count, patience = len(plan.validation_steps), config.early_stopping_patience
    if patience is None or count > patience:
        return None
    return (
        f"Early stopping cannot engage: the run has {count} validation"
        f"{'' if count == 1 else 's'} and a patience of {patience}. "
        "Lower eval_steps or early_stopping_patience, or train for more epochs."
    )


def _of_warmup(config: TrainConfig, plan: Schedule) -> str | None:
    warmup, total, updates = warmup_steps(config, plan), plan.total_steps, plan.total_updates
    falls = config.lr_schedule != "constant"
    if not warmup or warmup + falls <= total:
        return None
    missed = (
        f"lr_schedule: {config.lr_schedule} lowers nothing"
        if falls
        else "learning_rate is never reached"
    )
    done = (
        "Lower warmup_steps, or give warmup_ratio in its place."
        if config.warmup_ratio is None
        else f"Lower warmup_ratio, or train longer: this is {counted(updates, 'update')}."
    )
    return f"The warmup takes {warmup} steps, and the run has {total}: {missed}. {done}"
