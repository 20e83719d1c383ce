"""A sweep beside a shell loop: so many trials by farense, and the same ones by ``mlx_lm lora``.

``python -m benchmarks.sweep`` starts a sweep of 8 trials on the packaged 4-bit SmolLM2-135M and the
sample data, by a file and a daemon as a user does, with empty caches. Then mlx-lm trains what each
trial's order says, one process after another, with the same BLAS and the same float32 weights. The
sampler is random and nothing is pruned, so that both sides do the same work; ``--prune`` lets the
median pruner end trials, which a shell loop cannot. Whole processes are timed on both sides, their
start included; farense's evaluation of the best comes on top and is shown apart. ``--quick`` runs a
tiny model for a few minutes, to see that the program works.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import yaml

from benchmarks.measured import Measured, measure_farense, measure_mlx_lm
from benchmarks.results import results_folder, say, table, write_results
from benchmarks.runs import (
    NEVER,
    SETTINGS,
    TINY_LORA,
    benchmark_workspace,
    forget,
    make_run,
    sample_rows,
)
from daemon.process import start_daemon, stop_daemon
from daemon.sweep.start import begin_sweep
from daemon.sweep.view import SweepView, view_sweep
from jobs.paths import Workspace
from jobs.state import State

LOOK_SECONDS = 1.0
SPACE: dict[str, Any] = {
    "lora.rank": [4, 6, 8],
    "lora.dropout": {"low": 0.05, "high": 0.15},
    "learning_rate": {"low": 1e-4, "high": 5e-4, "log": True},
}
PRUNER = {"kind": "median", "startup_trials": 3, "warmup_validations": 1}


@dataclass(frozen=True)
class Swept:
    """A sweep that has ended.

    Attributes:
        seconds: from the order to the end of its last trial.
        evaluation_seconds: from there to the end of the sweep: the best is evaluated.
    """

    view: SweepView
    seconds: float
    evaluation_seconds: float


def main() -> None:
    """Measure, print and write."""
    options = parse()
    settings: dict[str, Any] = {"num_epochs": options.epochs, "save_steps": NEVER}
    rows = {
        "train": sample_rows("train")[: options.examples],
        "valid": sample_rows("valid")[: options.validation],
    }
    if options.quick:
        settings |= {"max_steps": 12, "eval_steps": 6, "log_steps": 2, "lora": TINY_LORA}
        rows = {"train": rows["train"][:40], "valid": rows["valid"][:16]}
    output = results_folder(quick=options.quick) / "sweep.json"
    with benchmark_workspace(tiny=options.quick) as workspace:
        write_inputs(workspace, rows, settings, options)
        warm_up(workspace, rows, settings)
        swept = sweep(workspace)
        peers = shell_loop(workspace, swept.view)
    values = results(options, settings, swept, peers)
    write_results(output, values)
    print(report(swept, peers))
    say(f"Written: {output}")


def parse() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep", description="A sweep beside a loop of mlx_lm lora."
    )
    parser.add_argument("--trials", type=int, default=8, help="of the sweep (default: 8)")
    parser.add_argument("--epochs", type=int, default=3, help="of each trial (default: 3)")
    parser.add_argument("--examples", type=int, help="of the 600 to train on (default: all)")
    parser.add_argument("--validation", type=int, help="of the 80 to validate on (default: all)")
    parser.add_argument("--prune", action="store_true", help="let the median pruner end trials")
    parser.add_argument("--quick", action="store_true", help="a few steps of a tiny model")
    return parser.parse_args()


def write_inputs(
    workspace: Workspace, rows: dict[str, Any], settings: dict[str, Any], options: Any
) -> None:
    """Write data, preset and sweep file, as a user would have them."""
    for name, found in rows.items():
        path = workspace.data / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found))
    data = {"train": "data/train.jsonl", "valid": "data/valid.jsonl"}
    workspace.configs.mkdir(exist_ok=True)
    preset = {**SETTINGS, **settings, "data": data}
    (workspace.configs / "bench.yaml").write_text(yaml.safe_dump(preset))
    plan = {
        "preset": "bench",
        "space": SPACE,
        "sampler": "random",
        "pruner": PRUNER if options.prune else "none",
        "trials": options.trials,
    }
    (workspace.configs / "sweep.yaml").write_text(yaml.safe_dump(plan))


def warm_up(workspace: Workspace, rows: dict[str, Any], settings: dict[str, Any]) -> None:
    """Let both sides compile their kernels; then forget what farense keeps, and the runs."""
    say("Warming up the compilers ...")
    short = {**settings, "max_steps": 16, "eval_steps": 8}
    for measure in (measure_farense, measure_mlx_lm):
        measure(make_run(workspace, rows["train"][:32], rows["valid"][:32], **short), "warm-up")
    forget(workspace)
    # A daemon would find the one that mlx-lm has trained, and run it before the sweep.
    shutil.rmtree(workspace.runs)


def sweep(workspace: Workspace) -> Swept:
    """Run the sweep by a daemon of its own, to its end."""
    say("The sweep ...")
    started = time.time()
    path = workspace.configs / "sweep.yaml"
    folder = begin_sweep(path, workspace, (workspace.configs,)).folder
    start_daemon(workspace)
    try:
        while (view := view_sweep(folder)).state.active:
            time.sleep(LOOK_SECONDS)
    finally:
        stop_daemon(workspace)
    if view.state.state is not State.COMPLETED:
        raise SystemExit(f"The sweep is {view.state.state}: {view.state.reason}")
    ended = max(datetime.fromisoformat(trial.ended_at or "") for trial in view.trials)
    whole = datetime.fromisoformat(view.state.updated_at)
    return Swept(view, ended.timestamp() - started, (whole - ended).total_seconds())


def shell_loop(workspace: Workspace, view: SweepView) -> list[Measured]:
    """Let mlx-lm train what each trial's order says, one after another."""
    peers = []
    for trial in view.trials:
        say(f"mlx-lm: trial {trial.number} of {len(view.trials)} ...")
        peers.append(measure_mlx_lm(workspace.run(trial.jobs[0]), "mlx-lm"))
    return peers


