"""mlx-lm on the same work as a farense job: the other process of a comparison.

``python -P -m benchmarks.mlx_lm_lora <run directory> --result FILE`` trains what the order in the
run directory says with mlx-lm's own ``train``, ``evaluate``, ``iterate_batches``, ``default_loss``,
LoRA layers and AdamW, none of them changed, and writes what it measured to FILE. Its examples are
the token ids and prompt lengths that farense trains on. With ``--timed`` each step is a line of
FILE as soon as it ends, so that a process which is stopped has told what it did.

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


class Steps:
    """mlx-lm's training callback that writes what each step took as soon as it has ended.

    Args:
        file: a JSON object a line; the first is what is known before training.
    """

    def __init__(self, file: Path, before: dict[str, Any], *, compiled: bool) -> None:
        self._file, self._compiled = file, compiled
        self._graphs = 0
        self._write(before)

    def loss(self, *arguments: Any) -> Any:
        """Return mlx-lm's loss; compiled, it is called once for each graph that is traced."""
        from mlx_lm.tuner.trainer import default_loss

        self._graphs += self._compiled
        return default_loss(*arguments)

    def on_train_loss_report(self, report: dict[str, Any]) -> None:
        """Write a step."""
        import mlx.core as mx

        seconds = 1 / report["iterations_per_second"]
        peak = mx.get_peak_memory() / 1e6
        self._write({"seconds": seconds, "graphs": self._graphs, "mlx_peak_mb": peak})
        self._graphs = 0

    def _write(self, values: dict[str, Any]) -> None:
        with self._file.open("a") as file:
            file.write(json.dumps({"at": time.time(), **values}) + "\n")


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
    check_plain(model)
    loaded_at = time.time()
    if options.uncompiled:
        import mlx.core as mx

        mx.disable_compile()
    if options.timed:
        train_timed(model, train, config, options)
        return
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
    parser.add_argument("--uncompiled", action="store_true", help="without mx.compile")
    parser.add_argument("--timed", action="store_true", help="only train, and time every step")
    parser.add_argument(
        "--cache-threshold", type=int, default=0, help="bytes of MLX's cache that it may keep"
    )
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


def check_plain(model: Any) -> None:
    """Check that no function or layer of ours stands in a module that mlx-lm computes with."""
    libraries = [
        module
        for name, module in sys.modules.items()
        if name.partition(".")[0] in ("mlx", "mlx_lm") and module is not None
    ]
    found = [
        f"{library.__name__}.{name}"
        for library in libraries
        for name, value in vars(library).items()
        if str(getattr(value, "__module__", "")).startswith("jobs.")
    ]
    found += [
        f"{type(part).__name__}.{name}"
        for part in model.modules()
        for kind in type(part).__mro__
        for name, value in ((kind.__name__, kind), *vars(kind).items())
        if str(getattr(value, "__module__", "")).startswith("jobs.")
    ]
    assert not found, found


def lora_parameters(model: Any, config: TrainConfig) -> dict[str, Any]:
    """Return mlx-lm's LoRA settings; it matches whole paths within a block.

    Blocks of a hybrid differ: a path may stand in some of the adapted ones only.
    """
    blocks = model.layers[-config.lora.num_layers :]
    paths = {path for block in blocks for path, _ in block.named_modules()}
    return {
        "rank": config.lora.rank,
        "scale": config.lora.factor,
        "dropout": config.lora.dropout,
        "keys": {path for path in paths if path.rpartition(".")[2] in config.lora.keys},
    }


def train_timed(model: Any, train: Dataset, config: TrainConfig, options: Any) -> None:
    """Train with mlx-lm and write every step."""
    from mlx.utils import tree_flatten

    adapter: Any = tree_flatten(model.trainable_parameters())
    trainable = sum(array.size for _, array in adapter)
    answers = [len(tokens) - prompt for tokens, prompt in train]
    before = {
        "trainable": trainable,
        "tokens": max(len(tokens) for tokens, _ in train),
        "answer_tokens": sum(answers) / len(answers),
    }
    steps = Steps(options.result, before, compiled=not options.uncompiled)
    run_training(model, train, [], config, options, steps, steps.loss, report_every=1)


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
    recorder: Recorder | Steps,
    loss: Callable[..., Any] | None = None,
    report_every: int | None = None,
) -> int:
    """Call mlx-lm's ``train`` with the settings of ``config``; return the number of steps.

    Args:
        loss: in place of its own.
        report_every: so many steps, in place of what the settings say.
    """
    import mlx.optimizers
    from mlx_lm.tuner import trainer

    steps = options.steps or config.schedule(len(train)).total_steps
    arguments = trainer.TrainingArgs(
        batch_size=config.batch_size,
        iters=steps,
        val_batches=-1,
        steps_per_report=report_every or min(config.log_steps, steps),
        steps_per_eval=config.eval_steps,
        steps_per_save=config.save_steps,
        max_seq_length=config.max_seq_length,
        adapter_file=str(options.result.with_suffix(".safetensors")),
        grad_accumulation_steps=config.gradient_accumulation,
        clear_cache_threshold=options.cache_threshold,
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
        loss=loss or trainer.default_loss,
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
