"""What computes: the packages and the hardware that the bits of a result depend on."""

from __future__ import annotations

import importlib.metadata
import platform

from jobs.backend.backend import backend
from jobs.backend.blas import blas_build
from jobs.backend.streams import cpu_name, cpu_threads


def environment() -> dict[str, str]:
    """Return what the bits of a result depend on beside the spec."""
    return {
        "farense": importlib.metadata.version("farense"),
        "python": platform.python_version(),
        "mlx": importlib.metadata.version("mlx"),
        "mlx-lm": importlib.metadata.version("mlx-lm"),
        "device": backend().describe(),
        "cpu": cpu_name(),
        "blas": blas_build(),
        "threads": str(cpu_threads()),
    }
