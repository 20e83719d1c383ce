"""Where a training step goes, and which share of the float32 peak it reaches. For a CPU.

``python -m benchmarks.step_breakdown`` takes the median batch of the sample data, trains on nothing
else for a while, and times each kind of piece of a step by itself, in the same shapes and on as
many lanes at once, forward and backward. The kinds are computed one after another, each for all
adapted blocks; what a step does beside them (gathering, adding, padding, waiting, Python) is the
rest. It is negative where steps on other lanes hide each other's waiting.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.arithmetic import Row, Sizes, Work, measure_work, step_flops
from benchmarks.results import results_folder, say, table, write_results
from benchmarks.runs import (
    SETTINGS,
    TINY_LORA,
    benchmark_workspace,
    config_of,
    make_run,
    sample_rows,
    tokenized,
    watch,
    workspace_of,
)
from benchmarks.step_pieces import Pieces, measure_pieces
from jobs.backend.backend import backend
from jobs.data.batching import epoch_order
from jobs.data.tokenize import TokenizedExample
from jobs.model.load import load_tokenizer
from jobs.paths import RunDirectory, Workspace
from jobs.spec import read_spec
from jobs.storage.files import read_json

STEPS, QUICK_STEPS = 120, 16
EPOCHS = 4


def main() -> None:
    """Measure, print and write."""
    options = parse()
    settings: dict[str, Any] = {"lora": TINY_LORA} if options.quick else {}
    copies = (QUICK_STEPS if options.quick else STEPS) // EPOCHS
    with benchmark_workspace(tiny=options.quick) as workspace:
        rows, examples, work = median_batch(workspace, settings)
        # A batch holds rows of like length: its own two here, or one of them twice.
        once = {"num_epochs": EPOCHS, "log_steps": SETTINGS["gradient_accumulation"]}
        run = make_run(workspace, rows * copies, **{**settings, **once})
        say("Training on the median batch alone ...")
        whole = step_seconds(run, sum(len(example.tokens) - 1 for example in examples))
        config, sizes = config_of(run), Sizes.read(workspace.inside(config_of(run).model))
    lora, accumulation = config.lora, config.gradient_accumulation
    lanes = backend().lanes(config.batch_size * accumulation)
    pieces = measure_pieces(Pieces(sizes, lora), examples, lanes, accumulation)
    batch = [Row.of(example) for example in examples]
    gflop = step_flops(sizes, lora.num_layers, lora.rank, batch) / 1e9
    print(report(pieces, whole, gflop, work))
    output = results_folder(quick=options.quick) / "step_breakdown.json"
    values = {
        "batch": [asdict(row) for row in batch],
        "step_seconds": whole,
        "gflop": gflop,
        "work": asdict(work),
        "pieces_seconds": pieces,
    }
    write_results(output, values)
    plot(pieces, whole, output.with_suffix(".png"))


def parse() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step_breakdown")
    parser.add_argument("--quick", action="store_true", help="a tiny model and few steps")
    return parser.parse_args()


def median_batch(
    workspace: Workspace, settings: dict[str, Any]
) -> tuple[list[dict[str, Any]], list[TokenizedExample], Work]:
    """Return the rows and examples of the first epoch's median batch by tokens; and the work."""
    rows = sample_rows("train")
    run = make_run(workspace, rows, **settings)
    config = config_of(run)
    tokenizer = load_tokenizer(workspace.inside(config.model))
    examples = tokenized(run, read_spec(run).train, tokenizer)
    assert len(examples) == len(rows)
    lengths = [len(example.tokens) for example in examples]
    batches = epoch_order(lengths, config.batch_size, config.seed, 0)
    batches.sort(key=lambda batch: sum(lengths[i] for i in batch))
    chosen = batches[len(batches) // 2]
    return [rows[i] for i in chosen], [examples[i] for i in chosen], measure_work(run)


def step_seconds(run: RunDirectory, tokens: int) -> float:
    """Return the median seconds of a step of a run whose batches have ``tokens`` real tokens.

    A row of metrics knows its tokens a second, the time of checkpoints left out; the first rows,
    which trace and fill caches, are left out here.
    """
    watch(workspace_of(run), "jobs", str(run.path))
    speeds = [row["tokens_per_second"] for row in read_json(run.metrics_json)]
    return tokens / float(statistics.median(speeds[len(speeds) // 4 :]))


def report(pieces: dict[str, float], whole: float, gflop: float, work: Work) -> str:
    """Return the table, the greatest first, as Markdown."""
    ordered = sorted(pieces.items(), key=lambda piece: -piece[1])
    rows = [*ordered, ("the rest", whole - sum(pieces.values())), ("the whole step", whole)]
    share, (least, most) = 100 * gflop / whole / work.peak_gflops, work.peak_range
    lines = [
        table(
            ["piece, forward and backward", "ms", "% of the step"],
            [[name, f"{1e3 * t:.1f}", f"{100 * t / whole:.0f}"] for name, t in rows],
        ),
        "",
        f"The necessary {gflop:.2f} GFLOP of this step take {1e3 * whole:.0f} ms: "
        f"{share:.1f}% of the float32 peak, "
        f"{work.peak_gflops:.0f} GFLOP/s ({least:.0f} to {most:.0f}).",
    ]
    return "\n".join(lines)


def plot(pieces: dict[str, float], whole: float, path: Path) -> None:
    """Draw the pieces as bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rest = {"the rest": whole - sum(pieces.values())}
    bars = sorted((pieces | rest).items(), key=lambda piece: piece[1])
    figure, axes = pyplot.subplots(figsize=(8, 4))
    axes.barh([name for name, _ in bars], [1e3 * seconds for _, seconds in bars])
    axes.set(title=f"where a step of {1e3 * whole:.0f} ms goes", xlabel="ms")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
