"""The page's server in a process of its own, and requests to it as programs send them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from daemon.page.address import known_address
from daemon.page.secret import Secret
from jobs.paths import Workspace
from tests.helpers.waiting import wait_until

HOST = "127.0.0.1"
GRACE = 10


@dataclass
class Reply:
    """What the server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class PageProcess:
    """A page that can be asked, killed and started again on its port.

    Attributes:
        process: None while it does not run.
    """

    workspace: Workspace
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def base(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def secret(self) -> Secret:
        return Secret.of(self.workspace)

    @property
    def link(self) -> str:
        """The link that opens it, as a person gets it."""
        return f"{self.base}/login?token={self.secret.token}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "daemon.page", "--port", str(self.port)],
            env={**os.environ, "FARENSE_HOME": str(self.workspace.root), **self.variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        pid = self.process.pid

        def there() -> int | None:
            address = known_address(self.workspace)
            return address.port if address and address.pid == pid else None

        self.port = wait_until(there, "the page's server")

    def kill(self) -> None:
        """End it as a crash does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it as Ctrl-C does; return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def ask(self, path: str, method: str = "GET", body: Any = None, **headers: str | None) -> Reply:
        """Send a request as a signed-in page does.

        Args:
            headers: others than such a page's, `_` for `-`; None leaves one out.
        """
        own: dict[str, str | None] = {
            "host": f"{HOST}:{self.port}",
            "cookie": f"{self.secret.cookie_name}={self.secret.cookie}",
        }
        if method == "POST":
            own |= {
                "origin": self.base,
                "x-farense-change": self.secret.change_word,
                "content-type": "application/json",
            }
        own |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        try:
            content = None if body is None else json.dumps(body)
            sent = {name: value for name, value in own.items() if value is not None}
            connection.request(method, path, content, sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())
        finally:
            connection.close()

    def post(self, path: str, **body: Any) -> Reply:
        """Send a change as the page does."""
        return self.ask(path, "POST", body)

    def events(self, *topics: str) -> Iterator[dict[str, Any]]:
        """Yield what a page hears that follows some topics, beats left out."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        cookie = f"{self.secret.cookie_name}={self.secret.cookie}"
        query = "&".join(f"topic={topic}" for topic in topics)
        try:
            connection.request("GET", f"/events?{query}", headers={"cookie": cookie})
            answer = connection.getresponse()
            assert answer.status == 200
            for line in answer:
                if line.startswith(b"data: "):
                    event = json.loads(line[6:])
                    if event["topic"] != "beat":
                        yield event
        finally:
            connection.close()


@contextmanager
def serving(workspace: Workspace, **variables: str) -> Iterator[PageProcess]:
    """Serve the page of a workspace while a test goes on."""
    page = PageProcess(workspace, variables=variables)
    page.start()
    try:
        yield page
    finally:
        page.stop()
