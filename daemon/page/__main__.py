"""``python -P -m daemon.page``: the server of the page of ``$FARENSE_HOME``, for a daemon.

It says nothing of its token: what it writes goes into a log. ``farense ui --link`` tells.
"""

from __future__ import annotations

import argparse
import os
import sys

from daemon.page.address import LOOPBACK
from daemon.page.server import serve
from jobs.errors import FarenseError, command_code
from jobs.paths import Workspace


def main(arguments: list[str] | None = None) -> int:
    """Serve the page until this process is to end; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -P -m daemon.page", description=__doc__)
    parser.add_argument("--host", default=LOOPBACK)
    parser.add_argument("--port", type=int)
    parser.add_argument("--pipe", type=int, help="set by the daemon: its end means stop")
    options = parser.parse_args(arguments)
    os.umask(0o077)
    try:
        serve(Workspace.current(), options.host, options.port, pipe=options.pipe)
    except FarenseError as error:
        sys.stderr.write("\n".join(filter(None, (error.message, error.hint))) + "\n")
        return int(command_code(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
