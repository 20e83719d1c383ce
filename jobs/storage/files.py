"""Reading and writing files so that a reader, or a crash, at any moment finds a whole one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from io import FileIO
from pathlib import Path
from typing import IO, Any

import orjson

from jobs.errors import DiskFull, WorkspaceError
from jobs.paths import JOB_ID

JSON_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS
MAX_LEVELS = 50


def plain(value: Any) -> Any:
    """Return ``value`` with every float that JSON cannot hold as a string.

    orjson writes NaN and infinity as null: a diverged loss would look like a missing one.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def from_plain(value: Any, levels: int = MAX_LEVELS) -> Any:
    """Return ``value`` with the numbers that :func:`plain` made strings of.

    Raises:
        ValueError: it is nested deeper than ``levels``: nothing of ours is, and recursion has an
            end.
    """
    if isinstance(value, dict | list) and not levels:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        return {key: from_plain(item, levels - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [from_plain(item, levels - 1) for item in value]
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value


def write_with(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Replace ``path`` with what ``write`` puts into a temporary file beside it.

    The content is on disk before the name points to it (fsync of the file, rename, fsync of the
    folder), so a crash leaves the old file or the new one.

    Raises:
        WorkspaceError: the folder cannot be written or the disk is full; the old file is untouched.
    """
    temporary: Path | None = None
    try:
        _make_folder(path.parent)
        temporary = _written_beside(path, write)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise explain(error, path) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    """Make a folder where it is missing, but no run directory: who removed it wants it gone."""
    for run in (folder, *folder.parents):
        if JOB_ID.fullmatch(run.name) and not run.exists():
            raise FileNotFoundError(errno.ENOENT, "its run directory was removed")
    folder.mkdir(parents=True, exist_ok=True)


def write_atomic(path: Path, content: bytes) -> None:
    """Replace ``path`` with ``content``, as :func:`write_with` does."""
    write_with(path, partial(_put, content))


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` with ``value`` as indented JSON."""
    write_atomic(path, orjson.dumps(plain(value), option=JSON_OPTIONS))


def open_to_others(*paths: Path) -> None:
    """Give files the mode that this person's new files have: they are to be handed on.

    What is written atomically is the owner's alone, as temporary files are.

    Raises:
        WorkspaceError: they are somebody else's.
    """
    umask = os.umask(0o077)
    os.umask(umask)
    for path in paths:
        try:
            path.chmod(0o666 & ~umask)
        except OSError as error:
            raise explain(error, path) from error


def _written_beside(path: Path, write: Callable[[IO[bytes]], object]) -> Path:
    """Return a temporary file beside ``path`` whose content is on disk."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def _put(content: bytes, file: IO[bytes]) -> None:
    file.write(content)


def write_many_json(contents: Mapping[Path, Any]) -> None:
    """Write files as :func:`write_json` does, each folder of theirs being synced only once.

    All contents are on disk before the first name is given, and names are given in the order of
    ``contents``.

    Raises:
        WorkspaceError: a folder cannot be written or the disk is full; some files may be new.
    """
    write_many_with(
        {
            path: partial(_put, orjson.dumps(plain(value), option=JSON_OPTIONS))
            for path, value in contents.items()
        }
    )


def write_many_with(contents: Mapping[Path, Callable[[IO[bytes]], object]]) -> None:
    """Write files as :func:`write_many_json` does, each by a function as :func:`write_with`.

    Raises:
        WorkspaceError: as :func:`write_many_json`.
    """
    temporaries: dict[Path, Path] = {}
    path = Path()
    try:
        for path, write in contents.items():
            temporaries[path] = _written_beside(path, write)
        for path, written in temporaries.items():
            written.replace(path)
        for folder in dict.fromkeys(path.parent for path in contents):
            sync_folder(folder)
    except OSError as error:
        raise explain(error, path) from error
    finally:
        for left in temporaries.values():
            left.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Return the JSON value in ``path``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file does not hold JSON.
    """
    return orjson.loads(path.read_bytes())


def append(path: Path, line: bytes) -> None:
    """Append ``line`` and a newline to ``path`` in one write.

    Raises:
        WorkspaceError: the disk is full, say; what was written of the line is taken back.
    """
    try:
        with path.open("ab", buffering=0) as file:
            write_line(file, line)
    except OSError as error:
        raise explain(error, path) from error


def write_line(file: FileIO, line: bytes) -> None:
    """Append ``line`` and a newline to a file that only this process writes, in one write.

    A disk that fills up takes the beginning of a line without an error; the rest then gets one.
    """
    end = file.seek(0, os.SEEK_END)
    rest = memoryview(line + b"\n")
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        file.truncate(end)
        raise


def whole_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of ``path`` without their newline; a torn last line is left out."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n") and line.strip():
                yield line[:-1]


def end_torn_line(path: Path) -> None:
    """Close the line that a killed writer left open, so that the next one starts on its own.

    Only for the time when nobody writes.
    """
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")


def replace_folder(new: Path, target: Path, aside: Path) -> None:
    """Give a folder that is whole and on disk the name ``target``; what had it is removed.

    Between two renames a crash leaves the old one under the name ``aside``.

    Raises:
        OSError: a folder cannot be renamed.
    """
    if target.exists():
        target.rename(aside)
    new.rename(target)
    sync_folder(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def add_part(digest: Any, name: str, content: bytes) -> None:
    """Add a named part to a digest, its length first: parts must not run into one another."""
    digest.update(f"{name}:{len(content)}:".encode() + content)


def keep_newest(folder: Path, count: int) -> None:
    """Keep the files of a cache that are newest; what killed writers left counts as a file."""
    used: list[tuple[float, Path]] = []
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another job prunes too
            used.append((file.stat().st_mtime, file))
    for _, file in sorted(used, reverse=True)[count:]:
        file.unlink(missing_ok=True)


def as_disk_full(error: Exception, path: Path) -> DiskFull | None:
    """Return the error that ``error`` of the system stands for, or None where it is another one.

    Args:
        path: what was to be written, or where it was to be.
    """
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    return DiskFull(
        f"The disk is full: {path} could not be written.", "Free some space and try again."
    )


def explain(error: OSError, path: Path) -> WorkspaceError:
    """Return an error that says what to do about a failed write to ``path``."""
    if full := as_disk_full(error, path):
        return full
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return WorkspaceError(
            f"No permission to write {path}.",
            "Make the folder writable for you, or set FARENSE_HOME to a folder that is.",
        )
    return WorkspaceError(f"{path} could not be written: {error.strerror or error}.")


def free_bytes(folder: Path) -> int:
    """Return what is free on the disk of a folder, also where it is still to be made."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
