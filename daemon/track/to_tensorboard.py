"""TensorBoard: one event file a run, which is continued at its last whole event."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.summary.writer.record_writer import RecordWriter

from daemon.track.source import Row, TrackedEnd, curves
from daemon.track.writer import TrackedRun, seconds_of

FILE = "events.out.tfevents.farense"
# What stands under these is no row.
SUMMARY, EVALUATION, CONFIG = "summary", "evaluation", "config"
BESIDE_ROWS = (SUMMARY, EVALUATION, CONFIG)
# Before and behind the data of an event: its length with a checksum, and the data's checksum.
HEAD, TAIL = 12, 4
# The first bytes of a PNG up to its width and height.
PNG_SIZE = slice(16, 24)


class TensorBoardRun:
    """A run's event file, in a folder of the run's name.

    A curve's values are rounded to 32 bits: doubles, which the format has too, are not shown by the
    server that TensorBoard starts unless it is told otherwise (findings/tensorboard-doubles.sh).
    """

    def __init__(self, run: TrackedRun) -> None:
        self._run = run
        self._path = run.folder / run.id / FILE
        self._held: set[tuple[str, int]] = set()

    def begin(self) -> int:
        """Cut off what a kill left unfinished, and note what the file holds."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        end = 0
        for end, event in whole_events(self._path):  # noqa: B007 - the last one counts
            self._held |= {(value.tag, event.step) for value in event.summary.value}
        self._file = self._path.open("ab")
        self._file.truncate(end)
        self._records = RecordWriter(self._file)
        if not end:
            version = event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2")
            self._records.write(version.SerializeToString())
        self._add(0, time.time(), [_text(CONFIG, _table(self._run.config))])
        steps = (step for tag, step in self._held if tag.partition("/")[0] not in BESIDE_ROWS)
        return max(steps, default=-1)

    def rows(self, rows: Sequence[Row]) -> None:
        """Write an event for each row."""
        for row in rows:
            values = [_scalar(name, value) for name, value in curves(row).items()]
            self._add(row["step"], seconds_of(row), values)

    def outcome(self, kind: str, found: TrackedEnd, step: int) -> None:
        """Write figures, words and pictures."""
        values = [_scalar(f"{kind}/{name}", value) for name, value in found.figures.items()]
        values.append(_text(f"{kind}/all", _table(found.summary)))
        values += [_image(f"{kind}/{name}", path) for name, path in found.plots.items()]
        if kind == EVALUATION:  # a later one counts, too
            self._held -= {(value.tag, step) for value in values}
        self._add(step, time.time(), values)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _add(self, step: int, seconds: float, values: list[Any]) -> None:
        new = [value for value in values if (value.tag, step) not in self._held]
        if new:
            event = event_pb2.Event(
                wall_time=seconds, step=step, summary=summary_pb2.Summary(value=new)
            )
            self._records.write(event.SerializeToString())
            self._records.flush()
            self._held |= {(value.tag, step) for value in new}


def whole_events(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the whole events of a file, each with the place where it ends."""
    content, at = path.read_bytes() if path.exists() else b"", 0
    while at + HEAD <= len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        data = content[at + HEAD : at + HEAD + length]
        end = at + HEAD + length + TAIL
        if end > len(content) or content[end - TAIL : end] != struct.pack(
            "<I", masked_crc32c(data)
        ):
            return
        yield end, event_pb2.Event.FromString(data)
        at = end


def _scalar(tag: str, value: float) -> Any:
    return summary_pb2.Summary.Value(tag=tag, simple_value=value)


def _text(tag: str, text: str) -> Any:
    about = summary_pb2.SummaryMetadata(
        plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name="text"),
        data_class=summary_pb2.DATA_CLASS_TENSOR,
    )
    tensor = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING,
        tensor_shape=tensor_shape_pb2.TensorShapeProto(),
        string_val=[text.encode()],
    )
    return summary_pb2.Summary.Value(tag=tag, metadata=about, tensor=tensor)


def _image(tag: str, path: Path) -> Any:
    content = path.read_bytes()
    width, height = struct.unpack(">II", content[PNG_SIZE])
    image = summary_pb2.Summary.Image(
        width=width, height=height, colorspace=4, encoded_image_string=content
    )
    return summary_pb2.Summary.Value(tag=tag, image=image)


def _table(values: dict[str, Any]) -> str:
    """Return a table in Markdown, as TensorBoard shows texts."""
    lines = [f"| {name} | {value} |" for name, value in values.items()]
    return "\n".join(("| | |", "|---|---|", *lines))
