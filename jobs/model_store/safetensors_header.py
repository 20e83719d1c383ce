"""The header of a safetensors file: what it holds, without reading the weights.

The format: eight bytes with the header's length (little-endian), the header (JSON), the data.
https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import orjson

from jobs.errors import ModelError

MAX_HEADER_BYTES = 100_000_000  # the limit of the format's own reader


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a file: its safetensors type name and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, TensorEntry]:
    """Return the tensors that a safetensors file holds.

    Raises:
        ModelError: the file is torn, empty, or not a safetensors file.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    raw = raw_header(path)
    try:
        entries = orjson.loads(raw[8:])
        entries.pop("__metadata__", None)
        ends = [entry["data_offsets"][1] for entry in entries.values()]
        tensors = {
            name: TensorEntry(str(entry["dtype"]), tuple(int(n) for n in entry["shape"]))
            for name, entry in entries.items()
        }
        expected = len(raw) + max(ends, default=0)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is damaged: its header is not valid ({error}).") from error
    if size != expected:
        raise ModelError(f"{path} is damaged: it has {size} bytes, its header says {expected}.")
    return tensors


def raw_header(path: Path) -> bytes:
    """Return the bytes of a safetensors file before its data.

    Raises:
        ModelError: the file ends before its header does.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or not 2 <= length <= MAX_HEADER_BYTES:
            raise ModelError(f"{path} is not a safetensors file, or is damaged.")
        header = file.read(length)
    if len(header) < length:
        raise ModelError(f"{path} is damaged: it ends within its header.")
    return prefix + header
