"""farense beside ``mlx_lm lora`` on the same work: speed, memory and loss.

``python -m benchmarks.beside_mlx_lm`` trains the packaged 4-bit SmolLM2-135M on the sample data, in
pairs: farense with an empty cache, mlx-lm with the same BLAS and the same float32 weights, farense
again with a warm cache; before them a sample of mlx-lm as installed, from which its whole run is
extrapolated. It prints the tables of ``benchmarks/README.md`` and writes a JSON file and a PNG to
``benchmarks/results``. It takes hours; ``--quick`` runs a tiny model for a minute, to see that the
program works. With ``--shape`` it does what :mod:`benchmarks.beside_shape` says.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import beside_shape
from benchmarks.arithmetic import Work, measure_work
from benchmarks.measured import Measured, extrapolated, measure_farense, measure_mlx_lm
from benchmarks.results import results_folder, say, spread, table, write_results
from benchmarks.runs import (
    NEVER,
    SETTINGS,
    TINY_LORA,
    Row,
    benchmark_workspace,
    forget,
    make_run,
    sample_rows,
)
from jobs.paths import RunDirectory, Workspace

COLD, WARM, PEER, INSTALLED = "cold", "warm", "mlx-lm", "as installed"
TITLES = {
    COLD: "farense, cold cache",
    WARM: "farense, warm cache",
    PEER: "mlx-lm, same BLAS and weights",
    INSTALLED: "mlx-lm as installed (extrapolated)",
}
# What --only chooses: mlx-lm as installed; the pairs on equal terms; those with a warm cache.
SETTINGS_CHOSEN = {"installed": {INSTALLED}, "equal": {COLD, PEER}, "warm": {WARM, PEER}}
ALL = {COLD, WARM, PEER, INSTALLED}

SAMPLE_STEPS, SAMPLE_BATCHES = 15, 5
WARM_UP = {"max_steps": 16, "eval_steps": 8}
WARM_UP_ROWS = 32


@dataclass(frozen=True)
class Plan:
    """What is trained, in every run of the comparison."""

    workspace: Workspace
    train: list[Row]
    valid: list[Row]
    settings: dict[str, Any]

    def run(self, **settings: Any) -> RunDirectory:
        """Return a new run directory."""
        return make_run(self.workspace, self.train, self.valid, **{**self.settings, **settings})

    def short_run(self) -> RunDirectory:
        """Return a run of a few steps that meets every kernel of a whole one."""
        rows = self.train[:WARM_UP_ROWS], self.valid[:WARM_UP_ROWS]
        return make_run(self.workspace, *rows, **{**self.settings, **WARM_UP})


@dataclass
class Comparison:
    """All that was measured, in the order of the runs."""

    plan: Plan
    output: Path
    work: Work
    runs: list[Measured] = field(default_factory=list)

    def add(self, measured: Measured) -> None:
        """Keep a run, and write everything so far: the next one may take an hour."""
        self.runs.append(measured)
        say(f"{TITLES[measured.setting]}: {measured.wall_seconds:.1f} s")
        values = {
            "settings": {**SETTINGS, **self.plan.settings},
            "train_examples": len(self.plan.train),
            "valid_examples": len(self.plan.valid),
            "work": asdict(self.work),
            "runs": [asdict(run) for run in self.runs],
        }
        write_results(self.output, values)

    def of(self, setting: str) -> list[Measured]:
        """Return the runs of a setting."""
        return [run for run in self.runs if run.setting == setting]


def main() -> None:
    """Measure, print and write."""
    options = parse()
    if options.shape:
        beside_shape.compare(options)
        return
    settings = {"num_epochs": options.epochs}
    train = sample_rows("train")[: options.examples]
    valid = sample_rows("valid")[: options.validation]
    if options.quick:
        settings |= {"max_steps": 12, "eval_steps": 6, "log_steps": 2, "lora": TINY_LORA}
        train, valid = train[:40], valid[:16]
    chosen = SETTINGS_CHOSEN[options.only] if options.only else ALL
    name = f"beside_mlx_lm_{options.only}" if options.only else "beside_mlx_lm"
    output = results_folder(quick=options.quick) / f"{name}.json"
    with benchmark_workspace(tiny=options.quick) as workspace:
        plan = Plan(workspace, train, valid, settings)
        comparison = Comparison(plan, output, measure_work(plan.run()))
        measure(comparison, chosen, 1 if options.quick else options.pairs)
    print(report(comparison))
    plot(comparison, output.with_suffix(".png"))
    say(f"Written: {output} and {output.with_suffix('.png').name}")


def parse() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.beside_mlx_lm", description="farense beside mlx_lm lora."
    )
    parser.add_argument("--pairs", type=int, default=3, help="repeat so often (default: 3)")
    parser.add_argument("--epochs", type=int, default=3, help="of each run (default: 3)")
    parser.add_argument("--examples", type=int, help="of the 600 to train on (default: all)")
    parser.add_argument("--validation", type=int, help="of the 80 to validate on (default: all)")
    parser.add_argument("--only", choices=SETTINGS_CHOSEN, help="one setting")
    parser.add_argument("--quick", action="store_true", help="a few steps of a tiny model")
    beside_shape.add_options(parser)
    options = parser.parse_args()
    beside_shape.check_options(parser, options)
    return options


def measure(comparison: Comparison, chosen: set[str], pairs: int) -> None:
    """Run everything: compilers first, then mlx-lm as installed, then the pairs in turn."""
    plan = comparison.plan
    say("Warming up the compilers ...")
    measure_farense(plan.short_run(), COLD)
    measure_mlx_lm(plan.short_run(), PEER)
    if WARM in chosen and COLD not in chosen:
        measure_farense(plan.run(), COLD)
    if INSTALLED in chosen:
        comparison.add(whole_as_installed(plan, sample_as_installed(plan)))
    for pair in range(pairs):
        if COLD in chosen:
            forget(plan.workspace)
            comparison.add(measure_farense(plan.run(), COLD))
        if PEER in chosen:
            # Its second loss costs minutes, and every pair would give the same curve.
            options = ("--same-loss",) if pair == 0 else ()
            comparison.add(measure_mlx_lm(plan.run(), PEER, *options))
        if WARM in chosen:
            comparison.add(measure_farense(plan.run(), WARM))


def sample_as_installed(plan: Plan) -> Measured:
    """Return a sample of mlx-lm's run with no fast BLAS and the weights as they are stored."""
    say("mlx-lm as installed: a sample ...")
    how = ("--as-installed", "--validation-batches")
    measure_mlx_lm(plan.short_run(), INSTALLED, *how, "1", "--steps", "1")
    sample = (*how, str(SAMPLE_BATCHES), "--steps", str(SAMPLE_STEPS))
    return measure_mlx_lm(plan.run(), INSTALLED, *sample)


