"""Pickles that leave a trace where they are loaded."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.trace),))


def pickles(trace: Path) -> list[bytes]:
    """Return a pickle in each protocol that makes the folder ``trace`` where it is loaded."""
    return [pickle.dumps(Trap(trace), protocol) for protocol in range(6)]
