"""The tables of the report of a sweep: what it was to do, who leads, what came to nothing. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.report.plot import step_text
from jobs.report.sweep_data import MOST, Kind, Swept, series_of
from jobs.report.tables import Line, text_of
from jobs.storage.formatting import NONE, figure, local_exact
from jobs.storage.values import finite
from jobs.sweep.space import Choice, Dimension
from jobs.sweep.trial import Trial
from jobs.verdict import NOT_LEARNED

OBJECTIVES = {"val_loss": "validation loss", "token_f1": "token F1"}
PRUNERS = {"none": "none", "median": "median", "hyperband": "Hyperband"}
SAMPLERS = {"tpe": "TPE", "random": "random", "grid": "grid"}


def objective(swept: Swept) -> str:
    """Return what is sought, in words."""
    return OBJECTIVES[swept.spec.plan.objective]


def value_text(swept: Swept, value: float | None) -> str:
    """Return a value of the objective; also one that is not finite is said."""
    if value is None or finite(value) is None:
        return NONE if value is None else str(value)
    return figure(value, 3 if swept.spec.plan.maximizes else 4)


def ordered(swept: Swept) -> list[Line]:
    """Return what the sweep was to do, a line for each thing to know."""
    plan = swept.spec.plan
    better = "higher" if plan.maximizes else "lower"
    until, planned = swept.state.until, swept.state.trials
    rows: dict[str, str | None] = {
        "Sweep": swept.spec.id,
        "Base preset": plan.preset,
        "Objective": f"{plan.objective} ({better} is better)",
        "Sampler": SAMPLERS[plan.sampler],
        "Pruner": PRUNERS[plan.pruner.kind],
        "Trials planned": None if planned is None else step_text(planned),
        "Until": local_exact(until) if until else None,
        "Seeds per trial": str(plan.seeds_per_trial) if plan.seeds_per_trial > 1 else None,
        **{f"set.{key}": text_of(value) for key, value in plan.set.items()},
        **{f"space.{key}": space_text(found) for key, found in plan.space.items()},
    }
    wanted = plan.constraints.effective_batch
    rows["constraints.effective_batch"] = None if wanted is None else str(wanted)
    return [Line(name, (cell,)) for name, cell in rows.items() if cell is not None]


def space_text(found: Dimension) -> str:
    """Return what may be tried of a setting."""
    if isinstance(found, Choice):
        return " · ".join(text_of(value) for value in found.choices)
    parts = [f"{text_of(found.low)} to {text_of(found.high)}"]
    parts += ["log"] if found.log else []
    parts += [f"in steps of {text_of(found.step)}"] if found.step else []
    return ", ".join(parts)


def counts(swept: Swept) -> str:
    """Return how many trials are of which kind; nothing of those of which there are none."""
    kinds = (Kind.COMPLETE, Kind.PRUNED, Kind.WITHOUT, Kind.UNDER_WAY)
    return ", ".join(f"{count} {kind}" for kind in kinds if (count := swept.count(kind)))


def headings(swept: Swept) -> list[str]:
    """Return what stands above the leaderboard, but for the rank."""
    return [
        "Trial", swept.spec.plan.objective, "Gap", *swept.spec.plan.space,
        "Steps", "State", "Pruned by", "Job",
    ]  # fmt: skip


def leaders(swept: Swept) -> list[Line]:
    """Return the trials that came to a value, best first, a line each."""
    lines = []
    for rank, trial in enumerate(swept.ranked[:MOST], 1):
        cells = (
            str(trial.number),
            value_text(swept, trial.value),
            _gap(swept, trial),
            *_settings(swept, trial.settings),
            _steps(trial),
            swept.state_word(trial),
            trial.pruned_by or NONE,
            ", ".join(trial.jobs) or NONE,
        )
        lines.append(Line(str(rank), cells, swept.kind(trial) is Kind.BEST))
    return lines


def unranked_headings(swept: Swept) -> list[str]:
    """Return what stands above the trials without a value, but for their numbers."""
    return ["State", "Lowest loss", *swept.spec.plan.space, "Steps", "Job", "Why"]


def unranked(swept: Swept) -> list[Line]:
    """Return the trials that run, wait, or came to nothing, a line each."""
    return [
        Line(
            str(trial.number),
            (
                swept.state_word(trial),
                figure(_lowest(trial)),
                *_settings(swept, trial.settings),
                _steps(trial),
                ", ".join(trial.jobs) or NONE,
                trial.reason or ("no finite value" if trial.ended else NONE),
            ),
        )
        for trial in swept.unranked[:MOST]
    ]


def left_out(swept: Swept) -> int:
    """Return how many trials no table shows."""
    return max(0, len(swept.ranked) - MOST) + max(0, len(swept.unranked) - MOST)


def missing(swept: Swept) -> list[str]:
    """Return what this report could not show, a sentence each."""
    started = [trial for trial in swept.trials if trial.jobs]
    absent = sum(swept.run_of(trial) is None for trial in started[:MOST])
    found = []
    if absent:
        found.append(
            f"The files of the jobs of {absent} trials are not in this workspace (another machine "
            "has them, or they were removed): their gaps are not known"
        )
    if swept.best_run is not None:
        found += [f"{swept.best_job}: {sentence}" for sentence in swept.best_run.run.missing]
    return found


def _gap(swept: Swept, trial: Trial) -> str:
    run = swept.run_of(trial)
    best = run.best if run else None
    if not trial.learned or (best is not None and best.status == NOT_LEARNED):
        return NOT_LEARNED
    if best is None or best.gap is None:
        return NONE
    return f"{best.gap:.3f} {best.short}"


def _settings(swept: Swept, settings: Mapping[str, Any]) -> Sequence[str]:
    found = [settings.get(name) for name in swept.spec.plan.space]
    return [f"{value:.3g}" if isinstance(value, float) else text_of(value) for value in found]


def _steps(trial: Trial) -> str:
    total = "" if trial.total_steps is None else f" of {step_text(trial.total_steps)}"
    return f"{step_text(trial.step)}{total}" if trial.jobs else NONE


def _lowest(trial: Trial) -> float | None:
    return min((loss for curve in trial.curves for loss in series_of(curve).values), default=None)
