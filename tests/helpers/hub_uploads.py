"""A server to which files can be sent as to the Hugging Face hub, and that keeps what it gets.

It speaks what the hub's library speaks to commit: repositories, the kinds of upload, Git LFS, Xet
and the commit itself. Small files come in the commit, weights by LFS or Xet. Of what comes by Xet,
packed and perhaps compressed, it keeps the packs, and takes the library's word for what is in them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

from tests.helpers.listening import listening

LFS = (".safetensors", ".gguf", ".bin")
TOKEN, USER = "hf_" + "a" * 34, "maria"


@dataclass
class Repository:
    """What the server holds of a repository.

    Attributes:
        private: whether only its owner sees it.
        commits: the newest last: its id, message and files.
        weights: of each file that came by LFS or Xet, its SHA-256 and size.
    """

    private: bool
    weights: dict[str, tuple[str, int]] = field(default_factory=dict)
    commits: list[tuple[str, str, dict[str, bytes]]] = field(default_factory=list)

    @property
    def files(self) -> dict[str, bytes]:
        """The files of the newest commit."""
        return self.commits[-1][2] if self.commits else {}

    @property
    def head(self) -> str:
        """The id of the newest commit; of an empty repository one, too."""
        return self.commits[-1][0] if self.commits else "0" * 40

    def commit(self, message: str, files: dict[str, bytes]) -> str:
        """Add a commit that has ``files`` beside those that are there."""
        content = repr((len(self.commits), sorted(files))).encode()
        commit = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        self.commits.append((commit, message, {**self.files, **files}))
        return commit


@dataclass
class UploadHub:
    """What the server holds, what it was asked for, and what it shall refuse.

    Attributes:
        url: where it listens.
        repositories: by their names.
        stored: what came by LFS, by its SHA-256.
        packs: what came by Xet, as it came.
        requests: method and path of each, in order.
        tokens: what they were made with.
        breaks_off: at how many more pieces of LFS the server closes the connection.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    packs: list[bytes] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    breaks_off: int = 0

    def sent(self, method: str, part: str) -> int:
        """Return how many requests had ``part`` in their path."""
        return sum(how == method and part in path for how, path in self.requests)


@contextmanager
def taking_uploads() -> Iterator[UploadHub]:
    """Run such a server on a free port of the loopback interface."""
    hub = UploadHub()

    class Handler(_UploadHandler):
        contents = hub

    with listening(Handler) as hub.url:
        yield hub


