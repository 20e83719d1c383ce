"""A server that answers like the Hugging Face hub, for the folders it is given."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server holds and what it was asked for.

    Attributes:
        url: where it listens.
        repositories: ``organization/name`` -> the folder with its files.
        gated: repositories that refuse this user.
        broken: names of files that the server cannot find, although it lists them.
        served: names of the files whose content was sent, in order.
    """

    url: str = ""
    repositories: dict[str, Path] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    served: list[str] = field(default_factory=list)


@contextmanager
def serving_hub() -> Iterator[Hub]:
    """Run a hub on a free port of the loopback interface."""
    hub = Hub()

    class Handler(_HubHandler):
        contents = hub

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _HubHandler(BaseHTTPRequestHandler):
    """``/api/models/O/N``, its ``/tree/COMMIT``, and ``/O/N/resolve/COMMIT/FILE``."""

    contents: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        parts = parts[2:] if is_api else parts
        repository, rest = "/".join(parts[:2]), parts[2:]
        if repository in self.contents.gated:
            return self._answer(403, {"X-Error-Code": "GatedRepo"})
        if repository not in self.contents.repositories:
            return self._answer(404, {"X-Error-Code": "RepoNotFound"})
        folder = self.contents.repositories[repository]
        if is_api:
            return self._api(repository, folder, is_tree="tree" in rest)
        return self._file(folder / "/".join(rest[2:]))

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output quiet."""

    def _api(self, repository: str, folder: Path, *, is_tree: bool) -> None:
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        names = {str(path.relative_to(folder)): path.stat().st_size for path in files}
        listed: object = {
            "id": repository,
            "sha": COMMIT,
            "siblings": [{"rfilename": name, "size": size} for name, size in names.items()],
        }
        if is_tree:
            listed = [
                {"type": "file", "path": name, "size": size, "oid": name}
                for name, size in names.items()
            ]
        self._answer(200, {"Content-Type": "application/json"}, json.dumps(listed).encode())

    def _file(self, path: Path) -> None:
        if not path.is_file() or path.name in self.contents.broken:
            return self._answer(404, {"X-Error-Code": "EntryNotFound"})
        content = path.read_bytes()
        if self.command == "GET":
            self.contents.served.append(path.name)
        etag = hashlib.sha256(content).hexdigest()
        return self._answer(200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, content)

    def _answer(self, status: int, headers: dict[str, str], content: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