def seconds_of(peers: list[Measured]) -> float:
    """Return what the whole loop took: of each process its start, its loading and its work."""
    return sum(peer.setup_seconds + peer.wall_seconds for peer in peers)


def report(swept: Swept, peers: list[Measured]) -> str:
    """Return the tables for people, as Markdown."""
    trials = swept.view.trials
    rows = [
        [
            str(trial.number),
            f"{trial.seconds:.1f}",
            f"{peer.setup_seconds + peer.wall_seconds:.1f}",
            f"{trial.value:.4f}" if trial.value is not None else "-",
            f"{min(loss for _, loss in peer.validation_losses):.4f}",
            trial.pruned_by or "",
        ]
        for trial, peer in zip(trials, peers, strict=True)
    ]
    heads = ["trial", "farense, s", "mlx-lm, s", "val loss", "of mlx-lm", "pruned by"]
    loop = seconds_of(peers)
    return "\n".join(
        [
            table(heads, rows),
            "",
            f"- the sweep: {swept.seconds:.0f} s from its order to its last trial's end, and "
            f"{swept.evaluation_seconds:.0f} s for evaluating the best",
            f"- the loop: {loop:.0f} s",
            f"- the sweep is {loop / swept.seconds:.2f} times as fast",
        ]
    )


def results(
    options: argparse.Namespace,
    settings: dict[str, Any],
    swept: Swept,
    peers: list[Measured],
) -> dict[str, Any]:
    """Return what is written down."""
    loop = seconds_of(peers)
    return {
        "settings": {**SETTINGS, **settings, "space": SPACE, "prune": options.prune},
        "sweep": {
            "seconds": swept.seconds,
            "evaluation_seconds": swept.evaluation_seconds,
            "trials": [vars(trial) for trial in swept.view.trials],
        },
        "loop": {"seconds": loop, "runs": [vars(peer) for peer in peers]},
        "times_as_fast": loop / swept.seconds,
    }


if __name__ == "__main__":
    main()
