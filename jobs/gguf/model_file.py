"""A whole model as a GGUF."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGML_QUANT_VERSION

from jobs.backend.mlx import mx
from jobs.gguf.architectures import architecture_of, write_settings
from jobs.gguf.precision import F32, Array, Precision
from jobs.gguf.rope import rope_tables
from jobs.gguf.tensors import TensorNames, WrittenTensor, language_only
from jobs.gguf.vocabulary import read_vocabulary, write_vocabulary
from jobs.gguf.writing import Planned, write_tensors, written

EMBEDDING = "token_embd.weight"


@dataclass
class GgufModel:
    """A model ready to be written, and known to have a form in a GGUF.

    Args:
        source: the folder that its tokenizer is in.
        settings: see :func:`jobs.gguf.architectures.settings_of`.
        weights: by mlx-lm's names, not computed yet.
        precision: of its matrices.

    Raises:
        ModelError: llama.cpp does not know the architecture or the tokenizer.
    """

    source: Path
    settings: Mapping[str, Any]
    weights: dict[str, mx.array]
    precision: Precision

    def __post_init__(self) -> None:
        """Find all names, before anything is computed."""
        self.found = architecture_of(self.settings)
        names = TensorNames(self.found, self.settings)
        self.tensors: dict[str, WrittenTensor] = {
            name: names.of(name) for name in language_only(self.weights)
        }
        self.tables = rope_tables(self.settings)
        self.planned = list(self._plan())
        self.vocabulary = read_vocabulary(self.source, self._embedding_rows())

    @property
    def bytes(self) -> int:
        """What the tensors take on disk."""
        return sum(tensor.bytes for tensor in self.planned)

    def write(self, path: Path, name: str) -> None:
        """Write the file; afterwards this object has no weights any more.

        Args:
            name: what the model is called.

        Raises:
            ModelError: a number is beyond what the precision reaches.
            WorkspaceError: the file cannot be written.
        """
        with written(path, self.found.name) as writer:
            writer.add_type("model")
            writer.add_name(name)
            writer.add_file_type(self.precision.file_type)
            writer.add_quantization_version(GGML_QUANT_VERSION)
            settings = {**self.settings, "vocab_size": len(self.vocabulary.tokens)}
            write_settings(writer, self.found, settings)
            write_vocabulary(writer, self.source, self.vocabulary)
            write_tensors(writer, path, self.planned, self._arrays())

    def _plan(self) -> Iterator[Planned]:
        for name, table in self.tables.items():
            yield Planned(name, table.shape, F32)
        for source, tensor in self.tensors.items():
            shape = tuple(self.weights[source].shape)
            yield Planned(tensor.name, shape, self.precision.of(tensor.name, shape))

    def _arrays(self) -> Iterator[Array]:
        yield from self.tables.values()
        for source, tensor in self.tensors.items():
            yield tensor.converted(self.weights.pop(source))
            mx.clear_cache()

    def _embedding_rows(self) -> int:
        return next(tensor.shape[0] for tensor in self.planned if tensor.name == EMBEDDING)
