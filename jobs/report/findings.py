"""What plots show, in words: the text that stands for a picture. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.past_run import PastRun
from jobs.report.plot import step_text
from jobs.report.run_data import Measured, Series
from jobs.storage.formatting import amount, figure


@dataclass(frozen=True)
class Named:
    """A run, and what it is called beside others."""

    name: str
    run: Measured

    @property
    def past(self) -> PastRun:
        """What the run left behind."""
        return self.run.run


def losses_finding(run: Measured) -> str:
    """Say what became of the losses."""
    parts = []
    best, valid, train = run.best, run.series("val_loss"), run.series("loss")
    if best is not None:
        start = run.baseline
        before = "" if start is None else f"went from {figure(start)} before training and "
        parts.append(
            f"Validation loss {before}was lowest at step {step_text(best.step)}: "
            f"{figure(best.loss)} nats per token"
        )
    elif valid.steps:
        parts.append(f"Validation loss was {figure(valid.last)} nats per token before training")
    else:
        parts.append("No finite validation loss was measured")
    if train.values:
        first, last = figure(train.values[0]), figure(train.values[-1])
        parts.append(
            f"training loss {f'went from {first} to' if train.values[1:] else 'was'} {last}"
        )
    if run.broken_off:
        parts.append(f"{run.broken_off} at step {step_text(run.last_step)}")
    odd = len(valid.odd) + len(train.odd)
    if odd:
        parts.append(f"{odd} values were NaN or infinite")
    return _sentence(parts)


def valid_finding(runs: Sequence[Named]) -> str:
    """Say how the validation losses of several runs compare."""
    bests = [(named.run.best, named.name) for named in runs]
    known = sorted((best.loss, best.step, name) for best, name in bests if best)
    if not known:
        return "No run has a finite validation loss after step 0."
    parts = [f"{name} {figure(loss)} at step {step_text(step)}" for loss, step, name in known]
    return _sentence([f"Best validation losses, lowest first: {parts[0]}", *parts[1:]])


def gap_finding(runs: Sequence[Named]) -> str:
    """Say how large the gaps are, and in which band."""
    parts = []
    for named in runs:
        best, last = named.run.best, named.run.series("overfitting_gap").last
        name = f"{named.name}: " if named.name else ""
        if best is not None and best.gap is not None:
            end = "" if last is None else f"; {figure(last, 3)} last"
            parts.append(f"{name}gap {best.gap:.3f} at the best step, {best.short}{end}")
        elif last is not None:
            parts.append(f"{name}gap {last:.3f} at the end")
    return _sentence(parts or ["No finite gap was measured"])


def measure_finding(runs: Sequence[Named], key: str, title: str) -> str:
    """Say between which values a measure lies, and where it ended."""
    parts = []
    for named in runs:
        series = named.run.series(key)
        if not series:
            continue
        name = f"{named.name} " if named.name else ""
        parts.append(name + _range(series))
    return _sentence([f"{title}: {parts[0]}", *parts[1:]])


def _range(series: Series) -> str:
    if not series.values:
        return "has no finite value"
    low, high = amount(min(series.values)), amount(max(series.values))
    if low == high:
        return f"{low} throughout"
    return f"between {low} and {high}, {amount(series.last)} at the end"


def _sentence(parts: Sequence[str]) -> str:
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."
