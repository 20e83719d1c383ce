"""How many targets meet the vocabulary at once: what training computes by, and an estimate counts.

Imports no MLX.
"""

from __future__ import annotations

import math

FLOAT32 = 4
# Bytes of float32 logits that are held at once: a batch with more of them goes by slices. What the
# loss makes of them takes seven times that. In a vocabulary of 49,152, 128 targets are within it.
SLICE_BYTES = 24 << 20
# A slice has at least so many rows all the same: each reads the vocabulary matrix anew. Of 512 rows
# in a vocabulary of 248,320 on a CPU, that took at most 11% more of a core's time for 128 rows at
# once, 20 to 30% for 64, and 114% for 16.
LEAST_ROWS = 128


def slice_rows(rows: int, vocabulary: int, limit: int, least: int = LEAST_ROWS) -> int:
    """Return how many rows at a time are computed: all of them, or slices of about one size.

    It depends on shapes alone, so that a run that is resumed computes the same bits.

    Args:
        limit: bytes that the float32 logits of a slice may take.
        least: rows that a slice may have whatever they take.
    """
    count = math.ceil(rows * vocabulary * FLOAT32 / max(limit, least * vocabulary * FLOAT32))
    return math.ceil(rows / max(1, min(count, rows)))
