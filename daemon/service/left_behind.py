"""Services of farense that start nothing any more: a workspace or a clone was moved or removed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from daemon.service.base import COMMAND, Service
from daemon.service.service import service_of
from jobs.paths import Workspace


def stale_services(
    workspace: Workspace, service: Service | None = None
) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with each service that cannot start, and what to do.

    That of ``workspace`` may start a Python that is not there, or another one; those of other
    workspaces are told where their folder is gone.

    Args:
        service: of the workspace; by default as this system has them.
    """
    service = service or service_of(workspace)
    for file in sorted(service.path.parent.glob(f"farense-*{service.path.suffix}")):
        try:
            program, home = service.parse(file.read_bytes())
        except (OSError, ValueError):
            continue
        if file == service.path and program != COMMAND[0]:
            yield (
                f"The service of this workspace starts {program}, which is not the Python of this "
                "farense.",
                "Replace it: farense daemon install",
            )
        elif not Path(home).is_dir():
            yield (
                f"A service is installed for {home}, which is not there any more.",
                f"Remove it: FARENSE_HOME={shlex.quote(home)} farense daemon uninstall",
            )
