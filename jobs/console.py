"""Events as the lines a person reads: the picture of a run, in a terminal or in a log file.

Pure: no clock, no terminal, no colour. The same lines come from a run that is live and from the job
log of last night.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from jobs.config.lora_keys import described
from jobs.evaluation.lines import evaluated, evaluation_started
from jobs.events import (
    CheckpointSaved,
    Compiled,
    Envelope,
    Evaluated,
    EvaluationStarted,
    Event,
    Failed,
    Finished,
    PhaseBegan,
    PrefixCached,
    Progress,
    Started,
    StoodStill,
    StoppedEarly,
    TrainMetrics,
    Validation,
    Warned,
)
from jobs.storage.formatting import NONE, counted, duration, figure
from jobs.storage.values import printable
from jobs.verdict import BELOW, Verdict, verdict

# A filling says now and then how far it is, unless it is soon over.
FILL_PARTS, SHORT_FILL_SECONDS = 5, 10.0


class Console:
    """Turns the events of one job, in order, into lines.

    It remembers only what a later line needs: the epoch under way, the loss before, the totals.
    A reader that comes in the middle of a job loses the totals and nothing else.
    """

    def __init__(self) -> None:
        self._epoch = 0
        self._num_epochs: int | None = None
        self._total_steps: int | None = None
        self._last_loss: float | None = None
        self._filling: str | None = None
        self._fill_part = 0
        self._baseline: float | None = None

    def lines(self, envelope: Envelope) -> list[str]:
        """Return the lines of an event; an empty list where it needs none.

        A terminal finds nothing to obey in them, whatever a model or a file is called.
        """
        event = envelope.event
        if isinstance(event, Started):
            lines = self._started(envelope, event)
        elif isinstance(event, EvaluationStarted):
            lines = evaluation_started(envelope, event)
        else:
            lines = [*self._epoch_heading(event), *self._body(event)]
        return [printable(line, keep="\n\ufe0f") for line in lines]

    def _started(self, envelope: Envelope, event: Started) -> list[str]:
        self._num_epochs, self._total_steps = event.num_epochs, event.total_steps
        self._epoch, self._last_loss = 0, None
        if event.resumed_step:
            return [
                "",
                f"🔁 {envelope.job} resumes after step {event.resumed_step} of {event.total_steps}"
                f" (attempt {envelope.attempt}, {event.device})",
            ]
        return header(envelope, event)

    def _epoch_heading(self, event: Event) -> list[str]:
        """Return the heading of a new epoch at its first event; the baseline belongs to none."""
        if not isinstance(event, Progress | TrainMetrics | Validation) or event.step == 0:
            return []
        if event.epoch == self._epoch:
            return []
        self._epoch = event.epoch
        of_all = f"/{self._num_epochs}" if self._num_epochs else ""
        return ["", f"📚 Epoch {event.epoch}{of_all}"]

    def _body(self, event: Event) -> list[str]:
        match event:
            case TrainMetrics():
                return self._loss(event)
            case Validation():
                return self._validation(event)
            case CheckpointSaved():
                because = f": {event.reason}" if event.reason else ""
                return [f"  Checkpoint saved at step {event.step}{because}"]
            case StoppedEarly():
                return early_stopping(event, self._baseline)
            case PrefixCached():
                return self._cached(event)
            case PhaseBegan():
                return [f"  {event.phase[:1].upper()}{event.phase[1:]} ..."]
            case Compiled():
                return [f"  {counted(event.graphs, 'graph')} compiled in {event.seconds:.1f} s"]
            case Warned():
                return [f"⚠️  {event.message}"]
            case StoodStill():
                return [f"⏸️  {event.message}"]
            case Finished():
                return final_analysis(event)
            case Evaluated():
                return evaluated(event)
            case Failed():
                return ["", f"❌ FAILED at step {event.step}: {event.reason}"]
        return []

    def _validation(self, event: Validation) -> list[str]:
        """Return a validation; logs of an older farense say only once what came before training."""
        if event.step == 0:
            self._baseline = event.val_loss
        elif event.baseline_val_loss is not None:
            self._baseline = event.baseline_val_loss
        return validation(event, self._baseline)

    def _cached(self, event: PrefixCached) -> list[str]:
        """Say that a filling begins, and that it ended."""
        if event.examples == event.total:
            cost = f"{event.megabytes:.0f} MB, {event.seconds:.0f} s"
            return [f"  Prefix cache: {event.total} examples of {event.data} computed, {cost}"]
        if event.data == self._filling:
            return self._filled(event)
        self._filling, self._fill_part = event.data, 0
        return [f"  Prefix cache: computing the frozen blocks of {event.total} examples, once ..."]

    def _filled(self, event: PrefixCached) -> list[str]:
        part = FILL_PARTS * event.examples // event.total
        if part <= self._fill_part or event.seconds < SHORT_FILL_SECONDS:
            return []
        self._fill_part = part
        left = "" if event.eta_seconds is None else f", {duration(event.eta_seconds)} left"
        return [f"  Prefix cache: {event.examples}/{event.total}{left}"]

    def _loss(self, event: TrainMetrics) -> list[str]:
        if event.loss is None:
            return []
        before = "" if self._last_loss is None else f"{figure(self._last_loss)} → "
        self._last_loss = event.loss
        of_all = f"/{self._total_steps}" if self._total_steps else ""
        width = len(str(self._total_steps or ""))
        rate = "" if event.learning_rate is None else f"   lr {event.learning_rate:.1e}"
        speed = "" if event.tokens_per_second is None else f"   {event.tokens_per_second:.0f} tok/s"
        step = f"  Step {event.step:>{width}}{of_all}"
        return [f"{step}   Loss: {before}{figure(event.loss)}{rate}{speed}"]


def header(envelope: Envelope, event: Started) -> list[str]:
    """Return the configuration of a run that starts."""
    attempt = f", attempt {envelope.attempt}" if envelope.attempt > 1 else ""
    held = f" ({event.valid_data})" if event.valid_data else ""
    counts = f"{event.train_examples} training examples, {event.valid_examples} validation"
    rows = {
        "Model": event.model,
        "Data": counts + held,
        "Epochs": _epochs(event),
    }
    # A log may have been written by a farense whose config had other keys: it is still shown.
    with suppress(KeyError, TypeError, ValueError):
        rows |= _settings(event)
    rows["Device"] = event.device
    body = [f"  {name:<15}{value}" for name, value in rows.items()]
    wait = "  The first measurement and the first steps take longest: kernels are compiled."
    return [f"🚀 {envelope.job} (preset {event.preset}{attempt})", *body, wait]


def _epochs(event: Started) -> str:
    planned = event.num_epochs * event.steps_per_epoch
    text = f"{event.num_epochs} of {event.steps_per_epoch} steps"
    if event.total_steps < planned:
        return f"{text}, ended at step {event.total_steps} by max_steps"
    return f"{text} = {planned}"


def _settings(event: Started) -> dict[str, str]:
    config, lora = event.config, event.config["lora"]
    batch, accumulation = config["batch_size"], config["gradient_accumulation"]
    return {
        _adapter_kind(lora): f"rank {lora['rank']}, {_scale(lora)}, dropout {lora['dropout']:g}, "
        f"last {lora['num_layers']} layers, {event.trainable_parameters:,} parameters",
        **_adapted(event),
        **({"Starts from": event.init_from} if event.init_from else {}),
        "Batch": f"{batch} x {accumulation} accumulated = {batch * accumulation}",
        "Learning rate": f"{_learning_rate(config)}, weight decay {config['weight_decay']:g}",
        "Validations": _validation_plan(event),
    }


def _adapter_kind(lora: Mapping[str, Any]) -> str:
    """Return how the kind of adapter is written; older versions know one alone."""
    return "DoRA" if lora.get("kind") == "dora" else "LoRA"


def _scale(lora: Mapping[str, Any]) -> str:
    if lora.get("alpha") is None:
        return f"scale {lora['scale']:g}"
    return f"alpha {lora['alpha']:g}{' (rsLoRA)' if lora['rslora'] else ''}"


def _learning_rate(config: Mapping[str, Any]) -> str:
    """Return how the rate goes; an older version's config knows warmup steps alone."""
    ratio, schedule = config.get("warmup_ratio"), config.get("lr_schedule", "constant")
    warmup = f"{config['warmup_steps']} warmup steps"
    if ratio is not None:
        warmup = f"{ratio * 100:g}% of the updates as warmup"
    text = f"{config['learning_rate']:.1e} after {warmup}"
    if schedule == "constant":
        return text
    lowest = config["min_learning_rate"]
    return f"{text}, then {schedule} to {f'{lowest:.1e}' if lowest else 0}"


