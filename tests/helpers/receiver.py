"""A real HTTP server that receives messages as apprise's json:// sends them, and can misbehave."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.helpers.waiting import wait_until

# What stands in the addresses of the tests, and must be found nowhere else.
USER, PASSWORD, PATH, TOKEN = "u5er5ecret", "pa55w0rd5ecret", "path5ecret", "t0ken5ecret"
SECRETS = (USER, PASSWORD, PATH, TOKEN)


@dataclass
class Receiver:
    """The server.

    Attributes:
        answer: the status that it answers with; 0 to answer nothing for as long as it is open.
        received: the messages of requests that it answered with 200.
        refused: how many it has answered otherwise, or not at all.
    """

    answer: int = 200
    received: list[dict[str, Any]] = field(default_factory=list)
    refused: int = 0
    port: int = 0

    def __post_init__(self) -> None:
        self._server: ThreadingHTTPServer | None = None
        self._release = threading.Event()
        self.open()

    @property
    def address(self) -> str:
        """Its address, full of secrets."""
        return (
            f"json://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{PATH}?-token={TOKEN}&+X-Token={TOKEN}"
        )

    def open(self) -> None:
        """Serve, on the port as before where there was one."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                try:
                    message = json.loads(body)
                except ValueError:  # of another kind of address
                    message = {"title": "", "message": body.decode()}
                receiver.take(self, message)

            def log_message(self, *_: object) -> None:
                pass

        self._release.clear()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, handler: BaseHTTPRequestHandler, message: dict[str, Any]) -> None:
        """Answer a request."""
        if self.answer == 200:
            self.received.append(message)
        else:
            self.refused += 1
        if self.answer == 0:
            self._release.wait()
            return
        handler.send_response(self.answer)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def close(self) -> None:
        """Be away."""
        self._release.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def message(self, words: str, within: float = 30.0) -> dict[str, Any]:
        """Wait for the message with these words in its title or body, and return it."""

        def found() -> dict[str, Any] | None:
            return next((m for m in self.received if words in m["title"] + m["message"]), None)

        return wait_until(found, f"a message with {words!r}", within)

    @property
    def titles(self) -> list[str]:
        """The titles of what came, in order."""
        return [message["title"] for message in self.received]
