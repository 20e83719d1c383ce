"""Starting a process of ours that ends when its starter does, however that ends: by a pipe."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from jobs.paths import Workspace


@dataclass(frozen=True)
class Piped:
    """A process in a session of its own, and the write end of its pipe, which only we hold."""

    process: subprocess.Popen[bytes]
    pipe: int


def start(
    command: Sequence[str],
    workspace: Workspace,
    environment: Mapping[str, str],
    output: IO[bytes],
) -> Piped:
    """Start ``command``, to which ``--pipe`` and the number of the pipe's read end are added.

    Args:
        output: takes what it writes to stdout and stderr.

    Raises:
        OSError: it cannot be started.
    """
    theirs, ours = os.pipe()
    # What is said into it must never wait for a process that does not listen.
    os.set_blocking(ours, False)
    try:
        process = subprocess.Popen(
            [*command, "--pipe", str(theirs)],
            cwd=workspace.root,
            env={**environment, "FARENSE_HOME": str(workspace.root)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(theirs,),
            start_new_session=True,
        )
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return Piped(process, ours)
