"""``python -P -m daemon``: the daemon of ``$FARENSE_HOME``, in the foreground.

Nothing of the queue is defined here: Huey knows a task by its module, and this one is ``__main__``.
"""

from __future__ import annotations

import sys

from daemon.page.beside import page_of_environment
from daemon.worker.consumer import run_daemon
from jobs.errors import FarenseError, command_code
from jobs.paths import Workspace


def main() -> int:
    """Run the daemon; return its exit code."""
    try:
        workspace = Workspace.current()
        with page_of_environment(workspace):
            run_daemon(workspace)
    except FarenseError as error:
        sys.stderr.write(f"{error.message}\n{error.hint or ''}\n")
        return int(command_code(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