def whole_as_installed(plan: Plan, sample: Measured) -> Measured:
    """Return the whole run of which ``sample`` is a part, extrapolated."""
    batch_size = SETTINGS["batch_size"]
    steps = -(-len(plan.train) // batch_size) * plan.settings["num_epochs"]
    steps = min(steps, plan.settings.get("max_steps", NEVER))
    validations = steps // plan.settings.get("eval_steps", SETTINGS["eval_steps"]) + 1
    return extrapolated(
        sample, SAMPLE_BATCHES, steps, validations, batches_each=len(plan.valid) // batch_size
    )


def report(comparison: Comparison) -> str:
    """Return the tables for people, as Markdown."""
    settings = [setting for setting in TITLES if comparison.of(setting)]
    head = ["median (least to greatest)", *(TITLES[setting] for setting in settings)]
    rows = [
        [name, *(spread(collect(comparison.of(setting), value), digits) for setting in settings)]
        for name, digits, value in measures(comparison.work)
    ]
    lines = [table(head, rows), "", *(f"- {line}" for line in ratios(comparison))]
    return "\n".join(lines)


def measures(work: Work) -> list[tuple[str, int, Callable[[Measured], Iterable[float]]]]:
    """Return the rows of the table: a name, digits, and the values in a run."""
    return [
        ("training steps a second", 2, lambda run: [run.steps_per_second]),
        ("real tokens a second", 0, lambda run: [run.steps_per_second * work.tokens_per_step]),
        ("training and validation, s", 0, lambda run: [run.wall_seconds]),
        ("of it filling the cache, s", 1, lambda run: [run.fill_seconds]),
        ("a validation with the gap's slice, s", 2, lambda run: run.validation_seconds),
        ("a validation alone, s", 2, lambda run: run.validation_alone_seconds),
        ("a validation in farense's batches, s", 2, _larger_batches),
        ("MLX's peak memory, MB", 0, lambda run: [run.mlx_peak_mb]),
        ("resident peak, MB", 0, lambda run: [run.resident_mb]),
        ("start, tokenization, loading, s", 1, lambda run: [run.setup_seconds]),
    ]


def _larger_batches(run: Measured) -> list[float]:
    if run.larger_batches_seconds is not None:
        return [run.larger_batches_seconds]
    return [] if run.setting in (PEER, INSTALLED) else list(run.validation_alone_seconds)


def collect(runs: list[Measured], value: Callable[[Measured], Iterable[float]]) -> list[float]:
    """Return the values of all runs."""
    return [number for run in runs for number in value(run)]


def ratios(comparison: Comparison) -> list[str]:
    """Return what the comparison comes to, a line each; pairs are divided one by one."""
    lines = []
    for ours in (COLD, WARM):
        for theirs in (PEER, INSTALLED):
            walls = _divided(comparison, theirs, ours, lambda run: run.wall_seconds)
            if walls:
                lines.append(
                    f"{TITLES[ours]}, beside {TITLES[theirs]}: {spread(walls)} times as fast"
                )
    for ours in (COLD, WARM):
        work, speeds = comparison.work, [run.steps_per_second for run in comparison.of(ours)]
        if speeds:
            shares = [100 * work.share(speed) for speed in speeds]
            lines.append(
                f"{TITLES[ours]}: the necessary {work.gflop_per_step:.1f} GFLOP of a step reach "
                f"{spread(shares, 1)}% of the float32 peak of {work.peak_gflops:.0f} GFLOP/s"
            )
        memory = _divided(comparison, ours, PEER, lambda run: run.mlx_peak_mb)
        if memory:
            percent = [100 * part for part in memory]
            lines.append(f"{TITLES[ours]}: {spread(percent, 0)}% of MLX's peak memory of mlx-lm")
        lines += _validation_ratios(comparison, ours)
    return lines


def _validation_ratios(comparison: Comparison, ours: str) -> list[str]:
    lines = []
    for name, seconds in (
        ("with the gap's slice", lambda run: statistics.median(run.validation_seconds)),
        ("alone", lambda run: statistics.median(run.validation_alone_seconds or (0.0,))),
    ):
        if found := _divided(comparison, PEER, ours, seconds):
            lines.append(f"{TITLES[ours]}: a validation {name} is {spread(found)} times as fast")
    return lines


def _divided(
    comparison: Comparison, above: str, below: str, value: Callable[[Measured], float]
) -> list[float]:
    """Return the quotients of two settings, pair by pair; one run of a setting serves all pairs."""
    tops, bottoms = ([value(run) for run in comparison.of(setting)] for setting in (above, below))
    if len(tops) == 1:
        tops *= len(bottoms)
    return [top / bottom for top, bottom in zip(tops, bottoms, strict=False) if bottom]


def plot(comparison: Comparison, path: Path) -> None:
    """Draw the loss curves of the first run of each side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (training, validation) = pyplot.subplots(1, 2, figsize=(11, 4), sharey=True)
    for setting in (COLD, WARM, PEER):
        for run in comparison.of(setting)[:1]:
            style = "--" if setting == WARM else "-"
            training.plot(*zip(*run.losses, strict=True), style, label=TITLES[setting], lw=1)
            losses = run.validation_losses
            validation.plot(*zip(*losses, strict=True), style, label=TITLES[setting], lw=1)
            if run.same_losses:
                label = f"{TITLES[setting]}, over farense's positions"
                validation.plot(*zip(*run.same_losses, strict=True), ":", label=label)
    for axes, title in ((training, "training"), (validation, "validation")):
        axes.set(title=f"{title} loss", xlabel="step", ylabel="nats a token")
        axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