def _adapted(event: Started) -> dict[str, str]:
    """Return which layers are adapted; nothing of an event that does not say so."""
    layers = {
        path: tuple(blocks)
        for path, blocks in event.adapted_layers.items()
        if isinstance(blocks, list | tuple) and all(isinstance(block, int) for block in blocks)
    }
    return {"Adapted": described(layers)} if layers else {}


def validation(event: Validation, baseline: float | None = None) -> list[str]:
    """Return a validation: its loss, what it means for the best, the gap and its status.

    Args:
        baseline: the validation loss before training, where it is known.
    """
    if event.step == 0:
        return [f"  Val Loss: {figure(event.val_loss)}   baseline, before training"]
    found = verdict(baseline=baseline, best=event.val_loss, gap=event.overfitting_gap)
    of_patience = f"/{event.patience}" if event.patience else ""
    waited = f"({event.without_improvement}{of_patience})"
    if not event.improved:
        said = f"no improvement {waited}"
    elif found is not None and not found.learned:
        said = f"lowest so far, but not below the {figure(baseline)} before training"
    elif event.without_improvement:
        said = f"best so far ✅, by less than min_delta {waited}"
    else:
        said = "best so far ✅"
    judged = "" if found is None else f"   {found.mark} {found.short}"
    return [
        f"  Val Loss: {figure(event.val_loss)}   {said}",
        f"  Overfitting Gap: {_gap_text(event.overfitting_gap)}{judged}",
    ]


