"""The libraries into which MLX compiles its kernels where it computes on a CPU.

They stay under ``$TMPDIR/mlx/<version>/cpu`` for later processes, and MLX loads whatever it finds
there by a kernel's name. A compiler that was killed, and a power cut, leave half of one, on which
every later job that needs the kernel would fail.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from jobs.paths import Workspace
from jobs.storage.locks import lock_within

# What MLX says where a kernel could not be compiled or loaded (mlx/backend/cpu/compiled.cpp).
TORN = "Could not load C++ shared library"
KERNEL_SIGNS = (
    TORN,
    "[Compile::eval_cpu] Failed to compile function",
    "[Compile::eval_cpu] Failed to load compiled function",
)
LIBRARY = re.compile(r"Could not load C\+\+ shared library (/.+?\.so)\b")
# ELF for 64 bits, least significant byte first; a Mach-O file does not tell its length so simply.
ELF, MACH_O = b"\x7fELF\x02\x01", b"\xcf\xfa\xed\xfe"
ELF_HEADER = 64


class Kernels:
    """The compiled kernels that the daemon's children of a workspace share.

    A library that is being linked is not whole either. So each child holds a lock, shared, for its
    whole life, and its compiler inherits it: what is torn is removed only by one who gets it alone.
    A child that was started by hand uses the ``$TMPDIR`` of its shell, where nothing is touched.

    Args:
        folder: where they are; None where there is nothing to look after.
        descriptor: of the open lock.
    """

    def __init__(self, folder: Path | None = None, descriptor: int = -1) -> None:
        self._folder = folder
        self._descriptor = descriptor

    @classmethod
    def of(cls, workspace: Workspace) -> Kernels:
        """Return those of a workspace, locked from now on, where this process uses them."""
        if os.environ.get("TMPDIR") != str(workspace.temporary):
            return cls()
        try:
            path = workspace.temporary / "kernels.lock"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            os.set_inheritable(descriptor, True)
        except OSError:  # a full disk: training comes to the same end, and says so
            return cls()
        kernels = cls(workspace.temporary / "mlx", descriptor)
        kernels._lock(shared=True)
        return kernels

    def remove_torn(self) -> None:
        """Remove the libraries that are not whole, unless another process may be making one."""
        if self._folder is not None:
            self._remove([path for path in self._folder.rglob("*.so") if not is_whole(path)])

    def remove_named(self, message: str) -> None:
        """Remove the library that MLX could not load, as it says in ``message``."""
        found = LIBRARY.search(message)
        if self._folder is not None and found and self._folder in Path(found[1]).parents:
            self._remove([Path(found[1])])

    def _remove(self, paths: list[Path]) -> None:
        if not paths:
            return
        if self._lock(shared=False):
            for path in paths:
                with suppress(OSError):
                    path.unlink()
        # In vain or not, the attempt has given the shared lock away.
        self._lock(shared=True)

    def _lock(self, *, shared: bool) -> bool:
        with suppress(OSError):
            return lock_within(self._descriptor, shared=shared)
        return False


def is_about_kernels(message: str) -> bool:
    """Tell whether MLX says that a kernel could not be compiled or loaded."""
    return any(sign in message for sign in KERNEL_SIGNS)


def is_whole(library: Path) -> bool:
    """Tell whether a shared library reaches to its end.

    A linker writes the table of sections last, behind all else: its place and size stand in the
    header (ELF-64: e_shoff, e_shentsize, e_shnum).
    """
    try:
        with library.open("rb") as file:
            header = file.read(ELF_HEADER)
            size = file.seek(0, os.SEEK_END)
    except OSError:  # gone, or not ours to judge
        return True
    if not header.startswith(ELF) or len(header) < ELF_HEADER:
        return header.startswith(MACH_O)
    offset, entry, count = (
        int.from_bytes(header[begin:end], "little") for begin, end in ((40, 48), (58, 60), (60, 62))
    )
    return 0 < offset <= size - entry * count
