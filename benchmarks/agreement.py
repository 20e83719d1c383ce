"""Whether two answers to one prompt are the same, and how close a call it was where they part."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from jobs.backend.mlx import mx, nn, scalar


def gap_where_they_part(
    module: nn.Module, prompt: Sequence[int], one: Sequence[int], other: Sequence[int]
) -> float | None:
    """Return by how much the best logit leads the second best where two greedy answers part.

    Computed from the whole text at once, without a cache, so in neither answer's way. None where
    they are the same.
    """
    if list(one) == list(other):
        return None
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    common = [token for token, _ in pairs]
    logits = module(mx.array([[*prompt, *common]]))[0, -1].astype(mx.float32)
    first, second = mx.sort(logits)[-1], mx.sort(logits)[-2]
    return scalar(first - second)
