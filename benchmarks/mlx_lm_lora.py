"""mlx-lm on the same work as a farense job: the other process of a comparison.

``python -P -m benchmarks.mlx_lm_lora <run directory> --result FILE`` trains what the order in the
run directory says with mlx-lm's own ``train``, ``evaluate``, ``iterate_batches``, ``default_loss``,
LoRA layers and AdamW, none of them changed, and writes what it measured to FILE. Its examples are
the token ids and prompt lengths that farense trains on.

They come as a plain list, which ``iterate_batches`` sorts by length. The data set object of
``mlx_lm lora`` reports the number of keys of a row as its length, so that nothing is sorted there:
the peer pads less here than it does from its own command line.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.runs import config_of, megabytes, tokenized, workspace_of
from jobs.config.config import TrainConfig
from jobs.data.tokenizer import TemplateSettings, Tokenizer
from jobs.paths import RunDirectory
from jobs.spec import read_spec

Dataset = list[tuple[list[int], int]]


@dataclass
class Recorder:
    """mlx-lm's training callback: keeps what is reported.

    Attributes:
        same_loss: measures the validation loss over the positions that farense counts, or None.
            ``default_loss`` counts one position more in every row, the padding after its end.
        losses, validation_losses, same_losses: pairs of step and loss.
        validation_seconds: of each validation.
        aside_seconds: spent in ``same_loss``, no part of the work.
    """

    same_loss: Callable[[], float] | None
    losses: list[tuple[int, float]] = field(default_factory=list)
    validation_losses: list[tuple[int, float]] = field(default_factory=list)
    same_losses: list[tuple[int, float]] = field(default_factory=list)
    validation_seconds: list[float] = field(default_factory=list)
    aside_seconds: float = 0.0

    def on_train_loss_report(self, report: dict[str, Any]) -> None:
        """Keep a training loss."""
        self.losses.append((report["iteration"], report["train_loss"]))

    def on_val_loss_report(self, report: dict[str, Any]) -> None:
        """Keep a validation; measure the other loss where that was asked for."""
        self.validation_losses.append((report["iteration"], report["val_loss"]))
        self.validation_seconds.append(report["val_time"])
        if self.same_loss is not None:
            started = time.perf_counter()
            self.same_losses.append((report["iteration"], self.same_loss()))
            self.aside_seconds += time.perf_counter() - started


def main() -> None:
    """Train, and write what was measured."""
    options = parse()
    if not options.as_installed:
        # Before anything imports MLX. As installed, nothing of ours chooses a BLAS.
        from jobs.backend.blas import load_fast_blas

        load_fast_blas()
    run = RunDirectory(options.run_directory.absolute())
    config = config_of(run)
    model, train, valid = load(run, config, as_installed=options.as_installed)
    assert (
        not options.as_installed
        or not {"jobs.backend.blas", "jobs.backend.mlx"} & sys.modules.keys()
    )
    loaded_at = time.time()
    result = train_and_measure(model, train, valid, config, options)
    options.result.write_text(json.dumps({"loaded_at": loaded_at, **result}))


def parse() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(prog="python -P -m benchmarks.mlx_lm_lora")
    parser.add_argument("run_directory", type=Path)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--as-installed", action="store_true", help="no BLAS, weights as stored")
    parser.add_argument("--steps", type=int, help="train so many, and validate once at the end")
    parser.add_argument("--validation-batches", type=int, default=-1, help="with --steps")
    parser.add_argument("--same-loss", action="store_true", help="also the loss farense measures")
    parser.add_argument("--same-batches", action="store_true", help="in the order farense trains")
    return parser.parse_args()


def load(
    run: RunDirectory, config: TrainConfig, *, as_installed: bool
) -> tuple[Any, Dataset, Dataset]:
    """Return the model with its LoRA layers, and the examples of training and validation."""
    import mlx.core as mx
    import numpy as np
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import dequantize_model, load_model, load_tokenizer

    path = workspace_of(run).inside(config.model)
    spec = read_spec(run)
    settings = TemplateSettings.of(config, spec.prompts_written_on)
    tokenizer = Tokenizer(load_tokenizer(path), settings)
    train, valid = (
        [
            (list(example.tokens), example.prompt_length)
            for example in tokenized(run, file, tokenizer)
        ]
        for file in (spec.train, spec.valid)
    )
    np.random.seed(config.seed)
    model, _ = load_model(path, lazy=not as_installed)
    if not as_installed:
        # The very weights that farense computes with on a CPU (see jobs.model.load.load_base).
        model.set_dtype(mx.float32)
        model = dequantize_model(model)
    model.freeze()
    # Building a model draws numbers, too: from here on both start from the same A matrices.
    mx.random.seed(config.seed)
    linear_to_lora_layers(model, config.lora.num_layers, lora_parameters(model, config))
    mx.eval(model.parameters())
    return model, train, valid


def lora_parameters(model: Any, config: TrainConfig) -> dict[str, Any]:
    """Return mlx-lm's LoRA settings; it matches whole paths within a block."""
    paths = [path for path, _ in model.layers[-1].named_modules()]
    return {
        "rank": config.lora.rank,
        "scale": config.lora.factor,
        "dropout": config.lora.dropout,
        "keys": {path for path in paths if path.rpartition(".")[2] in config.lora.keys},
    }


