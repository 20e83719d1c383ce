"""One attempt at one job: from the frozen order to a trainer that is ready to go."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Callable
from pathlib import Path

from jobs.blas import blas_name
from jobs.config import TrainConfig, config_from
from jobs.dataset import TokenizedData, Tokenizer, tokenize
from jobs.engine import Engine
from jobs.errors import DataError, FarenseError, ModelError, WorkspaceError
from jobs.events import Event, Failed, Finished, Started, Warned
from jobs.examples import read_examples
from jobs.feed import Feed
from jobs.files import read_json, sha256_of
from jobs.model import (
    adapter_config,
    apply_lora,
    device_name,
    load_base,
    load_tokenizer,
)
from jobs.model_folder import check_model, fingerprint
from jobs.order import DataFile, Order
from jobs.paths import RunDirectory, Workspace
from jobs.results import BestAdapter, write_summary
from jobs.train import Trainer

Emit = Callable[[Event], None]


def train(
    workspace: Workspace, order: Order, emit: Emit, stop_reason: Callable[[], str | None]
) -> Finished | None:
    """Run a training job from its beginning or its newest checkpoint.

    Returns:
        How it ended; None when asked to stop (a checkpoint was saved).

    Raises:
        FarenseError: the order cannot be carried out, or the work failed.
    """
    run = workspace.run(order.id)
    config = config_from(order.config, str(run.job))
    model_path = workspace.inside(config.model)
    _check_model(model_path, order)
    tokenizer = load_tokenizer(model_path)
    train_data = _load(workspace, order.train, config, tokenizer)
    valid_data = _load(workspace, order.valid, config, tokenizer) if order.valid else None
    for data in (train_data, valid_data):
        _warn_of_cuts(data, config, emit)

    model = load_base(model_path)
    paths = apply_lora(model.module, config.lora, config.seed)
    engine = Engine(model, config)
    feed = Feed(train_data.examples, valid_data.examples if valid_data else (), config)
    best = BestAdapter(run.adapters, adapter_config(config.lora, paths, str(model_path)))
    versions = environment()
    trainer = Trainer(run, config, engine, feed, best, versions, emit, stop_reason)
    resumed_step = trainer.resume()
    emit(
        _started(
            order, config, engine, feed, f"{device_name()}, weights {model.form}", resumed_step
        )
    )
    outcome = trainer.run()
    if outcome:
        write_summary(run, outcome, order.config, versions)
        emit(outcome)
    return outcome


def write_failure(run: RunDirectory, order: Order, emit: Emit, error: Exception) -> None:
    """Write the summary of a run that failed, and say so; what can be saved already was."""
    message = error.message if isinstance(error, FarenseError) else f"{error}"
    hint = error.hint if isinstance(error, FarenseError) else None
    step = 0
    with contextlib.suppress(OSError, ValueError, KeyError):
        step = read_json(run.training_state)["step"]
    failed = Failed(step, type(error).__name__, " ".join(filter(None, (message, hint))))
    # On a full disk neither may succeed; the exit code still tells.
    with contextlib.suppress(WorkspaceError):
        write_summary(run, failed, order.config, environment())
    with contextlib.suppress(WorkspaceError):
        emit(failed)


def environment() -> dict[str, str]:
    """Return what the bits of a result depend on beside the order."""
    threads = os.environ.get("OMP_NUM_THREADS") or str(os.cpu_count())
    return {
        "farense": importlib.metadata.version("farense"),
        "python": platform.python_version(),
        "mlx": importlib.metadata.version("mlx"),
        "mlx-lm": importlib.metadata.version("mlx-lm"),
        "device": device_name(),
        "blas": blas_name() or "none",
        "threads": threads,
    }


def _check_model(path: Path, order: Order) -> None:
    """Refuse a model that is not the one the job was ordered with."""
    check_model(path)
    if order.model_fingerprint and fingerprint(path) != order.model_fingerprint:
        raise ModelError(
            f"The model in {path} has changed since this job was enqueued.",
            "Put the old model back, or enqueue the job again.",
        )


def _load(
    workspace: Workspace, file: DataFile, config: TrainConfig, tokenizer: Tokenizer
) -> TokenizedData:
    path = workspace.inside(file.path)
    examples = read_examples(path)
    if sha256_of(path) != file.sha256:
        raise DataError(
            f"{path} has changed since this job was enqueued.", "Enqueue the job again."
        )
    data = tokenize(
        examples,
        tokenizer,
        prompt_format=config.prompt_format,
        mask_prompt=config.mask_prompt,
        max_seq_length=config.max_seq_length,
    )
    if not data.examples:
        raise DataError(
            f"{path}: no example is left once cut to max_seq_length ({config.max_seq_length}).",
            "Raise max_seq_length.",
        )
    return data


def _warn_of_cuts(data: TokenizedData | None, config: TrainConfig, emit: Emit) -> None:
    if data is None or not (data.truncated or data.left_out):
        return
    emit(
        Warned(
            f"max_seq_length {config.max_seq_length} cuts {data.truncated} examples short and "
            f"leaves out {data.left_out} whose answer would be cut away entirely."
        )
    )


def _started(
    order: Order, config: TrainConfig, engine: Engine, feed: Feed, device: str, resumed_step: int
) -> Started:
    return Started(
        pid=os.getpid(),
        preset=order.preset,
        model=Path(config.model).name,
        device=device,
        total_steps=feed.schedule.total_steps,
        steps_per_epoch=feed.schedule.steps_per_epoch,
        num_epochs=config.num_epochs,
        validations=len(feed.schedule.validation_steps),
        train_examples=feed.schedule.examples,
        valid_examples=feed.validation_examples,
        trainable_parameters=sum(array.size for array in engine.adapter().values()),
        config=order.config,
        resumed_step=resumed_step,
    )
