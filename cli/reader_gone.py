"""What becomes of a command whose output nobody reads any more: ``farense logs latest | head -1``.

Python ignores SIGPIPE and raises instead, in the middle of whatever was writing. A shell expects a
program that says nothing then, and that ends as if the signal had killed it.
"""

from __future__ import annotations

import os
import select
import sys
from contextlib import suppress

# 128 and the number of SIGPIPE, as shells count it.
READER_GONE = 141


def let_go_of_output() -> bool:
    """Send what is still to be written nowhere; False where every output has a reader.

    An error of another pipe, to a child or a server, is none of these.
    """
    gone = [
        number for stream in (sys.stdout, sys.stderr) if (number := _broken(stream)) is not None
    ]
    if gone:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for number in gone:
            # What a stream still holds is flushed at the exit, which would complain there.
            os.dup2(nowhere, number)
        os.close(nowhere)
    return bool(gone)


def _broken(stream: object) -> int | None:
    """Return the descriptor of a stream whose reader is gone, else None."""
    with suppress(AttributeError, OSError, ValueError):
        number: int = stream.fileno()  # type: ignore[attr-defined]  # None, or a stand-in, has none
        poll = select.poll()
        poll.register(number, 0)
        if poll.poll(0):
            return number
    return None
