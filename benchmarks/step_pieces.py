"""The kinds of work in a training step, each by itself, in the shapes of a real batch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.arithmetic import FIRST, Sizes
from benchmarks.results import say
from jobs.backend import cpu_ops as cpu
from jobs.backend.mlx import mx, optimizers
from jobs.backend.streams import Lanes
from jobs.config.config import LoraConfig
from jobs.data.batching import make_batch
from jobs.data.tokenize import TokenizedExample

REPEATS = 20
WARM_UPS = 3

Arrays = list[mx.array]
# A function and the arguments to call it with.
Job = tuple[Callable[..., Any], tuple[Any, ...]]


@dataclass(frozen=True)
class Shape:
    """A batch: so many rows of ``width`` tokens, and ``targets`` padded positions of targets."""

    rows: int
    width: int
    targets: int

    @property
    def tokens(self) -> int:
        """Positions, padding included."""
        return self.rows * self.width


class Pieces:
    """The kinds of work in a step, each for all adapted blocks, with random numbers as data.

    Every method returns a function that does the work of one batch, and its arguments. Arrays of
    different blocks are different: the compiler would compute equal ones once.
    """

    def __init__(self, sizes: Sizes, lora: LoraConfig) -> None:
        self.sizes, self.lora = sizes, lora
        self.weights = [
            {name: _random(*reversed(shape)) for name, shape in sizes.projections().items()}
            for _ in range(lora.num_layers)
        ]
        self.vocabulary = _random(sizes.vocabulary, sizes.hidden)

    def matmuls(self, shape: Shape) -> Job:
        """Products with the frozen weights of the blocks."""
        work = [
            (_random(count, weight.shape[1]), _random(count, weight.shape[0]), weight)
            for weight, count, _ in self._projections(shape)
        ]
        flags = [onward for *_, onward in self._projections(shape)]

        def run(arrays: list[tuple[mx.array, mx.array, mx.array]]) -> list[Arrays]:
            return [
                [x @ weight.T, gradient @ weight] if onward else [x @ weight.T]
                for (x, gradient, weight), onward in zip(arrays, flags, strict=True)
            ]

        return run, (work,)

    def lora_matmuls(self, shape: Shape) -> Job:
        """Products with the low-rank matrices, and their gradients."""
        scale = self.lora.factor

        def forward(x: mx.array, a: mx.array, b: mx.array) -> mx.array:
            return ((x @ a) * scale) @ b

        work = []
        for weight, count, _ in self._projections(shape):
            outputs, inputs = weight.shape
            a, b = _random(inputs, self.lora.rank), _random(self.lora.rank, outputs)
            work.append(((_random(count, inputs), a, b), _random(count, outputs)))
        return _with_gradients(forward), (work,)

    def attention(self, shape: Shape) -> Job:
        """Scores, softmax and weighted values."""
        sizes = self.sizes

        def forward(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
            return cpu.attention(queries, keys, values, None, sizes.head_dim**-0.5, "causal")

        def heads(count: int) -> mx.array:
            return _random(shape.rows, count, shape.width, sizes.head_dim)

        work = [
            ((heads(sizes.heads), heads(sizes.kv_heads), heads(sizes.kv_heads)), heads(sizes.heads))
            for _ in self.weights
        ]
        return _with_gradients(forward), (work,)

    def rotary(self, shape: Shape) -> Job:
        """Rotary embedding of queries and keys."""
        sizes = self.sizes

        def forward(x: mx.array) -> mx.array:
            return mx.fast.rope(
                x, sizes.head_dim, traditional=False, base=10000.0, scale=1.0, offset=0
            )

        shapes = [
            (shape.rows, n, shape.width, sizes.head_dim) for n in (sizes.heads, sizes.kv_heads)
        ]
        return _with_gradients(forward), (_single(shapes * len(self.weights)),)

    def swiglu(self, shape: Shape) -> Job:
        """The activation of the MLP."""
        work = []
        for count in self._positions(shape):
            arrays = [_random(count, self.sizes.intermediate) for _ in range(3)]
            work.append(((arrays[0], arrays[1]), arrays[2]))
        return _with_gradients(cpu.swiglu), (work,)

    def norms(self, shape: Shape) -> Job:
        """Two RMS norms a block, and the last one before the head."""
        weight = mx.ones(self.sizes.hidden)

        def forward(x: mx.array) -> mx.array:
            return mx.fast.rms_norm(x, weight, 1e-5)

        before = [shape.tokens for _ in self.weights]
        counts = [*before, *self._positions(shape), shape.targets]
        return _with_gradients(forward), (_single([(n, self.sizes.hidden) for n in counts]),)

    def dropout(self, shape: Shape) -> Job:
        """Dropping inputs of the low-rank matrices, given random numbers of 16 bits."""
        dropped = round(self.lora.dropout * 65536)

        def run(work: list[tuple[mx.array, mx.array, mx.array]]) -> Arrays:
            return [
                mx.where(noise >= dropped, array * 1.1, 0.0)
                for x, gradient, noise in work
                for array in (x, gradient)
            ]

        shapes = [(count, weight.shape[1]) for weight, count, _ in self._projections(shape)]
        return run, ([(_random(*s), _random(*s), _noise(s)) for s in shapes],)

    def head(self, shape: Shape) -> Job:
        """Products with the vocabulary matrix."""
        rows = _random(shape.targets, self.sizes.hidden)
        gradient = _random(shape.targets, self.sizes.vocabulary)

        def run(x: mx.array, g: mx.array, weight: mx.array) -> Arrays:
            return [x @ weight.T, g @ weight]

        return run, (rows, gradient, self.vocabulary)

    def cross_entropy(self, shape: Shape) -> Job:
        """The loss of each target."""
        targets = mx.zeros(shape.targets, dtype=mx.int32)

        def forward(logits: mx.array) -> mx.array:
            return cpu.cross_entropy(logits, targets)

        logits = _random(shape.targets, self.sizes.vocabulary)
        return _with_gradients(forward), ([((logits,), _random(shape.targets))],)

    def update(self) -> Job:
        """One AdamW update of the adapter."""
        adapter = {}
        for block, weights in enumerate(self.weights):
            for name, weight in weights.items():
                adapter[f"{block}.{name}.a"] = _random(weight.shape[1], self.lora.rank)
                adapter[f"{block}.{name}.b"] = _random(self.lora.rank, weight.shape[0])
        optimizer = optimizers.AdamW(learning_rate=1e-4)
        optimizer.init(adapter)

        def run(gradients: dict[str, mx.array], values: dict[str, mx.array], state: Any) -> Any:
            optimizer.state = state
            return optimizer.apply_gradients(gradients, values), optimizer.state

        return run, (adapter, adapter, optimizer.state)

    def _projections(self, shape: Shape) -> list[tuple[mx.array, int, bool]]:
        """Return for each projection its weight, its positions, and if its input has a gradient.

        In the last block the output projection and the MLP see positions with a target only.
        """
        found = []
        for block, weights in enumerate(self.weights):
            for name, weight in weights.items():
                last = block == len(self.weights) - 1 and name not in FIRST
                onward = not (block == 0 and name in FIRST)
                found.append((weight, shape.targets if last else shape.tokens, onward))
        return found

    def _positions(self, shape: Shape) -> list[int]:
        """Return at how many positions the second half of each block is computed."""
        return [*[shape.tokens] * (len(self.weights) - 1), shape.targets]


def measure_pieces(
    pieces: Pieces, examples: Sequence[TokenizedExample], lanes: Lanes, accumulation: int
) -> dict[str, float]:
    """Return the seconds of each kind of piece in a step on the batch ``examples``.

    Steps of one update are computed at the same time, each on a lane of its own: so are these.

    Args:
        accumulation: steps an update.
    """
    shape = _shape(examples)
    kinds: dict[str, Callable[[Shape], Job]] = {
        "matrix products of the blocks": pieces.matmuls,
        "matrix products of LoRA": pieces.lora_matmuls,
        "attention": pieces.attention,
        "SwiGLU": pieces.swiglu,
        "norms": pieces.norms,
        "rotary embedding": pieces.rotary,
        "dropout": pieces.dropout,
        "vocabulary head": pieces.head,
        "cross-entropy": pieces.cross_entropy,
    }
    found = {}
    for name, make in kinds.items():
        say(f"{name} ...")
        found[name] = seconds_of([make(shape) for _ in lanes.streams], lanes) / len(lanes)
    found["random numbers for dropout"] = noise_seconds(pieces, shape)
    found["optimizer update"] = seconds_of([pieces.update()], lanes) / accumulation
    return found


def seconds_of(jobs: list[Job], lanes: Lanes) -> float:
    """Return the median seconds of some jobs, each compiled, on a lane of its own."""
    compiled = [(mx.compile(function), arguments) for function, arguments in jobs]
    mx.eval([arguments for _, arguments in compiled])
    times = []
    for _ in range(WARM_UPS + REPEATS):
        started = time.perf_counter()
        outputs = []
        for (function, arguments), stream in zip(compiled, lanes.streams, strict=False):
            with mx.stream(stream):
                outputs.append(function(*arguments))
        mx.eval(outputs)
        times.append(time.perf_counter() - started)
    return statistics.median(times[WARM_UPS:])


def noise_seconds(pieces: Pieces, shape: Shape) -> float:
    """Return the median seconds of drawing sixteen bits for every input that may be dropped."""
    inputs = sum(weight.shape[1] for weights in pieces.weights for weight in weights.values())
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        np.random.SFC64(0).random_raw(shape.tokens * inputs // 4)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _shape(examples: Sequence[TokenizedExample]) -> Shape:
    batch = make_batch(examples)
    rows, width = batch.inputs.shape
    return Shape(rows, width, len(batch.positions))


def _with_gradients(forward: Callable[..., mx.array]) -> Callable[[Any], list[Any]]:
    """Return a function that runs ``forward`` and back on each (inputs, output's gradient)."""

    def run(work: list[tuple[tuple[mx.array, ...], mx.array]]) -> list[Any]:
        return [mx.vjp(forward, list(inputs), [gradient]) for inputs, gradient in work]

    return run


def _single(shapes: Sequence[tuple[int, ...]]) -> list[tuple[tuple[mx.array], mx.array]]:
    return [((_random(*shape),), _random(*shape)) for shape in shapes]


def _random(*shape: int) -> mx.array:
    return mx.random.normal(shape)


def _noise(shape: tuple[int, ...]) -> mx.array:
    return mx.random.randint(0, 65536, shape).astype(mx.uint16)
