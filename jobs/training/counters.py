"""Where a run stands: the plain data that a checkpoint keeps beside the arrays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from jobs.config.config import TrainConfig
from jobs.data.batching import Batch
from jobs.training.early_stopping import EarlyStopping, GapStatistics


@dataclass
class Position:
    """Counters of a run.

    Attributes:
        step: micro-batches so far; the next one, and with it the place in the shuffled order,
            follows from this number and the seed.
        update: optimizer updates so far.
        update_targets: target tokens since the last update.
        row_targets, row_tokens: target tokens, and all tokens, since the last metrics row.
        row_seconds: time since then that is not on the running clock: of an attempt before this
            one, or (negative) what was no training.
        elapsed_before: seconds of the attempts before this one.
        peak_bytes: the most memory of MLX's that any attempt had in use.
        rollbacks: how often the run diverged and went back; each halves the learning rate.
    """

    early_stopping: EarlyStopping
    gaps: GapStatistics = field(default_factory=GapStatistics)
    step: int = 0
    update: int = 0
    update_targets: int = 0
    row_targets: int = 0
    row_tokens: int = 0
    row_seconds: float = 0.0
    baseline_val_loss: float | None = None
    elapsed_before: float = 0.0
    peak_bytes: int = 0
    rollbacks: int = 0

    @classmethod
    def start(cls, config: TrainConfig) -> Self:
        """Return the position before the first step."""
        patience, min_delta = config.early_stopping_patience, config.early_stopping_min_delta
        return cls(EarlyStopping(patience, min_delta or 0.0))

    def count(self, batches: Iterable[Batch]) -> None:
        """Take note of a step on a micro-batch, given in its pieces."""
        self.step += 1
        for batch in batches:
            self.update_targets += batch.target_count
            self.row_targets += batch.target_count
            self.row_tokens += batch.token_count

    def end_update(self) -> None:
        """Take note of an optimizer update."""
        self.update += 1
        self.update_targets = 0

    def start_row(self) -> None:
        """Take note of a metrics row."""
        self.row_targets = self.row_tokens = 0
        self.row_seconds = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain data; a gap statistic that is still infinite is left out."""
        values = asdict(self)
        if not self.gaps.count:
            del values["gaps"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the position that :meth:`as_dict` described.

        Raises:
            KeyError, TypeError: the values are of another kind.
        """
        names = {item.name for item in fields(cls)}
        kept = {key: value for key, value in values.items() if key in names}
        kept["early_stopping"] = EarlyStopping(**values["early_stopping"])
        kept["gaps"] = GapStatistics(**values.get("gaps", {}))
        return cls(**kept)
