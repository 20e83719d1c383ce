"""What the tensors of a model are called in a GGUF, and in which order their rows stand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from gguf import get_tensor_name_map

from jobs.backend.mlx import mx
from jobs.errors import ModelError
from jobs.gguf.architectures import GgufArchitecture, kv_heads

Array = np.ndarray[Any, np.dtype[Any]]
# A multimodal model's language part, as mlx-lm names it.
LANGUAGE = "language_model."
SUFFIXES = (".weight", ".bias")
# How a projection is called whose rows belong to the heads of queries, or of keys.
QUERIES, KEYS = "q_proj", "k_proj"


@dataclass(frozen=True)
class WrittenTensor:
    """A tensor of the model in a GGUF.

    Attributes:
        name: there, with ``.weight`` or ``.bias``.
        heads: between whose two halves its rows are interleaved; None where they stay.
        offset: added to each element.
    """

    name: str
    heads: int | None = None
    offset: float = 0.0

    def rows(self, rows: Array) -> Array:
        """Return rows [R, ...] in the order in which the GGUF holds them."""
        return rows if self.heads is None else interleaved(rows, self.heads)

    def converted(self, array: mx.array) -> Array:
        """Return a tensor as the GGUF holds it, in float32."""
        return self.rows(numbers(array)) + np.float32(self.offset)


def numbers(array: mx.array) -> Array:
    """Return an array of MLX as one of NumPy, in float32."""
    return np.array(array.astype(mx.float32))


def interleaved(rows: Array, heads: int) -> Array:
    """Return rows [R, ...] with the two halves of each head one from each in turn.

    mlx-lm rotates element i of a head with i + size / 2, llama.cpp neighbours: (0, 1), (2, 3), ...
    """
    halves = rows.reshape(heads, 2, -1, *rows.shape[1:])
    return cast(Array, halves.swapaxes(1, 2).reshape(rows.shape))


class TensorNames:
    """The names of one architecture's tensors.

    Args:
        settings: of the model; see :func:`jobs.gguf.architectures.settings_of`.
    """

    def __init__(self, found: GgufArchitecture, settings: Mapping[str, Any]) -> None:
        self._found = found
        self._names = get_tensor_name_map(found.arch, settings["num_hidden_layers"])
        self._heads = {QUERIES: settings["num_attention_heads"], KEYS: kv_heads(settings)}

    def of(self, name: str) -> WrittenTensor:
        """Return the tensor that mlx-lm calls ``name``, which ends in ``.weight`` or ``.bias``.

        Raises:
            ModelError: a GGUF of this architecture has none.
        """
        bare = name.removeprefix(LANGUAGE)
        there = self._names.get_name(bare, try_suffixes=SUFFIXES)
        if there is None:
            raise ModelError(
                f"No GGUF can be written: a {self._found.name} model has no {name} in one."
            )
        layer = bare.rsplit(".", 2)[-2]
        heads = self._heads.get(layer) if self._found.interleaved else None
        offset = self._found.norm_offset if re.search(r"norm\.weight$", bare) else 0.0
        return WrittenTensor(there, heads, offset)


def language_only(names: Iterable[str]) -> list[str]:
    """Return the names of a model's language part: all, or those below ``language_model``."""
    all_names = list(names)
    inner = [name for name in all_names if name.startswith(LANGUAGE)]
    return inner or all_names
