"""How time and memory grow with examples, sequence length and adapted layers.

``python -m benchmarks.scaling`` trains at each point with an empty prefix cache: a whole epoch
where the examples grow (only what a run uses is cached), else a few steps. With ``--peer`` mlx-lm
trains a few steps of the same work beside it, with the same BLAS and float32 weights. It prints a
table and writes a JSON file and a PNG to ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measured import Measured, measure_farense, measure_mlx_lm
from benchmarks.results import results_folder, say, table, write_results
from benchmarks.rows import ROWS, long_rows, many_rows
from benchmarks.runs import SETTINGS, TINY_LORA, Row, benchmark_workspace, forget, make_run
from jobs.paths import Workspace

EXAMPLES, LENGTH, LAYERS = "examples", "sequence length", "adapted layers"
POINTS = {
    EXAMPLES: (250, 1000, 8000),
    LENGTH: (64, 128, 256, 512, 1024),
    LAYERS: (2, 4, 8, 15, 30),
}
QUICK_POINTS = {EXAMPLES: (20, 40), LENGTH: (64, 128), LAYERS: (1, 4)}
STEPS, QUICK_STEPS = 24, 8

FARENSE, PEER = "farense", "mlx-lm"


@dataclass(frozen=True)
class Point:
    """One program at one size."""

    axis: str
    size: int
    measured: Measured

    @property
    def step_ms(self) -> float:
        """Milliseconds of a step."""
        return 1e3 / self.measured.steps_per_second


def main() -> None:
    """Measure, print and write."""
    options = parse()
    points: list[Point] = []
    name = f"scaling_{options.only}".replace(" ", "_") if options.only else "scaling"
    output = results_folder(quick=options.quick) / f"{name}.json"
    with benchmark_workspace(tiny=options.quick) as workspace:
        for point in measure(workspace, options):
            points.append(point)
            say(f"{point.measured.setting}, {point.size} {point.axis}: {point.step_ms:.0f} ms")
            write_results(output, {"points": [asdict(point) for point in points]})
    print(report(points))
    plot(points, output.with_suffix(".png"))


def parse() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling")
    parser.add_argument("--peer", action="store_true", help="mlx-lm beside it")
    parser.add_argument("--only", choices=POINTS, help="one axis")
    parser.add_argument("--quick", action="store_true", help="a tiny model and few steps")
    return parser.parse_args()


def measure(workspace: Workspace, options: argparse.Namespace) -> Iterator[Point]:
    """Yield the points of each axis; the first run of each program, which compiles, is left out."""
    lora = TINY_LORA if options.quick else SETTINGS["lora"]
    few: Row = {"max_steps": QUICK_STEPS if options.quick else STEPS, "num_epochs": 100}
    all_points = QUICK_POINTS if options.quick else POINTS
    say("Warming up the compilers ...")
    rows = many_rows(ROWS)
    for program in (measure_farense, measure_mlx_lm) if options.peer else (measure_farense,):
        program(make_run(workspace, rows, lora=lora, **few), "warm-up")
    for axis in [options.only] if options.only else all_points:
        for size in all_points[axis]:
            rows, settings = work_at(workspace, axis, size, {"lora": lora, **few})
            whole: Row = {"max_steps": None, "num_epochs": 1} if axis == EXAMPLES else {}
            forget(workspace)
            run = make_run(workspace, rows, **{**settings, **whole})
            yield Point(axis, size, measure_farense(run, FARENSE))
            if options.peer:
                yield Point(axis, size, measure_mlx_lm(make_run(workspace, rows, **settings), PEER))


def work_at(
    workspace: Workspace, axis: str, size: int, base: dict[str, Any]
) -> tuple[list[Row], dict[str, Any]]:
    """Return the rows and settings at a point of an axis."""
    if axis == EXAMPLES:
        return many_rows(size), base
    if axis == LENGTH:
        return long_rows(workspace.root / SETTINGS["model"], size), {**base, "max_seq_length": size}
    return many_rows(ROWS), {**base, "lora": {**base["lora"], "num_layers": size}}


def report(points: list[Point]) -> str:
    """Return the table, as Markdown."""
    head = [
        "",
        "size",
        "steps",
        "ms a step",
        "cache fill, s",
        "MLX's peak, MB",
        "resident peak, MB",
    ]
    rows = [
        [
            f"{point.axis}, {point.measured.setting}",
            f"{point.size:,}",
            f"{point.measured.steps:,}",
            f"{point.step_ms:,.0f}",
            f"{point.measured.fill_seconds:.1f}" if point.measured.setting == FARENSE else "–",
            f"{point.measured.mlx_peak_mb:,.0f}",
            f"{point.measured.resident_mb:,.0f}",
        ]
        for point in sorted(points, key=lambda p: (list(POINTS).index(p.axis), p.measured.setting))
    ]
    return table(head, rows)


def plot(points: list[Point], path: Path) -> None:
    """Draw time above and memory below, for each axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, len(POINTS), figsize=(13, 7), sharex="col")
    for times, memory, axis in zip(above, below, POINTS, strict=True):
        for number, program in enumerate((FARENSE, PEER)):
            chosen = [p for p in points if p.axis == axis and p.measured.setting == program]
            if chosen:
                _draw(times, memory, chosen, f"C{number}")
        times.set(ylabel="s", ylim=(0, None))
        sizes = sorted({point.size for point in points if point.axis == axis})
        memory.set(xscale="log", xlabel=axis, ylabel="MB", ylim=(0, None))
        memory.set_xticks(sizes, [str(size) for size in sizes], minor=False)
        memory.minorticks_off()
        if sizes:  # else another axis alone was measured
            times.legend(fontsize=7)
            memory.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def _draw(times: Any, memory: Any, points: list[Point], color: str) -> None:
    program, sizes = points[0].measured.setting, [point.size for point in points]
    how = {"color": color, "marker": "."}
    times.plot(
        sizes, [point.step_ms / 10 for point in points], label=f"{program}, 100 steps", **how
    )
    if program == FARENSE:
        fills = [point.measured.fill_seconds for point in points]
        times.plot(sizes, fills, ":", label="filling the cache", **how)
    peaks = [point.measured.mlx_peak_mb for point in points]
    memory.plot(sizes, peaks, label=f"{program}, MLX's peak", **how)
    resident = [point.measured.resident_mb for point in points]
    memory.plot(sizes, resident, ":", label=f"{program}, resident peak", **how)


if __name__ == "__main__":
    main()