class _UploadHandler(BaseHTTPRequestHandler):
    contents: UploadHub

    def do_GET(self) -> None:
        if not (parts := self._begin()):
            return None
        if parts == ["api", "whoami-v2"]:
            return self._json(200, {"name": USER, "type": "user"})
        if "xet-write-token" in parts:
            exp = int(time.time()) + 3600
            token = {"casUrl": self.contents.url, "exp": exp, "accessToken": TOKEN}
            return self._json(200, token)
        found = self.contents.repositories.get("/".join(parts[2:4]))
        if found is None:
            return self._refuse(404, "RepoNotFound", "Repository not found")
        return self._json(200, _described("/".join(parts[2:4]), found))

    def do_PUT(self) -> None:
        parts = [unquote(part) for part in self.path.strip("/").split("/")]
        self.contents.requests.append(("PUT", self.path))
        if self.contents.breaks_off:
            self.contents.breaks_off -= 1
            self.close_connection = True
            return None
        content = self._body()
        if hashlib.sha256(content).hexdigest() != parts[1]:
            return self._refuse(400, "Digest", "not what was announced")
        self.contents.stored[parts[1]] = content
        return self._json(200, {})

    def do_POST(self) -> None:
        body = self._body()
        if not (parts := self._begin()):
            return None
        if parts == ["api", "repos", "create"]:
            return self._create(json.loads(body))
        if parts == ["api", "validate-yaml"]:
            return self._json(200, {"warnings": [], "errors": []})
        if parts[-1] == "batch":
            return self._json(200, self._batch(json.loads(body)))
        if parts[0] in ("v1", "v2"):
            return self._xet(parts[1], body)
        repository = self.contents.repositories["/".join(parts[2:4])]
        if parts[4] == "preupload":
            files = json.loads(body)["files"]
            return self._json(200, {"files": [_mode(repository, file) for file in files]})
        return self._commit("/".join(parts[2:4]), repository, body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output quiet."""

    def _begin(self) -> list[str]:
        """Return the parts of the path, none where the token is not good for it."""
        self.contents.requests.append((self.command, self.path))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.contents.tokens.add(token)
        if token != TOKEN:
            said = "Invalid credentials in Authorization header"
            self._refuse(401, None, said)
            return []
        return [unquote(part) for part in self.path.partition("?")[0].strip("/").split("/")]

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _create(self, wanted: dict[str, Any]) -> None:
        owner, name = wanted["organization"] or USER, wanted["name"]
        if owner != USER:
            said = f'You don\'t have the rights to create a model under the namespace "{owner}"'
            return self._refuse(403, None, said)
        private = wanted.get("visibility") == "private"
        self.contents.repositories[f"{owner}/{name}"] = Repository(private)
        return self._json(200, {"url": f"{self.contents.url}/{owner}/{name}"})

    def _batch(self, wanted: dict[str, Any]) -> dict[str, Any]:
        objects = []
        for asked in wanted["objects"]:
            href = f"{self.contents.url}/lfs/{asked['oid']}"
            there = asked["oid"] in self.contents.stored
            objects.append(asked if there else asked | {"actions": {"upload": {"href": href}}})
        return {"transfer": "basic", "objects": objects}

    def _xet(self, what: str, body: bytes) -> None:
        if what == "xorbs":
            self.contents.packs.append(body)
            return self._json(200, {"was_inserted": True})
        if what == "shards":
            return self._json(200, {"type": "result", "result": 1})
        return self._refuse(404, None, "not here")

    def _commit(self, name: str, repository: Repository, body: bytes) -> None:
        lines = [json.loads(line) for line in body.splitlines()]
        files = {}
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                files[value["path"]] = self.contents.stored.get(value["oid"], b"")
                repository.weights[value["path"]] = (value["oid"], value["size"])
        commit = repository.commit(lines[0]["value"]["summary"], files)
        url = f"{self.contents.url}/{name}/commit/{commit}"
        return self._json(200, {"commitUrl": url, "commitOid": commit, "success": True})

    def _refuse(self, status: int, code: str | None, said: str) -> None:
        headers = {"X-Error-Message": said} | ({"X-Error-Code": code} if code else {})
        self._json(status, {"error": said}, headers)

    def _json(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {**(headers or {}), "Content-Type": "application/json"}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _described(name: str, repository: Repository) -> dict[str, Any]:
    siblings: list[dict[str, Any]] = []
    for path, content in repository.files.items():
        entry: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": _oid(content)}
        if path in repository.weights:
            digest, size = repository.weights[path]
            entry["size"] = size
            entry["lfs"] = {"sha256": digest, "size": size, "pointerSize": 134}
        siblings.append(entry)
    return {
        "id": name,
        "sha": repository.head,
        "private": repository.private,
        "siblings": siblings,
    }


def _mode(repository: Repository, file: dict[str, Any]) -> dict[str, Any]:
    """Return how a file is to come, and what it is there by now."""
    path, large = file["path"], file["path"].endswith(LFS)
    there = repository.files.get(path)
    oid = _oid(there) if there is not None else None
    if path in repository.weights:
        oid = repository.weights[path][0]
    ignored = repository.files.get(".gitignore", b"").decode().split()
    return {
        "path": path,
        "uploadMode": "lfs" if large else "regular",
        "shouldIgnore": any(fnmatchcase(path, pattern) for pattern in ignored),
        "oid": oid,
    }


def _oid(content: bytes) -> str:
    blob = b"blob %d\0" % len(content) + content
    return hashlib.sha1(blob, usedforsecurity=False).hexdigest()
