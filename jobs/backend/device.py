"""What training would compute with, asked of a process of its own.

Importing MLX takes two seconds, and aborts where a driver is broken: who only wants to know must
not go down with it. ``python -P -m jobs.backend.device LANES`` prints the answer as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass

from jobs.backend.choice import CPU, VARIABLE
from jobs.errors import ConfigError, WorkspaceError

ANSWER_SECONDS = 120.0
ERROR_WIDTH = 200


@dataclass(frozen=True)
class Device:
    """What MLX computes with on this machine.

    Attributes:
        name: for people.
        backend: its name (:class:`jobs.backend.backend.Backend`).
        blas: file name of the fast BLAS that was loaded; None on a Mac or where there is none.
        lanes: how many micro-batches are computed at the same time.
        memory: limits that a GPU sets, bytes; empty on a CPU.
    """

    name: str
    backend: str
    blas: str | None
    lanes: int
    memory: tuple[int, ...]

    @property
    def as_stored(self) -> bool:
        """Whether weights stay as a model folder holds them; on a CPU they become float32."""
        return self.backend != CPU


def ask_device(useful_lanes: int) -> Device:
    """Return what a training process would compute with.

    Args:
        useful_lanes: see :meth:`jobs.backend.backend.Backend.lanes`.

    Raises:
        WorkspaceError: MLX cannot be used.
        ConfigError: ``FARENSE_BACKEND`` names what is not there.
    """
    command = [sys.executable, "-P", "-m", "jobs.backend.device", str(useful_lanes)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=ANSWER_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise WorkspaceError(
            f"MLX did not start within {ANSWER_SECONDS:.0f} s.", "Install it again: make setup"
        ) from error
    words = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    if done.returncode == ConfigError.exit_code:
        raise ConfigError(words, f"Change {VARIABLE}, or leave it out.")
    if done.returncode:
        raise WorkspaceError(
            f"MLX cannot be used: {words[:ERROR_WIDTH]}", "Install it again: make setup"
        )
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    return Device(**{**answer, "memory": tuple(answer["memory"])})


def this_device(useful_lanes: int) -> Device:
    """Return what this process computes with; imports MLX."""
    from jobs.backend.backend import backend  # noqa: PLC0415 - who asks another process needs none
    from jobs.backend.blas import blas_name  # noqa: PLC0415

    found = backend()
    lanes = len(found.lanes(useful_lanes))
    return Device(found.describe(), found.name, blas_name(), lanes, found.memory())


if __name__ == "__main__":
    try:
        print(json.dumps(asdict(this_device(int(sys.argv[1])))))
    except ConfigError as error:
        print(error.message, file=sys.stderr)
        sys.exit(error.exit_code)
