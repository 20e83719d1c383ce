"""The header of a GGUF: which tensors the file holds, of which kind, and where.

MLX stops reading without an error at the first tensor of a kind it does not know, makes float16 of
bfloat16, and mistakes Q4_K. So a file's kinds are looked at here first, and what MLX would change
is read by this.
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from jobs.errors import ModelError

# The kinds of tensors by their numbers in a file; a gap is a kind that was given up.
KINDS = {
    **dict(enumerate(("F32", "F16", "Q4_0", "Q4_1"))),
    **dict(enumerate(("Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K"), 6)),
    **dict(enumerate(("Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL"), 14)),
    **dict(enumerate(("IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64", "F64"), 21)),
    29: "IQ1_M",
    30: "BF16",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
    40: "NVFP4",
}
# Of the values of metadata, by the numbers of their types: how each is packed.
NUMBERS = dict(enumerate(("<B", "<b", "<H", "<h", "<I", "<i", "<f", "<?")))
NUMBERS |= {10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
ALIGNMENT = "general.alignment"
MOST_LEVELS, MOST_DIMENSIONS = 4, 8


@dataclass(frozen=True)
class GgufTensor:
    """One tensor as the header describes it.

    Attributes:
        kind: ``Q4_1``, say; ``type 77`` where the number is not known.
        shape: rows first.
        offset: of its first byte in the file.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    offset: int


def read_gguf_header(path: Path) -> dict[str, GgufTensor]:
    """Return the tensors that a GGUF holds, by name.

    Raises:
        ModelError: the file is no GGUF, or its header is damaged.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            tensors = _HeaderReader(file, size).tensors()
        except (struct.error, ValueError, OverflowError, MemoryError) as error:
            raise ModelError(f"{path.name} is not a GGUF, or is damaged: {error}.") from error
    for tensor in tensors:
        if tensor.offset > size:
            raise ModelError(f"{path.name} is damaged: it ends before its tensor {tensor.name}.")
    return {tensor.name: tensor for tensor in tensors}


def read_content(path: Path, tensor: GgufTensor, size: int) -> bytes:
    """Return the bytes of a tensor.

    Args:
        size: how many it has.

    Raises:
        ModelError: the file ends before they do.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        file.seek(tensor.offset)
        found = file.read(size)
    if len(found) < size:
        raise ModelError(f"{path.name} is damaged: it ends within its tensor {tensor.name}.")
    return found


class _HeaderReader:
    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size = file, size

    def tensors(self) -> list[GgufTensor]:
        if self._file.read(4) != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        version, tensors, values = self._unpack("<I"), self._count(), self._count()
        if version not in (2, 3):
            raise ValueError(f"its version is {version}, expected 2 or 3")
        alignment = 32
        for _ in range(values):
            name, value = self._text(), self._value(self._unpack("<I"))
            if name == ALIGNMENT:
                alignment = int(value)
        if alignment < 1:
            raise ValueError(f"its alignment is {alignment}")
        found = [self._tensor() for _ in range(tensors)]
        start = -(-self._file.tell() // alignment) * alignment
        return [GgufTensor(name, kind, shape, start + at) for name, kind, shape, at in found]

    def _tensor(self) -> tuple[str, str, tuple[int, ...], int]:
        name, dimensions = self._text(), self._unpack("<I")
        if dimensions > MOST_DIMENSIONS:
            raise ValueError(f"{name} has {dimensions} dimensions")
        shape = tuple(self._unpack("<Q") for _ in range(dimensions))[::-1]
        number, offset = self._unpack("<I"), self._unpack("<Q")
        return name, KINDS.get(number, f"type {number}"), shape, offset

    def _value(self, kind: int, level: int = 0) -> Any:
        """Return a number, and None for what is only passed over."""
        if kind in NUMBERS:
            return self._unpack(NUMBERS[kind])
        if kind == STRING:
            self._text()
            return None
        if kind != ARRAY or level == MOST_LEVELS:
            raise ValueError(f"a value of its metadata has the type {kind}")
        of, count = self._unpack("<I"), self._count()
        if of in NUMBERS:
            self._skip(count * struct.calcsize(NUMBERS[of]))
        else:
            for _ in range(count):
                self._value(of, level + 1)
        return None

    def _text(self) -> str:
        length = self._count()
        return self._file.read(length).decode("utf-8", "replace")

    def _count(self) -> int:
        """Return a number of things that each take at least one byte of what is left."""
        count: int = self._unpack("<Q")
        if count > self._size - self._file.tell():
            raise ValueError("it ends within its header")
        return count

    def _skip(self, size: int) -> None:
        if size > self._size - self._file.tell():
            raise ValueError("it ends within its header")
        self._file.seek(size, 1)

    def _unpack(self, form: str) -> Any:
        return struct.unpack(form, self._file.read(struct.calcsize(form)))[0]
