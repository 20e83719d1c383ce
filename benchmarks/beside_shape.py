"""farense beside mlx-lm on a shape and a length: what a step takes, and what compiling it does.

``python -m benchmarks.beside_mlx_lm --shape NAME --tokens N`` trains a random model of a shape
(:mod:`benchmarks.shapes`) on examples that all have N tokens, in pairs: farense with an empty
cache, mlx-lm with the same BLAS and float32 weights, farense again with a warm cache. Each program
keeps the kernels that MLX compiles in a folder of its own, which a cold run finds empty; mlx-lm
finds it empty in the first pair.

mlx-lm may be given few steps, or seconds after which it is stopped: what it has told until then is
used.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.results import results_folder, say, spread, table, write_results
from benchmarks.rows import long_rows
from benchmarks.runs import (
    SETTINGS,
    Row,
    Watched,
    benchmark_workspace,
    forget,
    make_run,
    watch,
    workspace_of,
)
from benchmarks.shapes import Shape, names
from jobs.paths import RunDirectory, Workspace
from jobs.storage.files import whole_lines

COLD, WARM, PEER = "cold", "warm", "mlx-lm"
TITLES = {COLD: "farense, cold", WARM: "farense, warm", PEER: "mlx-lm"}
# mlx-lm's step is traced anew for the first, the second and the last step of an update, and again
# for the first two and the last after the optimizer got its state: steps 1, 2, 4, 5, 6 and 8.
LEAST_PEER_STEPS = 3
# Different examples: enough that no two batches of an update are the same.
ROWS = 16


@dataclass(frozen=True)
class Timed:
    """One run of a program.

    Attributes:
        setting: which program, and for farense whether its caches were empty.
        empty_kernels: it had to compile all of MLX's kernels.
        steps: how many were trained.
        step_seconds: of a step, where nothing was traced; farense's are means over an update.
        start_seconds: process, tokens, loading; for farense also trying its shortcuts.
        compile_seconds: what the first steps took beyond their pace; farense tries steps of the
            largest shape before the first, which counts.
        graphs: how many were traced for them.
        whole_seconds: from the process's start to its end.
        fill_seconds, states: of filling the prefix cache, and for how many examples.
        mlx_peak_mb: peak of MLX's active memory, from the process's start on; its cache of freed
            memory is not counted.
        resident_mb: peak of the process's resident memory.
        trainable: numbers in the adapter.
        failure: how it ended, where it did not end well.
        stopped: it was stopped for taking too long.
    """

    setting: str
    empty_kernels: bool
    steps: int
    step_seconds: tuple[float, ...]
    start_seconds: float
    compile_seconds: float | None
    graphs: int
    whole_seconds: float
    fill_seconds: float
    states: int
    mlx_peak_mb: float
    resident_mb: float
    trainable: int
    failure: str | None = None
    stopped: bool = False

    @property
    def pace(self) -> float:
        """Median seconds of a step; 0 where none was measured."""
        return statistics.median(self.step_seconds) if self.step_seconds else 0.0


@dataclass
class ShapeComparison:
    """All that was measured of a shape, in the order of the runs."""

    shape: Shape
    output: Path
    settings: dict[str, Any]
    tokens: int
    answer_tokens: float | None = None
    runs: list[Timed] = field(default_factory=list)

    def add(self, timed: Timed) -> None:
        """Keep a run, and write everything so far."""
        self.runs.append(timed)
        # The same layers are adapted on both sides.
        assert len({run.trainable for run in self.runs if run.trainable}) == 1, self.runs
        pace = f"{timed.pace:.3f} s a step" if timed.step_seconds else "no step was measured"
        say(f"{TITLES[timed.setting]}: {', '.join(filter(None, (pace, timed.failure)))}")
        values = {
            "shape": asdict(self.shape),
            "tokens": self.tokens,
            "answer_tokens": self.answer_tokens,
            "settings": {**SETTINGS, **self.settings},
            "runs": [asdict(run) for run in self.runs],
        }
        write_results(self.output, values)

    def of(self, setting: str) -> list[Timed]:
        """Return the runs of a setting."""
        return [run for run in self.runs if run.setting == setting]


def compare(options: argparse.Namespace) -> None:
    """Measure, print and write what the command line's options ask for."""
    shape = Shape.read(options.shape)
    blocks = options.blocks or shape.adapted_blocks
    if options.quick:
        blocks = min(blocks, 2)
    settings = {
        "model": f"models/{shape.name}",
        "max_seq_length": options.tokens,
        "lora": {**SETTINGS["lora"], "num_layers": blocks, "keys": list(shape.keys)},
        "batch_size": options.batch_size,
        "num_epochs": 1000,
        "max_steps": options.steps,
        # A row for each update.
        "log_steps": SETTINGS["gradient_accumulation"],
    }
    output = results_folder(quick=options.quick) / f"{_name(options)}.json"
    with benchmark_workspace(tiny=options.quick, shape=shape.name) as workspace:
        model = workspace.models / shape.name
        rows = long_rows(model, options.tokens, options.answer_tokens, ROWS)
        comparison = ShapeComparison(shape, output, settings, options.tokens)
        for pair in range(1 if options.quick else options.pairs):
            measure_pair(comparison, workspace, rows, pair, options)
    print(report(comparison))
    say(f"Written: {output}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this comparison to those of the other."""

    group = parser.add_argument_group("a shape and a length (see benchmarks/shapes)")
    group.add_argument("--shape", choices=names(), help="in place of the packaged model")
    group.add_argument("--tokens", type=int, default=128, help="of each example (default: 128)")
    group.add_argument("--answer-tokens", type=int, help="of them (default: a third)")
    group.add_argument("--blocks", type=int, help="adapted (default: what the shape says)")
    group.add_argument("--batch-size", type=int, default=2, help="default: 2")
    group.add_argument("--steps", type=int, default=20, help="of farense (default: 20)")
    group.add_argument(
        "--peer-steps", type=int, default=12, help="of mlx-lm (default: 12, least: 3)"
    )
    group.add_argument(
        "--peer-cache",
        type=int,
        default=0,
        help="bytes of freed memory that mlx-lm keeps from step to step (default: 0)",
    )
    group.add_argument(
        "--peer-uncompiled",
        action="store_true",
        help="mlx-lm without mx.compile, whose graphs of loops over tokens are huge",
    )
    group.add_argument(
        "--peer-seconds", type=float, default=1200, help="then mlx-lm is stopped (default: 1200)"
    )


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the program where the options make no comparison."""
    each = SETTINGS["gradient_accumulation"]
    if options.steps < 2 * each or options.steps % each:
        parser.error(f"--steps: a multiple of {each}, {2 * each} at least")
    if options.peer_steps < LEAST_PEER_STEPS:
        parser.error(f"--peer-steps: {LEAST_PEER_STEPS} at least; its first two steps compile")


def measure_pair(
    comparison: ShapeComparison,
    workspace: Workspace,
    rows: Sequence[Row],
    pair: int,
    options: argparse.Namespace,
) -> None:
    """Run both programs in turn."""
    ours, theirs = (workspace.private / f"kernels-{program}" for program in ("farense", "peer"))
    _empty(ours)
    forget(workspace)
    settings = comparison.settings

    def run() -> RunDirectory:
        return make_run(workspace, rows, **settings)

    comparison.add(time_farense(run(), COLD, ours))
    if pair == 0:
        _empty(theirs)
    timed, told = time_mlx_lm(run(), theirs, options, empty=pair == 0)
    comparison.answer_tokens = told.get("answer_tokens", comparison.answer_tokens)
    comparison.add(timed)
    comparison.add(time_farense(run(), WARM, ours))


def time_farense(run: RunDirectory, setting: str, kernels: Path) -> Timed:
    """Run a job as a worker would, without one."""
    workspace = workspace_of(run)
    process = watch(workspace, "jobs", str(run.path), temporary=kernels)
    lines = whole_lines(workspace.job_log(run.job_id))
    events = [json.loads(line) for line in lines]
    started, finished = (_last(events, kind) for kind in ("started", "finished"))
    updates = [event for event in events if event["event"] == "train_metrics"]
    ends = [event["elapsed_time_sec"] for event in updates]
    each = SETTINGS["gradient_accumulation"]
    paces = [(end - start) / each for start, end in pairwise(ends)]
    compiling = (_time(updates[0]) - _time(_last(events, "phase"))).total_seconds()
    fill = _last(events, "prefix_cached")
    return Timed(
        setting=setting,
        empty_kernels=setting == COLD,
        steps=finished["step"],
        step_seconds=tuple(paces),
        start_seconds=(_time(started) - process.launched).total_seconds(),
        compile_seconds=compiling - each * statistics.median(paces),
        graphs=finished["graphs"],
        whole_seconds=process.seconds,
        fill_seconds=fill["seconds"] if fill else 0.0,
        states=fill["examples"] if fill else 0,
        mlx_peak_mb=max(event["memory_mb"] for event in updates),
        resident_mb=process.resident_mb,
        trainable=started["trainable_parameters"],
    )


def time_mlx_lm(
    run: RunDirectory, kernels: Path, options: argparse.Namespace, *, empty: bool
) -> tuple[Timed, dict[str, Any]]:
    """Run mlx-lm on what the order of a farense job says; also return what it told at first."""
    file = run.path / "steps.jsonl"
    process = watch(
        workspace_of(run),
        "benchmarks.mlx_lm_lora",
        *(str(run.path), "--result", str(file), "--timed", "--steps", str(options.peer_steps)),
        *("--cache-threshold", str(options.peer_cache)),
        *(["--uncompiled"] if options.peer_uncompiled else []),
        temporary=kernels,
        limit=options.peer_seconds,
    )
    told = [json.loads(line) for line in whole_lines(file)] if file.exists() else []
    first, steps = (told[0] if told else {}), told[1:]
    return timed_steps(process, first, steps, empty=empty), first


def timed_steps(
    process: Watched, first: dict[str, Any], steps: Sequence[dict[str, Any]], *, empty: bool
) -> Timed:
    """Return what the steps come to that mlx-lm told of."""
    measured = [step["seconds"] for step in steps if not step["graphs"]]
    traced = [step["seconds"] for step in steps if step["graphs"]]
    pace = statistics.median(measured) if measured else None
    return Timed(
        setting=PEER,
        empty_kernels=empty,
        steps=len(steps),
        step_seconds=tuple(measured),
        start_seconds=first["at"] - process.launched.timestamp() if first else process.seconds,
        compile_seconds=sum(each - pace for each in traced) if pace else None,
        graphs=sum(step["graphs"] for step in steps),
        whole_seconds=process.seconds,
        fill_seconds=0.0,
        states=0,
        mlx_peak_mb=max((step["mlx_peak_mb"] for step in steps), default=0.0),
        resident_mb=process.resident_mb,
        trainable=first.get("trainable", 0),
        failure=process.failure,
        stopped=process.stopped,
    )


def report(comparison: ShapeComparison) -> str:
    """Return the table and what it comes to, as Markdown."""
    shape, lora = comparison.shape, comparison.settings["lora"]
    blocks = "all" if lora["num_layers"] == shape.blocks else f"{lora['num_layers']} of"
    answer = comparison.answer_tokens
    head = ["median (least to greatest)", *TITLES.values()]
    rows = [
        [name, *(spread(_values(comparison.of(setting), value), digits) for setting in TITLES)]
        for name, digits, value in MEASURES
    ]
    lines = [
        f"{shape.name} ({shape.stands_for}), {blocks} {shape.blocks} blocks adapted, "
        f"{comparison.tokens:,} tokens"
        + (f", {answer:,.0f} of them the answer:" if answer else ":"),
        "",
        table(head, rows),
        "",
        *(f"- {line}" for line in ratios(comparison)),
    ]
    return "\n".join(lines)


def _compiling(run: Timed, *, empty: bool) -> list[float]:
    wanted = run.empty_kernels == empty and run.compile_seconds is not None
    return [run.compile_seconds or 0.0] if wanted else []


# The rows of the table: a name, digits, and the values in a run.
MEASURES: list[tuple[str, int, Callable[[Timed], Sequence[float]]]] = [
    ("a training step, s", 3, lambda run: run.step_seconds),
    ("start, loading, trying shortcuts, s", 1, lambda run: [run.start_seconds]),
    ("compiling, no kernels there, s", 1, lambda run: _compiling(run, empty=True)),
    ("compiling, kernels there, s", 1, lambda run: _compiling(run, empty=False)),
    ("graphs traced", 0, lambda run: [run.graphs]),
    (
        "cache fill, s a state",
        2,
        lambda run: [run.fill_seconds / run.states] if run.states else [],
    ),
    ("MLX's peak memory, MB", 0, lambda run: [run.mlx_peak_mb] if run.mlx_peak_mb else []),
    ("resident peak, MB", 0, lambda run: [run.resident_mb]),
]


def _values(runs: Sequence[Timed], value: Callable[[Timed], Sequence[float]]) -> list[float]:
    return [number for run in runs for number in value(run)]


def ratios(comparison: ShapeComparison) -> list[str]:
    """Return what the comparison comes to, a line each; pairs are divided one by one."""
    peers = comparison.of(PEER)
    lines = []
    for ours in (COLD, WARM):
        pairs = list(zip(comparison.of(ours), peers, strict=False))
        for what, words in (
            (lambda mine, peer: peer.pace / mine.pace, "times mlx-lm's speed"),
            (_part(lambda run: run.mlx_peak_mb), "of its peak memory"),
            (_part(lambda run: run.resident_mb), "of its resident peak"),
        ):
            found = [what(mine, peer) for mine, peer in pairs if peer.step_seconds]
            if found:
                lines.append(f"{TITLES[ours]}: {spread(found)} {words}")
    lines += [
        f"mlx-lm: {peer.failure}; steps it finished: {peer.steps}{bound(mine, peer)}"
        for mine, peer in zip(comparison.of(COLD), peers, strict=False)
        if peer.failure
    ]
    return lines


def bound(mine: Timed, peer: Timed) -> str:
    """Return what follows from a run of mlx-lm that was stopped: it made no further step.

    farense's time for as many steps and one more is that of a cold run: its start, compiling and
    filling the cache are counted, as mlx-lm's start and compiling are.
    """
    if not peer.stopped:  # it failed: how long it ran says nothing
        return ""
    steps = peer.steps + 1
    once = mine.start_seconds + (mine.compile_seconds or 0.0) + mine.fill_seconds
    ours = once + steps * mine.pace
    return (
        f"; farense, cold, takes {ours:,.0f} s for {steps}, compiling included: more than "
        f"{peer.whole_seconds / ours:,.1f} times its speed"
    )


def _part(value: Callable[[Timed], float]) -> Callable[[Timed, Timed], float]:
    return lambda mine, peer: value(mine) / value(peer)


def _name(options: argparse.Namespace) -> str:
    parts = ["shape", options.shape, str(options.tokens)]
    if options.answer_tokens:
        parts.append(f"answers_{options.answer_tokens}")
    if options.blocks:
        parts.append(f"blocks_{options.blocks}")
    return "_".join(parts)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)


def _last(events: Sequence[dict[str, Any]], kind: str) -> dict[str, Any]:
    found = [event for event in events if event["event"] == kind]
    return found[-1] if found else {}


def _time(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["time"])
