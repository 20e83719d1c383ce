"""A sweep as text: leaderboard, what mattered, what is under way, time left. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from click import style

from cli.show.render import STATE_COLOURS
from cli.show.table import shortened, table
from jobs.state import State
from jobs.storage.formatting import NONE, duration, figure, local
from jobs.sweep.trial import best_job, lowest
from jobs.verdict import NOT_LEARNED

if TYPE_CHECKING:
    from daemon.sweep.start import Begun
    from daemon.sweep.view import SweepView
    from jobs.sweep.trial import Trial

MOST_RANKED = 10
BAR = 20
SHORT = {"learning_rate": "lr", "gradient_accumulation": "accum"}


def begun_lines(begun: Begun) -> list[str]:
    """Return what was started, for a person."""
    plan, state = begun.spec.plan, begun.state
    trials = f"at most {state.trials} trials" if state.trials else "trials"
    until = f", until {local(state.until)}" if state.until else ""
    seeds = f", {plan.seeds_per_trial} seeds each" if plan.seeds_per_trial > 1 else ""
    pruner = "none is pruned" if plan.pruner.kind == "none" else f"pruned by {plan.pruner.kind}"
    searched = ", ".join(plan.space)
    return [
        f"Started {begun.spec.id}",
        f"  {trials}{until}{seeds} of at most {begun.schedule.total_steps} steps; {plan.sampler}, "
        f"{pruner}",
        f"  searches {searched}; the best by {plan.objective}",
        "  Look: farense sweep status",
    ]


def status_lines(view: SweepView, width: int | None = None, colour: bool = False) -> list[str]:
    """Return everything there is to see of a sweep, a line each."""
    return [
        *_head(view, colour),
        *_section("Leaderboard", _table(view, view.ranked[:MOST_RANKED], width, colour)),
        *_section("Under way", _table(view, _open(view), width, colour)),
        *_section("Without a value", _failed(view, width)),
        *_section(_mattered(view), _importances(view.state.importances)),
    ]


def list_lines(views: Sequence[SweepView]) -> list[str]:
    """Return a line for each sweep, below a heading; none where there are none."""
    rows = [
        [
            view.spec.id,
            _listed(view),
            _counted(view),
            figure(view.best.value) if view.best else NONE,
            view.spec.plan.objective,
        ]
        for view in views
    ]
    return table([["SWEEP", "STATE", "TRIALS", "BEST", "OBJECTIVE"], *rows]) if rows else []


def _listed(view: SweepView) -> str:
    """Return the state of a sweep in a list: one that nothing coordinates does not run."""
    if view.state.state is State.RUNNING and not view.coordinated:
        return "interrupted" if view.interrupted else "waits"
    return str(view.state.state)


def best_lines(view: SweepView, trial: Trial) -> list[str]:
    """Return everything about the best trial, a line each."""
    values = best_values(view, trial)
    rows = {
        "Sweep": view.spec.id,
        "Trial": f"{trial.number}, {_state(view, trial)}",
        "Objective": f"{view.spec.plan.objective} {figure(trial.value)}",
        **{name: str(value) for name, value in trial.settings.items()},
        "Job": values["job"],
        "Adapter": values["adapter"],
        "Evaluation": values["evaluation"],
    }
    room = max(len(name) for name in rows) + 2
    return [f"{name:<{room}}{value}" for name, value in rows.items() if value]


def best_values(view: SweepView, trial: Trial) -> dict[str, Any]:
    """Return the best trial as JSON-ready values."""
    job = best_job(trial, maximizes=view.spec.plan.maximizes)
    return {
        "sweep": view.spec.id,
        "trial": trial.number,
        "value": trial.value,
        "objective": view.spec.plan.objective,
        "settings": trial.settings,
        "job": job,
        "jobs": trial.jobs,
        "adapter": f"checkpoints_qlora/{job}/adapters",
        "evaluation": view.state.evaluation,
    }


def _head(view: SweepView, colour: bool) -> list[str]:
    state = view.state
    word = style(state.state, fg=STATE_COLOURS.get(state.state)) if colour else str(state.state)
    reason = f": {state.reason}" if state.reason else ""
    lines = [f"{view.spec.id}  {word}{reason}"]
    counted = f"{_counted(view)} trials ended"
    pruned = sum(trial.pruned for trial in view.trials if trial.ended)
    failed = sum(trial.state is State.FAILED for trial in view.trials)
    parts = [counted, f"{pruned} pruned" if pruned else "", f"{failed} failed" if failed else ""]
    if view.seconds_left:  # of what follows the last trial nobody knows how long it takes
        parts.append(f"about {duration(view.seconds_left)} left")
    if state.until and state.active:
        parts.append(f"until {local(state.until)}")
    if state.active and not view.coordinated:
        parts.append("waits for a daemon of this workspace")
    lines.append("  " + ", ".join(filter(None, parts)))
    if state.evaluation:
        lines.append(f"  the best is evaluated by {state.evaluation}")
    return lines


def _counted(view: SweepView) -> str:
    ended = sum(trial.ended for trial in view.trials)
    return f"{ended} of {view.state.trials}" if view.state.trials else str(ended)


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", title, *(f"  {line}" for line in lines)] if lines else []


def _open(view: SweepView) -> list[Trial]:
    return [trial for trial in view.trials if not trial.ended]


def _table(view: SweepView, trials: Sequence[Trial], width: int | None, colour: bool) -> list[str]:
    """Return trials with their settings, a line each below a heading."""
    if not trials:
        return []
    names = list(view.spec.plan.space)
    headings = ["TRIAL", view.spec.plan.objective.upper().replace("_", " "), "STATE", "STEP"]
    headings += [_short(name) for name in names] + ["JOB"]
    rows = [_row(view, trial, names) for trial in trials]
    lines = table([headings, *rows], right=(True, True, False, True))
    cut = [shortened(line, width - 2) if width else line for line in lines]
    best = view.best
    if colour and best is not None:
        first = next((i for i, t in enumerate(trials) if t.number == best.number), None)
        if first is not None:
            cut[first + 1] = style(cut[first + 1], bold=True)
    return cut


def _row(view: SweepView, trial: Trial, names: Sequence[str]) -> list[str]:
    shown = trial.value
    if shown is None and trial.curves and not view.spec.plan.maximizes:
        shown = lowest(trial.curves[-1])
    step = f"{trial.step}/{trial.total_steps}" if trial.total_steps else NONE
    settings = [_value(trial.settings.get(name)) for name in names]
    job = trial.jobs[-1] if trial.jobs else NONE
    if trial.ended and trial.jobs:
        job = best_job(trial, maximizes=view.spec.plan.maximizes)
    return [str(trial.number), figure(shown), _state(view, trial), step, *settings, job]


def _failed(view: SweepView, width: int | None) -> list[str]:
    lines = [
        f"{trial.number}  {trial.state}: {trial.reason or 'no validation'}"
        for trial in view.trials
        if trial.ended and trial.value is None
    ]
    return [shortened(line, width - 2) if width else line for line in lines]


def _mattered(view: SweepView) -> str:
    complete = sum(trial.complete for trial in view.trials)
    return f"What mattered, by the {complete} trials that ran to their end"


def _importances(found: dict[str, float]) -> list[str]:
    ranked = sorted(found.items(), key=lambda pair: -pair[1])
    room = max((len(name) for name, _ in ranked), default=0)
    return [
        f"{name:<{room}}  {share:4.0%}  {'█' * round(share * BAR)}".rstrip()
        for name, share in ranked
    ]


def _state(view: SweepView, trial: Trial) -> str:
    if trial.number in view.interrupted:
        return "interrupted"
    state = f"{trial.state} ({trial.pruned_by})" if trial.pruned and trial.ended else trial.state
    return state if trial.learned or not trial.ended else f"{state}, {NOT_LEARNED}"


def _short(name: str) -> str:
    last = name.rpartition(".")[2]
    return SHORT.get(last, last).upper()


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
