"""Writing a GGUF tensor by tensor: memory holds one of them, never the model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quant_shape_to_byte_shape

from jobs.gguf.precision import Array, stored, stored_bytes
from jobs.storage.files import explain

FLOATS = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}


@dataclass(frozen=True)
class Planned:
    """A tensor that will be written."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType

    @property
    def bytes(self) -> int:
        """What it takes."""
        return stored_bytes(self.shape, self.kind)


@contextmanager
def written(path: Path, architecture: str) -> Iterator[GGUFWriter]:
    """Yield a writer for what a GGUF says of itself; afterwards the file is on disk, or gone.

    Raises:
        WorkspaceError: the disk is full, or the file cannot be written.
    """
    writer = GGUFWriter(None, architecture)
    try:
        yield writer
        for file in writer.fout or ():
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        writer.close()
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise explain(error, path) from error
        raise
    writer.close()


def write_tensors(
    writer: GGUFWriter, path: Path, planned: list[Planned], arrays: Iterable[Array]
) -> None:
    """Write the file: what the writer was told, then the tensors, each made when its turn comes.

    Args:
        arrays: in float32, in the order of ``planned``.

    Raises:
        ModelError: a number is beyond what its precision reaches.
        OSError: the file cannot be written.
    """
    for tensor in planned:
        kind = tensor.kind
        floats = FLOATS.get(kind)
        shape = tensor.shape if floats else quant_shape_to_byte_shape(tensor.shape, kind)
        dtype = np.dtype(floats or np.uint8)
        writer.add_tensor_info(tensor.name, shape, dtype, tensor.bytes, raw_dtype=kind)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor, array in zip(planned, arrays, strict=True):
        writer.write_tensor_data(stored(tensor.name, array, tensor.kind))
