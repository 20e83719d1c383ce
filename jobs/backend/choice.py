"""Which backend is wanted: ``FARENSE_BACKEND``, else what the machine has. Loads no MLX."""

from __future__ import annotations

import os
from collections.abc import Mapping

from jobs.errors import ConfigError

VARIABLE = "FARENSE_BACKEND"
CPU, METAL, CUDA, AS_ACCELERATOR = "cpu", "metal", "cuda", "as-accelerator"
NAMES = (CPU, METAL, CUDA, AS_ACCELERATOR)


def wanted_backend(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the backend that ``FARENSE_BACKEND`` names; None where it leaves the choice to us.

    Raises:
        ConfigError: it names none.
    """
    name = environment.get(VARIABLE, "").strip()
    if name and name not in NAMES:
        raise ConfigError(f"{VARIABLE}={name}: expected one of {', '.join(NAMES)}.")
    return name or None


def is_cpu(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether the CPU was asked for, also on a machine that has a GPU."""
    return environment.get(VARIABLE, "").strip() == CPU