def train_and_measure(
    model: Any, train: Dataset, valid: Dataset, config: TrainConfig, options: argparse.Namespace
) -> dict[str, Any]:
    """Train with mlx-lm and return times, memory and losses.

    With ``--steps`` the validation comes after training, over the given number of batches.
    """
    import mlx.core as mx
    from mlx_lm.tuner import trainer

    def evaluate(batch_size: int, batches: int = -1, **how: Any) -> float:
        length = config.max_seq_length
        return float(trainer.evaluate(model, valid, batch_size, batches, length, **how))

    def same_loss() -> float:
        return evaluate(config.batch_size, loss=completion_loss)

    recorder = Recorder(same_loss if options.same_loss else None)
    started = time.perf_counter()
    steps = run_training(model, train, [] if options.steps else valid, config, options, recorder)
    wall = time.perf_counter() - started - recorder.aside_seconds
    if options.steps:
        started = time.perf_counter()
        evaluate(config.batch_size, options.validation_batches)
        recorder.validation_seconds.append(time.perf_counter() - started)
        wall += recorder.validation_seconds[-1]
    result = {
        "steps": steps,
        "wall_seconds": wall,
        "validation_seconds": recorder.validation_seconds,
        "mlx_peak_mb": mx.get_peak_memory() / 1e6,
        "resident_mb": megabytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss),
        "losses": recorder.losses,
        "validation_losses": recorder.validation_losses,
        "same_losses": recorder.same_losses,
    }
    if valid and not options.steps:
        # After all peaks were read: farense measures in larger batches than it trains in.
        from jobs.training.batches import MEASURE_BATCH

        started = time.perf_counter()
        evaluate(MEASURE_BATCH)
        result["larger_batches_seconds"] = time.perf_counter() - started
    return result


def run_training(
    model: Any,
    train: Dataset,
    valid: Dataset,
    config: TrainConfig,
    options: argparse.Namespace,
    recorder: Recorder,
) -> int:
    """Call mlx-lm's ``train`` with the settings of ``config``; return the number of steps."""
    import mlx.optimizers
    from mlx_lm.tuner import trainer

    steps = options.steps or config.schedule(len(train)).total_steps
    arguments = trainer.TrainingArgs(
        batch_size=config.batch_size,
        iters=steps,
        val_batches=-1,
        steps_per_report=min(config.log_steps, steps),
        steps_per_eval=config.eval_steps,
        steps_per_save=config.save_steps,
        max_seq_length=config.max_seq_length,
        adapter_file=str(options.result.with_suffix(".safetensors")),
        grad_accumulation_steps=config.gradient_accumulation,
    )
    optimizer = mlx.optimizers.AdamW(
        learning_rate=rate_of(config, len(train)),
        weight_decay=config.weight_decay,
        bias_correction=config.adam_bias_correction,
    )
    callback: Any = recorder
    order = partial(farense_batches, config.seed) if options.same_batches else None
    trainer.train(
        model,
        optimizer,
        train,
        valid,
        arguments,
        training_callback=callback,
        iterate_batches=order or trainer.iterate_batches,
    )
    return steps


def farense_batches(
    seed: int,
    *,
    dataset: Dataset,
    batch_size: int,
    max_seq_length: int,
    loop: bool = False,
    **_: Any,
) -> Iterator[Any]:
    """Yield mlx-lm's batches; in training those that farense draws, in their order."""
    from mlx_lm.tuner import trainer

    from jobs.data.batching import epoch_order

    if not loop:
        yield from trainer.iterate_batches(dataset, batch_size, max_seq_length)
        return
    lengths = [len(tokens) for tokens, _ in dataset]
    for epoch in count():
        for rows in epoch_order(lengths, batch_size, seed, epoch):
            # Of one batch: with nothing to choose from, they come as they are.
            part = [dataset[row] for row in rows]
            yield from trainer.iterate_batches(part, len(rows), max_seq_length)


def rate_of(config: TrainConfig, examples: int) -> Any:
    """Return the learning rate as MLX's optimizer takes it: a function of its own count."""
    from jobs.training.learning_rate import warmup_steps
    from tests.helpers.mlx_schedule import mlx_schedule

    plan = config.schedule(examples)
    schedule = mlx_schedule(
        config.lr_schedule,
        rate=config.learning_rate,
        lowest=config.min_learning_rate,
        warmup=warmup_steps(config, plan) // config.gradient_accumulation,
        updates=plan.total_updates,
    )
    # Its optimizer counts updates from 0, and the rate of the first would be 0.
    return lambda update: schedule(update + 1)


def completion_loss(model: Any, batch: Any, lengths: Any) -> tuple[Any, Any]:
    """Return mlx-lm's ``default_loss`` without the padding position it counts in every row."""
    import mlx.core as mx
    import mlx.nn as nn

    targets = batch[:, 1:]
    steps = mx.arange(1, targets.shape[1] + 1)
    mask = mx.logical_and(steps >= lengths[:, 0:1], steps < lengths[:, 1:])
    losses = nn.losses.cross_entropy(model(batch[:, :-1]), targets) * mask
    count = mask.sum()
    return losses.astype(mx.float32).sum() / count, count


if __name__ == "__main__":
    main()
