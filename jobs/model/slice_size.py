"""How many targets meet the vocabulary at once: what training computes by, and an estimate counts.

Imports no MLX.
"""

from __future__ import annotations

import math

FLOAT32 = 4
# Bytes of float32 logits that are held at once: a batch with more of them goes by slices. Chosen by
# measuring 512 rows in a vocabulary of 248,320 on a CPU: each slice reads the vocabulary matrix
# anew, which is at most 11% more of a core's time for 128 rows at once, 20 to 30% for 64, and 114%
# for 16. In a vocabulary of 49,152, 682 targets are within it.
SLICE_BYTES = 128 << 20


def slice_rows(rows: int, vocabulary: int, limit: int) -> int:
    """Return how many rows at a time are computed: all of them, or slices of about one size.

    It depends on shapes alone, so that a run that is resumed computes the same bits.

    Args:
        limit: bytes that the float32 logits of a slice may take.
    """
    count = math.ceil(rows * vocabulary * FLOAT32 / limit)
    return math.ceil(rows / max(1, min(count, rows)))
