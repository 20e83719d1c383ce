"""A fast BLAS for MLX on Linux CPUs.

The mlx-cpu wheel links the reference BLAS: about 2 GFLOP/s. When an OpenBLAS or MKL is loaded with
its symbols global before the first ``import mlx.core``, MLX's calls bind to it: 140 to 200 GFLOP/s
in float32 on two cores. macOS has Accelerate and Metal; nothing is done there.

``python -m jobs.backend.blas`` tells what was found, and exits with 3 where the mkl wheel would
help.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import platform
import sys
from pathlib import Path

# The variables that tell a BLAS how to compute count with it, but for these: its threads are set by
# us, and saying what it does changes nothing.
SETTINGS = ("MKL_", "OPENBLAS_")
HARMLESS = ("_NUM_THREADS", "_VERBOSE")
# MKL may otherwise choose its code path by the alignment of a buffer, which differs from run to
# run: the same seed would not give the same bits.
REPRODUCIBLE, OURS = "MKL_CBWR", "AUTO"

MKL_SIZE = "about 340 MB to download, 940 MB on disk"
NEEDS_MKL = 3

_loaded: str | None = None
_looked = False


def load_fast_blas() -> str | None:
    """Load an OpenBLAS or MKL for MLX and return its path; None where there is none, or no need.

    Must run before ``mlx.core`` is imported for the first time in the process.
    """
    global _loaded, _looked
    if sys.platform != "linux" or _looked:
        return _loaded
    if "mlx.core" in sys.modules:
        raise RuntimeError("mlx.core was imported before its BLAS: jobs.backend.mlx loads both.")
    _looked = True
    os.environ.setdefault(REPRODUCIBLE, OURS)
    for candidate in _candidates():
        try:
            ctypes.CDLL(candidate, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        _loaded = candidate
        return candidate
    return None


def set_blas_threads(count: int) -> bool:
    """Let the loaded BLAS use ``count`` threads; False where there is none that can be told."""
    if _loaded is None:
        return False
    library = ctypes.CDLL(_loaded)
    for name in ("MKL_Set_Num_Threads", "openblas_set_num_threads"):
        if function := getattr(library, name, None):
            function(ctypes.c_int(count))
            return True
    return False


def blas_name() -> str | None:
    """Return the file name of the BLAS that :func:`load_fast_blas` loaded, or None."""
    return Path(_loaded).name if _loaded else None


def blas_build() -> str:
    """Return what tells how the loaded BLAS computes: its file's own name and size, its settings.

    Settings are the variables by which a person lets it choose another code path.
    """
    if _loaded is None:
        return "none"
    file = Path(_loaded)
    if not file.is_absolute():  # found by the loader: the kernel knows where
        stem = file.name.partition(".so")[0]
        mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
        file = Path(min((path for path in mapped if f"/{stem}" in path), default=_loaded))
    file = file.resolve()
    size = [f"{file.stat().st_size} bytes"] if file.exists() else []
    return ", ".join([file.name, *size, *_settings()])


def _settings() -> list[str]:
    return [
        f"{name}={value}"
        for name, value in sorted(os.environ.items())
        if name.startswith(SETTINGS)
        and not name.endswith(HARMLESS)
        and (name, value) != (REPRODUCIBLE, OURS)
    ]


def _candidates() -> list[str]:
    wheel = sorted((Path(sys.prefix) / "lib").glob("libmkl_rt.so*"))
    system = [ctypes.util.find_library(name) for name in ("openblas", "mkl_rt")]
    return [*(name for name in system if name), *(str(path) for path in wheel)]


def main() -> int:
    """Say which BLAS MLX will use; return 3 where installing the mkl wheel would help."""
    if sys.platform != "linux":
        return 0
    if found := load_fast_blas():
        print(f"BLAS for MLX: {found}")
        return 0
    if platform.machine() == "x86_64":
        print(f"No OpenBLAS or MKL found: installing the mkl wheel ({MKL_SIZE}).")
        return NEEDS_MKL
    print("No OpenBLAS found: training will be slow. Install libopenblas (Debian: libopenblas0).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