def early_stopping(event: StoppedEarly, baseline: float | None = None) -> list[str]:
    """Return why training stopped, and what the best was; ``baseline``: before training."""
    ruined = verdict(baseline=baseline, best=event.best_val_loss, gap=None)
    above = f", not below the {figure(baseline)} before training" if ruined else ""
    return [
        "",
        f"🛑 EARLY STOPPING at step {event.step}: {event.patience} validations without improvement",
        f"  Best model: epoch {event.best_epoch}, step {event.best_step}, "
        f"val loss {figure(event.best_val_loss)}{above}",
    ]


def final_analysis(event: Finished) -> list[str]:
    """Return ANÁLISE FINAL: what came out, how it overfits, where everything is."""
    found = event.verdict
    rows = {"Status": _status(event, found)}
    if found is not None and found.note:
        rows["Note"] = found.note
    if event.mean_gap is not None and event.max_gap is not None and event.min_gap is not None:
        rows["Overfitting gap"] = (
            f"mean {event.mean_gap:.3f}, max {event.max_gap:.3f}, min {event.min_gap:.3f}"
        )
    if event.best_val_loss is not None:
        rows["Best val loss"] = (
            f"{figure(event.best_val_loss)} (epoch {event.best_epoch}, step {event.best_step})"
        )
    if event.baseline_val_loss is not None:
        rows["Baseline"] = _baseline(event.baseline_val_loss, event.best_val_loss)
    pruned = f" (pruned by {event.pruned_by})" if event.pruned_by else ""
    took = f"{duration(event.elapsed_time_sec)} of training"
    rows |= {
        "Result": f"{event.state}{pruned} after {event.step} steps, {took}",
        "Adapters": event.adapters,
        "Metrics": f"{event.run_dir}/training_metrics.csv",
        "Summary": f"{event.run_dir}/training_summary.json",
    }
    return ["", "📊 ANÁLISE FINAL", *(f"  {name:<17}{value}" for name, value in rows.items())]


def _status(event: Finished, found: Verdict | None) -> str:
    if found is None:
        return "unknown: overfitting shows only against validation data"
    if not found.learned:
        return f"{found.mark} {found.word} ({found.why})"
    gap = "" if found.gap is None else f"; {found.gap:.3f} at the best step"
    below = f": {BELOW}" if found.far_below else ""
    return f"{found.mark} {found.word} ({found.why}{gap}{below})"


def _baseline(baseline: float, best: float | None) -> str:
    if best is None or not baseline > 0:
        return f"{figure(baseline)} before training"
    change = (best - baseline) / baseline
    return f"{figure(baseline)} before training ({change:+.0%} since)"


def _validation_plan(event: Started) -> str:
    if not event.validations:
        return "none"
    steps, patience = event.config["eval_steps"], event.config["early_stopping_patience"]
    plan = f"{event.validations}, every {min(steps, event.total_steps)} steps"
    if patience is None:
        return f"{plan}; no early stopping"
    delta = event.config["early_stopping_min_delta"] or 0
    return f"{plan}; stops after {patience} without an improvement over {delta:g}, keeps the lowest"


def _gap_text(gap: float) -> str:
    """Return a gap; between losses of which one is not finite there is none."""
    return f"{gap:.3f}" if math.isfinite(gap) else NONE
