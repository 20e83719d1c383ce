"""The page's server: one process, one thread of asyncio, and threads for what waits for Redis."""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import uvicorn

from daemon.page.address import (
    DEFAULT_PORT,
    LOOPBACK,
    PORTS_TRIED,
    PageAddress,
    forget,
    is_loopback,
    last_port,
    remember,
)
from daemon.page.app import page_of
from daemon.page.guard import names_of_this_machine
from daemon.page.live import Live
from daemon.page.secret import Secret
from jobs.errors import InvalidInput
from jobs.paths import Workspace

# A browser that does not close its stream is not waited for any longer.
CLOSE_SECONDS = 2


class PageServer(uvicorn.Server):
    """uvicorn's server, which lets go of open pages when it ends."""

    def __init__(self, config: uvicorn.Config, live: Live) -> None:
        super().__init__(config)
        self._live = live

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: the streams first, which would never end by themselves."""
        await self._live.close()
        await super().shutdown(sockets)


def serve(
    workspace: Workspace,
    host: str = LOOPBACK,
    port: int | None = None,
    *,
    pipe: int | None = None,
    ready: Callable[[PageAddress], object] = lambda address: None,
) -> None:
    """Serve the page until SIGINT or SIGTERM, or until ``pipe`` ends.

    Args:
        host: the address that is listened on.
        port: None for that of the last time, or else the first of a few that is free.
        ready: is told where the page is, once it can be opened.

    Raises:
        InvalidInput: the host is no address of this machine, or the port is taken.
        WorkspaceError: the private folder cannot be written.
    """
    Secret.of(workspace)  # what is wrong with the private folder is told before it is served
    with closing(bound(host, port, last_port(workspace))) as listening:
        address = PageAddress(host, listening.getsockname()[1], os.getpid())
        shared = not is_loopback(host)
        names = {host, *(names_of_this_machine() if shared else ())}
        application, live = page_of(
            workspace, lambda: Secret.of(workspace), names=names, any_address=shared
        )
        config = uvicorn.Config(
            application,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=CLOSE_SECONDS,
        )
        server = PageServer(config, live)
        _listen_for_the_end(server, pipe)
        remember(workspace, address)
        try:
            ready(address)
            with _signals_taken():
                server.run(sockets=[listening])
        finally:
            forget(workspace, address)


def bound(host: str, port: int | None, last: int | None = None) -> socket.socket:
    """Return a socket that listens on an address.

    Args:
        last: the port to try first where none is asked for: bookmarks and open pages know it.

    Raises:
        InvalidInput: the host is no address of this machine, or the port is taken.
    """
    usual = range(DEFAULT_PORT, DEFAULT_PORT + PORTS_TRIED)
    tried = [*([] if last is None else [last]), *usual] if port is None else [port]
    for number in tried:
        try:
            return _bound(host, number)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise InvalidInput(
                    f"The page cannot be served on {host}: {error.strerror or error}.",
                    "--host takes an address of this machine: 127.0.0.1, or 0.0.0.0 for all.",
                ) from error
            taken = error
    where = f"port {port}" if port is not None else f"ports {usual[0]} to {usual[-1]}"
    raise InvalidInput(
        f"The page cannot be served on {where}: {taken.strerror}.",
        "Choose another port: farense ui --port 9000",
    )


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, place = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | _numeric(host)
    )[0]
    found = socket.socket(family, kind, protocol)
    try:
        # The port of a server that was just killed may be taken again at once.
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(place)
        found.listen(128)
    except BaseException:
        found.close()
        raise
    return found


def _numeric(host: str) -> int:
    """Return the flag by which no name is looked up in the network: an address is meant."""
    return 0 if host == "localhost" else socket.AI_NUMERICHOST


def _listen_for_the_end(server: PageServer, pipe: int | None) -> None:
    """Have the server end when nobody holds the other end of the pipe any more."""
    if pipe is None:
        return

    def listen() -> None:
        with suppress(OSError):
            while os.read(pipe, 4096):
                pass
        server.should_exit = True

    threading.Thread(target=listen, daemon=True).start()


class _signals_taken:  # noqa: N801 - used as a function
    """Within it, a signal that ends the server does not also end the process with a traceback.

    uvicorn sends itself, once it has ended, each signal that it has heard.
    """

    def __enter__(self) -> None:
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._before: dict[int, Any] = {n: signal.signal(n, lambda *_: None) for n in numbers}

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
