"""What ``max_seq_length`` leaves of a job's data, told before the job is queued. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.data.lengths import Length, summarize
from jobs.errors import DataError


def check_fit(name: str, lengths: Sequence[Length], max_seq_length: int) -> str | None:
    """Return what a person should know of examples that ``max_seq_length`` cuts; None for nothing.

    Args:
        name: of the file, as the person knows it.
        lengths: of its examples, in tokens.

    Raises:
        DataError: no example is left.
    """
    found = summarize(lengths, "tokens", max_seq_length)
    left_out, truncated = found.left_out or 0, found.truncated or 0
    if left_out == len(lengths):
        raise DataError(
            f"{name}: no example is left to learn from: the prompts alone fill "
            f"max_seq_length={max_seq_length}.",
            f"The longest example has {found.longest} tokens: --set max_seq_length={found.longest}",
        )
    if not left_out and not truncated:
        return None
    return (
        f"{name}: of {len(lengths)} examples max_seq_length={max_seq_length} cuts {truncated} "
        f"short and leaves out {left_out}; the longest has {found.longest} tokens."
    )
