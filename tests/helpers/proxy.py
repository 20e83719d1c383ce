"""A proxy before a server's Unix socket, which can cut its clients off."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

from daemon.queue.unix_socket import short_path


class FlakyProxy:
    """Passes everything on, until it is told not to.

    Args:
        path: where clients connect.
        server: the socket of the server.
    """

    def __init__(self, path: Path, server: Path) -> None:
        self.path, self._server = path, server
        self._flowing = threading.Event()
        self._flowing.set()
        self._open: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self._listen()

    def refuse(self) -> None:
        """Drop every connection, and accept none."""
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
            self.path.unlink()
        self._drop()

    def hang(self) -> None:
        """Accept connections and whatever is sent, and answer nothing."""
        self._flowing.clear()

    def restore(self) -> None:
        """Pass everything on again."""
        self._flowing.set()
        if self._listener is None:
            self._listen()

    def close(self) -> None:
        """End; what hangs is let go."""
        self._flowing.set()
        if self._listener is not None:
            self.refuse()

    def _listen(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with short_path(self.path) as path:
            self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                try:
                    with short_path(self._server) as path:
                        server.connect(str(path))
                except OSError:
                    client.close()
                    continue
                self._open += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                self._flowing.wait()
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _drop(self) -> None:
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()
