"""The metrics files: a record that is appended to, and two views derived from it.

``training_metrics.jsonl`` is the record: a row costs one append, however many there are. The JSON
list and the CSV table are rewritten when asked and by :data:`GROWTH` and
:data:`GROWTH_AT_VALIDATION`: by a share of the record, so that all rewriting together stays
proportional to the rows.
"""

from __future__ import annotations

import csv
import io
import os
from dataclasses import asdict, fields
from typing import IO

import orjson

from jobs.events import TrainMetrics
from jobs.paths import RunDirectory
from jobs.storage.files import append, plain, whole_lines, write_with

COLUMNS = [field.name for field in fields(TrainMetrics)]

# The views are rewritten once the record has grown this much since the last time. A validation
# shows at once in a record of up to 50 rows and at most a fiftieth of the rows late in a longer
# one: rewriting at every validation would take time quadratic in the rows.
GROWTH = 1.1
GROWTH_AT_VALIDATION = 1.02


class MetricsFiles:
    """The metrics of one run; the only writer of its three files."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        run.metrics.touch()
        self._rows = sum(1 for _ in whole_lines(run.metrics))
        self._rows_at_rewrite = self._rows

    def add(self, row: TrainMetrics) -> None:
        """Append a row; rewrite the views if the record has grown enough since last time."""
        append(self._run.metrics, orjson.dumps(plain(asdict(row))))
        self._rows += 1
        growth = GROWTH if row.val_loss is None else GROWTH_AT_VALIDATION
        if self._rows >= growth * self._rows_at_rewrite:
            self.rewrite()

    def rewrite(self) -> None:
        """Bring ``training_metrics.json`` and ``.csv`` up to date; a reader never sees a part."""
        write_with(self._run.metrics_json, self._write_list)
        write_with(self._run.metrics_csv, self._write_table)
        self._rows_at_rewrite = self._rows

    @property
    def length(self) -> int:
        """Bytes in the record, which are on disk from now on; a checkpoint notes it."""
        with self._run.metrics.open("rb") as file:
            os.fsync(file.fileno())
            return os.fstat(file.fileno()).st_size

    def cut(self, length: int) -> None:
        """Take the record back to ``length`` bytes: what followed will be trained again.

        Raises:
            ValueError: it is shorter than that.
        """
        if self._run.metrics.stat().st_size < length:
            raise ValueError(f"{self._run.metrics.name} has lost rows")
        with self._run.metrics.open("r+b") as file:
            file.truncate(length)
            os.fsync(file.fileno())
        self._rows = sum(1 for _ in whole_lines(self._run.metrics))
        self.rewrite()

    def _write_list(self, file: IO[bytes]) -> None:
        separator = b"[\n"
        for line in whole_lines(self._run.metrics):
            file.write(separator + line)
            separator = b",\n"
        file.write(b"[]\n" if separator == b"[\n" else b"\n]\n")

    def _write_table(self, file: IO[bytes]) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        table = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
        table.writeheader()
        for line in whole_lines(self._run.metrics):
            table.writerow(orjson.loads(line))
        text.detach()
