"""What of an export goes to the hub: files that are on a list, in which nothing of this machine is.

Weights, a configuration, a tokenizer and a card have names that are known. Whatever else lies in
the folder stays here, and a file that holds a path of this machine, or a token, lets nothing go.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from jobs.errors import InvalidInput, ModelError
from jobs.export.folder import MARKER, OPTIONS_FILE
from jobs.export.kinds import ADAPTER, FUSED, PEFT, REQUANTIZED
from jobs.model_store.folder import IDENTITY_FILES, INDEX, MORE_IDENTITY_FILES, WEIGHTS
from jobs.model_store.safetensors_header import raw_header
from jobs.paths import Workspace
from jobs.storage.files import explain, sha256_of

CARD = "README.md"
BESIDE = (MARKER, OPTIONS_FILE)
MODEL = (WEIGHTS, INDEX, *IDENTITY_FILES, *MORE_IDENTITY_FILES)
# By patterns: what may go of each kind of export.
ALLOWED = {
    ADAPTER: ("adapters.safetensors", "adapter_config.json"),
    PEFT: ("adapter_model.safetensors", "adapter_config.json"),
    FUSED: MODEL,
    REQUANTIZED: MODEL,
}
# Of the others: they are one file, and what tells a program how to run it.
ONE_FILE = ("*.gguf", "Modelfile")
# Without which an export of a kind is nothing: each of these has to match a file.
NEEDED = {
    ADAPTER: ALLOWED[ADAPTER],
    PEFT: ALLOWED[PEFT],
    FUSED: (WEIGHTS, "config.json", "tokenizer.json"),
    REQUANTIZED: (WEIGHTS, "config.json", "tokenizer.json"),
}
# What is sent from the disk; everything else is held in memory from the check on.
LARGE = (".safetensors", ".gguf")
BLOCK_BYTES = 1 << 22
# Longer than anything that is looked for.
OVERLAP_BYTES = 1 << 13
# A shorter path may stand in a text by chance: of it, only what lies below it is looked for.
TELLING = 8
WITHIN_NAME = rb"[A-Za-z0-9._-]"
NEWLINE = b"\n"
TOKEN = re.compile(rb"\bhf_[A-Za-z0-9]{30,}\b")


@dataclass(frozen=True)
class PushedFile:
    """A file that goes to the hub.

    Attributes:
        name: there.
        size: in bytes.
        sha256: of its content, in hexadecimal.
        content: itself; of a large one None, and it is read from ``path`` as it is sent.
    """

    name: str
    size: int
    sha256: str
    path: Path
    content: bytes | None = None


@dataclass(frozen=True)
class Contents:
    """What of a folder goes to the hub, and what stays here.

    Attributes:
        files: by name.
        left: the names of all else in the folder.
    """

    files: tuple[PushedFile, ...]
    left: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files that go."""
        return sum(file.size for file in self.files)


def contents_of(workspace: Workspace, folder: Path, kind: str, card: str) -> Contents:
    """Return what of an export goes to the hub, each file read and checked.

    Args:
        card: what its ``README.md`` says there.

    Raises:
        ModelError: the export lacks a file.
        InvalidInput: a file holds a path of this machine, or a token of the hub.
        WorkspaceError: a file cannot be read.
    """
    patterns = (*ALLOWED.get(kind, ONE_FILE), *BESIDE)
    found = sorted(folder.iterdir(), key=lambda path: path.name)
    chosen = [path for path in found if _goes(path, patterns)]
    names = [path.name for path in chosen]
    for needed in NEEDED.get(kind, ONE_FILE[:1]):
        if not any(fnmatchcase(name, needed) for name in names):
            raise ModelError(
                f"{folder} is not whole: it has no {needed}.", "Export the job again with --force."
            )
    files = [_read(CARD, folder / CARD, card.encode()), *map(_from_disk, chosen)]
    searched = _Searched(workspace)
    for file in files:
        searched.refuse(file, folder)
    left = [path.name for path in found if path not in chosen and path.name != CARD]
    return Contents(tuple(files), tuple(left))


def _goes(path: Path, patterns: tuple[str, ...]) -> bool:
    regular = path.is_file() and not path.is_symlink()
    return regular and any(fnmatchcase(path.name, pattern) for pattern in patterns)


def _from_disk(path: Path) -> PushedFile:
    try:
        if path.suffix in LARGE:
            return PushedFile(path.name, path.stat().st_size, sha256_of(path), path)
        return _read(path.name, path, path.read_bytes())
    except OSError as error:
        raise explain(error, path) from error


def _read(name: str, path: Path, content: bytes) -> PushedFile:
    return PushedFile(name, len(content), hashlib.sha256(content).hexdigest(), path, content)


class _Searched:
    """What no file may hold that goes: paths of this machine, as texts and JSON write them."""

    def __init__(self, workspace: Workspace) -> None:
        places = {workspace.root}
        with suppress(RuntimeError):  # A user without a home folder.
            places.add(Path.home())
        texts = {str(path) for place in places for path in (place, place.resolve())} - {"/"}
        self.paths = {
            written: path
            for path in texts
            for written in (path.encode(), json.dumps(path)[1:-1].encode())
        }

    def refuse(self, file: PushedFile, folder: Path) -> None:
        """Raise where a file holds one of them, or what looks like a token."""
        for block in _blocks(file):
            if TOKEN.search(block):
                raise InvalidInput(
                    f"{folder / file.name} holds what looks like a token of the Hugging Face hub: "
                    "nothing was sent.",
                    "Remove it from the file and, where it was somewhere else too, from the hub.",
                )
            if (path := self._path_in(block)) is not None:
                line = _line_of(file, path)
                raise InvalidInput(
                    f"{folder / file.name}{line} holds a path of this machine ({path}): nothing "
                    "was sent.",
                    "Take it out of the file, or export the job anew.",
                )

    def _path_in(self, block: bytes) -> str | None:
        for written, path in self.paths.items():
            # Within a longer name it is another path, or none.
            below = rb"/[^\s\"'/]" if len(path) < TELLING else rb"(?!%s)" % WITHIN_NAME
            whole = re.compile(rb"(?<!%s)%s%s" % (WITHIN_NAME, re.escape(written), below))
            # Finding is much faster than matching, and hardly ever finds.
            if block.find(written) >= 0 and whole.search(block):
                return path
        return None


def _blocks(file: PushedFile) -> Iterator[bytes]:
    """Yield what of a file can be text, in blocks of which each holds the end of the one before."""
    if file.content is not None:
        yield file.content
    elif file.name.endswith(".safetensors"):
        yield raw_header(file.path)
    else:
        with file.path.open("rb") as opened:
            before = b""
            while block := opened.read(BLOCK_BYTES):
                yield before + block
                before = block[-OVERLAP_BYTES:]


def _line_of(file: PushedFile, path: str) -> str:
    if file.content is None or path.encode() not in file.content:
        return ""
    before = file.content[: file.content.index(path.encode())]
    return f", line {before.count(NEWLINE) + 1},"
