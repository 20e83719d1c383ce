"""Which masks of mlx-lm hide what lies outside a window, known without looking into them.

Attention leaves out blocks of keys that nobody sees. What is in a mask is not known while a graph
is built; whoever makes it knows.
"""

from __future__ import annotations

import weakref
from typing import Any

from jobs.backend.mlx import base, mx

# Masks that mlx-lm made of a window, as long as they exist, by their id: the mask and the window.
_windows: dict[int, tuple[weakref.ref[mx.array], int]] = {}


def create_attention_mask(
    h: mx.array, cache: Any = None, window_size: int | None = None, return_array: bool = False
) -> mx.array | str | None:
    """Return the mask that mlx-lm's function of this name does, and remember its window."""
    mask: mx.array | str | None = base.create_attention_mask(h, cache, window_size, return_array)
    if isinstance(mask, mx.array) and cache is None:
        key = id(mask)
        forget = lambda _: _windows.pop(key, None)  # noqa: E731
        _windows[key] = weakref.ref(mask, forget), window_size or mask.shape[-1]
    return mask


def window_of(mask: mx.array | str | None) -> int | None:
    """Return how many keys a query sees at most, itself the last of them.

    Only a mask that :func:`create_attention_mask` returned is known: what is in it is not computed.
    """
    noted, window = _windows.get(id(mask), (None, None))
    return window if noted is not None and noted() is mask else None
