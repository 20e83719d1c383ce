"""The losses before training, kept from job to job.

An adapter starts with B = 0 and adds exactly nothing, so what is measured before the first step are
the losses of the model itself: the same to the bit for all jobs that differ only in how they train,
as the trials of a sweep do. They are kept under a name that says all they depend on::

    .farense/baselines/<key>.json
      key           the file's own name: a file that was renamed is not believed
      valid, train  the losses, nats per token
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import orjson

from jobs.config import TrainConfig
from jobs.errors import WorkspaceError
from jobs.files import add_part, keep_newest, read_json, write_json
from jobs.order import Order
from jobs.results import Losses

KEPT_FILES = 64
# What cannot change what the model gives before training. All other settings count.
TRAINING_ONLY = {
    *("data", "model", "seed", "batch_size", "gradient_accumulation", "learning_rate"),
    *("adam_bias_correction", "weight_decay", "warmup_steps", "max_grad_norm", "num_epochs"),
    *("max_steps", "save_steps", "eval_steps", "log_steps", "keep_checkpoints"),
    *("early_stopping_patience", "early_stopping_min_delta", "on_divergence", "on_oom"),
    *("stall_minutes", "max_hours"),
}
TRAINING_ONLY_LORA = {"rank", "dropout"}


class Baseline:
    """The losses before training of one job.

    Args:
        folder: where they are kept; made where it is missing.
        key: of what they depend on (:func:`baseline_key`).
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key

    def losses(self, measure: Callable[[], Losses]) -> Losses:
        """Return the losses: those that an earlier job has measured, else measured now."""
        found = self._recall()
        if found is None:
            found = measure()
            self._keep(found)
        return found

    @property
    def _file(self) -> Path:
        return self._folder / f"{self._key}.json"

    def _recall(self) -> Losses | None:
        try:
            stored = read_json(self._file)
            valid, train = float(stored["valid"]), float(stored["train"])
            whole = stored["key"] == self._key and math.isfinite(valid + train)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Losses(valid, train, seconds=0.0, valid_seconds=0.0) if whole else None

    def _keep(self, losses: Losses) -> None:
        if not math.isfinite(losses.valid + losses.train):
            return
        # A full or read-only disk: measured again next time.
        with suppress(OSError, WorkspaceError):
            self._folder.parent.mkdir(mode=0o700, exist_ok=True)
            value = {"key": self._key, "valid": losses.valid, "train": losses.train}
            write_json(self._file, value)
            keep_newest(self._folder, KEPT_FILES)


def baseline_key(order: Order, config: TrainConfig, parts: Mapping[str, str]) -> str:
    """Return the key of a job's baseline: 64 hexadecimal digits.

    Args:
        parts: what else the bits depend on, by name: what computes, the weights.
    """
    settings = config.model_dump(mode="json", exclude=TRAINING_ONLY)
    settings["lora"] = config.lora.model_dump(mode="json", exclude=TRAINING_ONLY_LORA)
    files = [file.sha256 for file in (order.train, order.valid) if file]
    digest = hashlib.sha256()
    add_part(digest, "settings", orjson.dumps(settings, option=orjson.OPT_SORT_KEYS))
    add_part(digest, "data", "\n".join(files).encode())
    for name, value in sorted(parts.items()):
        add_part(digest, name, value.encode())
    # All code counts by its content: nobody would remember to raise a number with every change.
    package = Path(__file__).parent
    for module in sorted(package.rglob("*.py")):
        add_part(digest, str(module.relative_to(package)), module.read_bytes())
    return digest.hexdigest()
