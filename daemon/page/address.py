"""Where the page of a workspace is served, and the links to it."""

from __future__ import annotations

import ipaddress
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

import orjson

from daemon.page.secret import Secret
from daemon.runs.private_folder import private_folder
from jobs.errors import FarenseError
from jobs.paths import Workspace
from jobs.storage.files import read_json, write_atomic
from jobs.storage.values import well_typed

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 8417
# Where that one is taken (by the page of another workspace, say), the next ones are tried.
PORTS_TRIED = 10
FILE = "page_address.json"
# The process of a page that has ended.
NOBODY = 0
# Asked for the way there, which sends nothing: a network that is nobody's.
SOMEWHERE = ("192.0.2.1", 9)


@dataclass(frozen=True)
class PageAddress:
    """Where a page is served: what its process listens on.

    Attributes:
        host: as it was given.
    """

    host: str
    port: int
    pid: int

    @property
    def shared(self) -> bool:
        """Whether other machines can reach it."""
        return not is_loopback(self.host)

    def links(self, secret: Secret) -> list[str]:
        """Return the links that open it, those for other machines last."""
        return [f"http://{name}:{self.port}/login?token={secret.token}" for name in self._names()]

    def _names(self) -> list[str]:
        if not self.shared:
            return [_bracketed(self.host)]
        if not _is_any(self.host):
            return [_bracketed(self.host)]
        own = _own_address()
        local = f"{socket.gethostname().partition('.')[0]}.local"
        return [LOOPBACK, *([own] if own else []), local]


def remember(workspace: Workspace, address: PageAddress) -> None:
    """Note where the page is served, for who asks for its link.

    Raises:
        WorkspaceError: the private folder cannot be written.
    """
    write_atomic(private_folder(workspace) / FILE, orjson.dumps(asdict(address)))


def forget(workspace: Workspace, address: PageAddress) -> None:
    """Note that nothing is served any more, unless another process has written its own.

    The port stays: the next page is served there again, where it is free.
    """
    if known_address(workspace) == address:
        with suppress(OSError, FarenseError):
            remember(workspace, replace(address, pid=NOBODY))


def last_port(workspace: Workspace) -> int | None:
    """Return the port on which the page was served last; None where that is not known."""
    found = _noted(workspace)
    return None if found is None else found.port


def known_address(workspace: Workspace) -> PageAddress | None:
    """Return where the page is served now; None where none is."""
    found = _noted(workspace)
    if found is None or found.pid <= NOBODY:
        return None
    try:
        os.kill(found.pid, 0)
    except (OSError, OverflowError):
        return None
    return found


def _noted(workspace: Workspace) -> PageAddress | None:
    try:
        found = PageAddress(**read_json(workspace.private / FILE))
    except (OSError, ValueError, TypeError):
        return None
    return found if well_typed(found) and 0 < found.port < 1 << 16 else None


def is_loopback(host: str) -> bool:
    """Tell whether an address is of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _own_address() -> str | None:
    """Return the address under which this machine is in its network; None without one."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect(SOMEWHERE)
        return str(asking.getsockname()[0])
    return None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
