"""The losses before training, kept from job to job.

An adapter starts with B = 0 and adds exactly nothing, so what is measured before the first step are
the losses of the model itself, or with ``init_from`` those of the adapter that it names: the same
to the bit for all jobs that differ only in how they train, as the trials of a sweep do. They are
kept under a name that says all they depend on::

    .farense/baselines/<key>.json
      key           the file's own name: a file that was renamed is not believed
      valid, train  the losses, nats per token
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from jobs.errors import WorkspaceError
from jobs.storage.files import keep_newest, read_json, write_json
from jobs.training.summary import Losses

KEPT_FILES = 64


class Baseline:
    """The losses before training of one job.

    Args:
        folder: where they are kept; made where it is missing.
        key: of what they depend on (:mod:`jobs.caches`).
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
