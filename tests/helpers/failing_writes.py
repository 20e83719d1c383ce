"""A disk that is full as long as a file says so, for processes that a test starts.

The file holds a number: from so many writes on, in each process, every write fails, and the disk
says that nothing is free. Without the file nothing is changed.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from types import ModuleType
from typing import Any

SWITCH = "FARENSE_TEST_FULL_DISK"


def install() -> None:
    """Let the writes of this process fail, where the environment names a file.

    To be called before the modules that write are imported: they take the functions by name.
    """
    if not (name := os.environ.get(SWITCH)):
        return
    from jobs.storage import files

    disk = _Disk(Path(name))
    wrappers: list[tuple[ModuleType, str, Callable[[Any], Any]]] = [
        (files, "_written_beside", disk.checked),
        (files, "write_line", disk.line),
        (shutil, "disk_usage", disk.usage),
    ]
    for module, name, wrapped in wrappers:
        setattr(module, name, wrapped(getattr(module, name)))


class _Disk:
    def __init__(self, switch: Path) -> None:
        self._switch = switch
        self._writes = 0

    def full(self) -> bool:
        """Tell whether a write of now fails."""
        try:
            allowed = int(self._switch.read_text() or 0)
        except FileNotFoundError:
            self._writes = 0
            return False
        self._writes += 1
        return self._writes > allowed

    def checked(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def checked(*arguments: Any) -> Any:
            if self.full():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(*arguments)

        return checked

    def line(self, write: Callable[[FileIO, bytes], None]) -> Callable[[FileIO, bytes], None]:
        def line(file: FileIO, line: bytes) -> None:
            write(_FullFile(file) if self.full() else file, line)  # type: ignore[arg-type]

        return line

    def usage(self, usage: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def found(path: Any) -> Any:
            real = usage(path)
            return real._replace(free=0) if self._switch.exists() else real

        return found


class _FullFile:
    """Takes the beginning of a line, as a real disk does, and no more."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._took = False
        self.seek, self.truncate = file.seek, file.truncate

    def write(self, data: memoryview) -> int:
        if self._took:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._took = True
        return self._file.write(data[: len(data) // 2])
