"""How much arithmetic a training step cannot do without, and how fast this machine multiplies.

``python -P -m benchmarks.arithmetic <run directory> --result FILE`` writes both: a process of its
own, so that the program that compares stays small (see :mod:`benchmarks.runs`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.runs import config_of, tokenized, watch, workspace_of
from jobs.data.tokenize import TokenizedExample
from jobs.paths import RunDirectory
from jobs.spec import read_spec

PEAK_SIZE = 1536
PEAK_REPEATS = 30
# The projections that read what enters a block.
FIRST = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True)
class Sizes:
    """The sizes of a Llama-like model."""

    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int

    @classmethod
    def read(cls, model: Path) -> Sizes:
        """Return those of a model folder."""
        config = json.loads((model / "config.json").read_text())
        hidden, heads = config["hidden_size"], config["num_attention_heads"]
        return cls(
            hidden=hidden,
            intermediate=config["intermediate_size"],
            heads=heads,
            kv_heads=config["num_key_value_heads"],
            head_dim=config.get("head_dim") or hidden // heads,
            vocabulary=config["vocab_size"],
        )

    def projections(self) -> dict[str, tuple[int, int]]:
        """Return the input and output features of each linear layer of a block."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "q_proj": (self.hidden, queries),
            "k_proj": (self.hidden, keys),
            "v_proj": (self.hidden, keys),
            "o_proj": (queries, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }


@dataclass(frozen=True)
class Row:
    """An example as a step sees it: so many input tokens, of which the last few have a target."""

    tokens: int
    targets: int

    @classmethod
    def of(cls, example: TokenizedExample) -> Row:
        """Return the row of an example; its last token is a target only."""
        length = len(example.tokens)
        return cls(length - 1, example.target_count)


@dataclass(frozen=True)
class Work:
    """What a run asks of the machine, and what the machine can do.

    Attributes:
        tokens_per_step, gflop_per_step: means over an epoch; padding is not counted.
        peak_gflops: float32 matrix products of 1536^3 a second, median, with all threads.
        peak_range: the slowest and the fastest of them.
    """

    tokens_per_step: float
    gflop_per_step: float
    peak_gflops: float
    peak_range: tuple[float, float]

    def share(self, steps_per_second: float) -> float:
        """Return the share of the peak that the necessary arithmetic reaches at a speed."""
        return self.gflop_per_step * steps_per_second / self.peak_gflops


def step_flops(sizes: Sizes, layers: int, rank: int, rows: Iterable[Row]) -> int:
    """Return the floating-point operations that training ``layers`` adapted blocks needs.

    All seven projections of a block are adapted; nothing is done for the blocks below the first
    adapted one, for padding, or twice. Counted, a multiplication with its addition as two, with P
    the positions at which a layer is computed:

    - frozen projection, in x out: 2 in out P forward and as much for the gradient of its input; no
      gradient of the weight. The input of the first block's q, k and v is a constant: no gradient.
    - LoRA matrices A [in, r] and B [r, out]: 2 r (in + out) P forward, as much for their own
      gradients, 2 r out P for the gradient between them and 2 r in P for that of the input (again
      not in the first block's q, k and v).
    - attention: for each query head and each pair of a query and a position it sees, 4 head_dim
      forward (scores, weighted values) and 8 head_dim backward.
    - vocabulary matrix: 2 hidden vocabulary for each target forward, and as much backward.

    P is every input token, but in the last block only positions with a target for what follows
    attention and for its queries; keys and values are needed everywhere. Norms, softmax, SwiGLU,
    rotary embedding, dropout, the loss and the optimizer, which are no matrix products, are not.
    """
    return sum(_row_flops(sizes, layers, rank, row) for row in rows)


def _row_flops(sizes: Sizes, layers: int, rank: int, row: Row) -> int:
    total = 2 * 2 * sizes.hidden * sizes.vocabulary * row.targets
    for layer in range(layers):
        queries = row.targets if layer == layers - 1 else row.tokens
        for name, (inputs, outputs) in sizes.projections().items():
            positions = row.tokens if name in ("k_proj", "v_proj") else queries
            onward = not (layer == 0 and name in FIRST)
            total += 2 * inputs * outputs * positions * (1 + onward)
            total += 2 * rank * positions * (2 * (inputs + outputs) + outputs + inputs * onward)
        # The queries are the row's last: the first of them sees tokens - queries + 1 positions.
        pairs = queries * (2 * row.tokens - queries + 1) // 2
        total += (4 + 8) * sizes.heads * sizes.head_dim * pairs
    return total


def measure_work(run: RunDirectory) -> Work:
    """Return the work of a run, and this machine's peak, measured in a process of its own."""
    file = run.path / "arithmetic.json"
    watch(workspace_of(run), "benchmarks.arithmetic", str(run.path), "--result", str(file))
    values: dict[str, Any] = json.loads(file.read_text())
    return Work(**values | {"peak_range": tuple(values["peak_range"])})


def matmul_gflops() -> list[float]:
    """Return the speed of float32 matrix products of 1536^3, one after another."""
    from jobs.backend.mlx import mx

    a, b = (mx.random.normal((PEAK_SIZE, PEAK_SIZE)) for _ in range(2))
    speeds = []
    for _ in range(PEAK_REPEATS + 3):
        mx.eval(a, b)
        started = time.perf_counter()
        mx.eval(a @ b)
        speeds.append(2 * PEAK_SIZE**3 / (time.perf_counter() - started) / 1e9)
    return speeds[3:]


def main() -> None:
    """Count, measure and write."""
    parser = argparse.ArgumentParser(prog="python -P -m benchmarks.arithmetic")
    parser.add_argument("run_directory", type=Path)
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args()
    run = RunDirectory(options.run_directory.absolute())

    from jobs.model.load import load_tokenizer

    config, model = config_of(run), workspace_of(run).inside(config_of(run).model)
    examples = tokenized(run, read_spec(run).train, load_tokenizer(model))
    rows = [Row.of(example) for example in examples]
    steps = config.schedule(len(rows)).steps_per_epoch
    flops = step_flops(Sizes.read(model), config.lora.num_layers, config.lora.rank, rows)
    speeds = matmul_gflops()
    values = {
        "tokens_per_step": sum(row.tokens for row in rows) / steps,
        "gflop_per_step": flops / steps / 1e9,
        "peak_gflops": statistics.median(speeds),
        "peak_range": (min(speeds), max(speeds)),
    }
    options.result.write_text(json.dumps(values))


if __name__ == "__main__":
    main()
