"""A server that answers like the Hugging Face hub, for the folders it is given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote

import yaml

from tests.helpers.listening import listening

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server holds and what it was asked for.

    Attributes:
        url: where it listens.
        repositories: ``organization/name`` -> the folder with its files; of a data set
            ``datasets/organization/name``, and of a branch of it with ``@branch`` at the end.
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

    with listening(Handler) as hub.url:
        yield hub


def commit_of(repository: str) -> str:
    """Return the newest commit of a repository, or of a branch of it."""
    return COMMIT[::-1] if "@" in repository else COMMIT


def _card(page: Path) -> object:
    """Return what stands in YAML above a repository's page."""
    parts = page.read_text().split("---\n") if page.is_file() else []
    return yaml.safe_load(parts[1]) if len(parts) > 2 else None


class _HubHandler(BaseHTTPRequestHandler):
    """``/api/models/O/N``, its ``/tree/COMMIT``, and ``/O/N/resolve/COMMIT/FILE``.

    Of data sets ``/api/datasets/O/N``, its ``/revision/BRANCH``, and
    ``/datasets/O/N/resolve/COMMIT/FILE``.
    """

    contents: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = [unquote(part) for part in self.path.partition("?")[0].strip("/").split("/")]
        is_api = parts[0] == "api"
        parts = parts[1:] if is_api else parts
        kind = "datasets/" if parts[0] == "datasets" else ""
        parts = parts[1:] if parts[0] in ("models", "datasets") else parts
        repository, rest = kind + "/".join(parts[:2]), parts[2:]
        if repository in self.contents.gated:
            return self._answer(403, {"X-Error-Code": "GatedRepo"})
        if repository not in self.contents.repositories:
            return self._answer(404, {"X-Error-Code": "RepoNotFound"})
        folder = self.contents.repositories[repository]
        # A commit is of the main branch, or the one that is told of the other.
        for branch, at in self.contents.repositories.items():
            name, _, revision = branch.partition("@")
            if revision and name == repository and {revision, commit_of(branch)} & set(rest):
                repository, folder = branch, at
        if rest[:1] == ["revision"] and "@" not in repository and rest[1] != COMMIT:
            return self._answer(404, {"X-Error-Code": "RevisionNotFound"})
        if is_api:
            return self._api(repository, folder, is_tree="tree" in rest)
        return self._file(folder / "/".join(rest[2:]), commit_of(repository))

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output quiet."""

    def _api(self, repository: str, folder: Path, *, is_tree: bool) -> None:
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        names = {str(path.relative_to(folder)): path.stat().st_size for path in files}
        listed: object = {
            "id": repository.removeprefix("datasets/").partition("@")[0],
            "sha": commit_of(repository),
            "cardData": _card(folder / "README.md"),
            "siblings": [{"rfilename": name, "size": size} for name, size in names.items()],
        }
        if is_tree:
            listed = [
                {"type": "file", "path": name, "size": size, "oid": name}
                for name, size in names.items()
            ]
        self._answer(200, {"Content-Type": "application/json"}, json.dumps(listed).encode())

    def _file(self, path: Path, commit: str) -> None:
        if not path.is_file() or path.name in self.contents.broken:
            return self._answer(404, {"X-Error-Code": "EntryNotFound"})
        content = path.read_bytes()
        if self.command == "GET":
            self.contents.served.append(path.name)
        etag = hashlib.sha256(content).hexdigest()
        return self._answer(200, {"ETag": f'"{etag}"', "X-Repo-Commit": commit}, content)

    def _answer(self, status: int, headers: dict[str, str], content: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
