"""What computes: the packages and the hardware that the bits of a result depend on."""

from __future__ import annotations

import importlib.metadata
import platform

from jobs.backend.blas import blas_build, blas_name
from jobs.backend.mlx import (
    mx,
    on_metal,
)
from jobs.backend.streams import cpu_name, cpu_threads


def environment() -> dict[str, str]:
    """Return what the bits of a result depend on beside the spec."""
    return {
        "farense": importlib.metadata.version("farense"),
        "python": platform.python_version(),
        "mlx": importlib.metadata.version("mlx"),
        "mlx-lm": importlib.metadata.version("mlx-lm"),
        "device": device_name(),
        "cpu": cpu_name(),
        "blas": blas_build(),
        "threads": str(cpu_threads()),
    }


def device_name() -> str:
    """Return what this process computes with, for people."""
    if on_metal():
        return f"Metal, {mx.device_info().get('device_name', 'Apple GPU')}"
    return f"CPU, {blas_name() or 'reference BLAS (slow)'}"


def device_memory() -> tuple[int, ...]:
    """Return the limits that Metal sets to this process's memory, bytes; none on a CPU."""
    if not on_metal():
        return ()
    info = mx.device_info()
    return int(info["memory_size"]), int(info["max_recommended_working_set_size"])
