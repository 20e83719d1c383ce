"""What an export is worth: its loss over the job's validation set, measured as in training."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace

from jobs.backend.backend import backend
from jobs.backend.mlx import mx
from jobs.errors import DataError
from jobs.events import Event, Warned
from jobs.model.adapter import TrainedAdapter
from jobs.paths import Workspace
from jobs.resources.preflight import memory_limits
from jobs.spec import JobSpec
from jobs.training.session import Session

Tell = Callable[[str], None]
# On a CPU weights of two bytes are held in four.
HELD_ON_CPU = 2


def adapter_loss(
    workspace: Workspace, spec: JobSpec, adapter: TrainedAdapter, warn: Tell
) -> float | None:
    """Return the loss of the base model with the adapter beside its weights, nats per token.

    Returns:
        None, and a warning, where the job has no validation set any more.
    """
    return _measured(workspace, spec, warn, adapter)


def model_loss(workspace: Workspace, spec: JobSpec, model: str, warn: Tell) -> float | None:
    """Return the loss of another model over the same validation set.

    Args:
        model: its folder, relative to the workspace.
    """
    # An untrained adapter adds nothing: what is measured is the model itself.
    config = {**spec.config, "model": model}
    return _measured(workspace, replace(spec, config=config, model_fingerprint=""), warn)


def fits_memory(weight_bytes: int) -> bool:
    """Tell whether this machine can hold weights of so many bytes to measure with them."""
    held = HELD_ON_CPU * weight_bytes if backend().is_cpu else weight_bytes
    whole = memory_limits(*backend().memory()).whole
    return whole is None or held < whole


def _measured(
    workspace: Workspace, spec: JobSpec, warn: Tell, adapter: TrainedAdapter | None = None
) -> float | None:
    if spec.valid is None:
        warn(f"No loss was measured: {spec.id} has no validation set.")
        return None
    try:
        return _loss(workspace, spec, warn, adapter)
    except DataError as error:
        warn(f"No loss was measured: {error.message}")
        return None
    finally:
        # The model is gone: its memory has to be, too, before the next one is loaded.
        gc.collect()
        mx.clear_cache()


def _loss(workspace: Workspace, spec: JobSpec, warn: Tell, adapter: TrainedAdapter | None) -> float:
    def emit(event: Event) -> None:
        if isinstance(event, Warned):
            warn(event.message)

    session = Session(workspace, spec, emit, lambda: None, 0)
    engine, batches = session.measuring()
    if adapter is not None:
        engine.adapter = adapter.fitting(engine.adapter)
    return engine.measure(batches.validation)
