"""Events as the lines a person reads: the picture of a run, in a terminal or in a log file.

Pure: no clock, no terminal, no colour. The same lines come from a run that is live and from the job
log of last night.
"""

from __future__ import annotations

from contextlib import suppress

from jobs.early_stopping import GAP_BANDS, WORST_BAND
from jobs.evaluation.events import Evaluated, EvaluationStarted
from jobs.evaluation.lines import evaluated, evaluation_started
from jobs.events import (
    CheckpointSaved,
    EarlyStopping,
    Envelope,
    Event,
    Failed,
    Finished,
    PrefixCached,
    Progress,
    Started,
    TrainMetrics,
    Validation,
    Warned,
)
from jobs.text import printable

ENDLESS = 1e10

GAP_MARKS = {"EXCELENTE": "✅", "BOM": "✅", "MODERADO": "⚠️", "CRÍTICO": "🔴"}


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
                return validation(event)
            case CheckpointSaved():
                because = f": {event.reason}" if event.reason else ""
                return [f"  Checkpoint saved at step {event.step}{because}"]
            case EarlyStopping():
                return early_stopping(event)
            case PrefixCached():
                return self._cached(event)
            case Warned():
                return [f"⚠️  {event.message}"]
            case Finished():
                return final_analysis(event)
            case Evaluated():
                return evaluated(event)
            case Failed():
                return ["", f"❌ FAILED at step {event.step}: {event.reason}"]
        return []

    def _cached(self, event: PrefixCached) -> list[str]:
        """Say that a filling begins, and that it ended."""
        if event.examples == event.total:
            cost = f"{event.megabytes:.0f} MB, {event.seconds:.0f} s"
            return [f"  Prefix cache: {event.total} examples of {event.data} computed, {cost}"]
        if event.data == self._filling:
            return []
        self._filling = event.data
        return [f"  Prefix cache: computing the frozen blocks of {event.total} examples, once ..."]

    def _loss(self, event: TrainMetrics) -> list[str]:
        if event.loss is None:
            return []
        before = "" if self._last_loss is None else f"{_loss_text(self._last_loss)} → "
        self._last_loss = event.loss
        of_all = f"/{self._total_steps}" if self._total_steps else ""
        width = len(str(self._total_steps or ""))
        rate = "" if event.learning_rate is None else f"   lr {event.learning_rate:.1e}"
        speed = "" if event.tokens_per_second is None else f"   {event.tokens_per_second:.0f} tok/s"
        step = f"  Step {event.step:>{width}}{of_all}"
        return [f"{step}   Loss: {before}{_loss_text(event.loss)}{rate}{speed}"]


def header(envelope: Envelope, event: Started) -> list[str]:
    """Return the configuration of a run that starts."""
    attempt = f", attempt {envelope.attempt}" if envelope.attempt > 1 else ""
    rows = {
        "Model": event.model,
        "Data": f"{event.train_examples} training examples, {event.valid_examples} validation",
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
        "LoRA": f"rank {lora['rank']}, scale {lora['scale']:g}, dropout {lora['dropout']:g}, "
        f"last {lora['num_layers']} layers, {event.trainable_parameters:,} parameters",
        "Batch": f"{batch} x {accumulation} accumulated = {batch * accumulation}",
        "Learning rate": f"{config['learning_rate']:.1e} after {config['warmup_steps']} warmup "
        f"steps, weight decay {config['weight_decay']:g}",
        "Validations": _validation_plan(event),
    }


def validation(event: Validation) -> list[str]:
    """Return a validation: its loss, what it means for the best, the gap and its status."""
    if event.step == 0:
        return [f"  Val Loss: {_loss_text(event.val_loss)}   baseline, before training"]
    of_patience = f"/{event.patience}" if event.patience else ""
    waited = f"({event.without_improvement}{of_patience})"
    if not event.improved:
        verdict = f"no improvement {waited}"
    elif event.without_improvement:
        verdict = f"best so far ✅, by less than min_delta {waited}"
    else:
        verdict = "best so far ✅"
    mark = GAP_MARKS.get(event.gap_status, "")
    return [
        f"  Val Loss: {_loss_text(event.val_loss)}   {verdict}",
        f"  Overfitting Gap: {event.overfitting_gap:.3f}   {mark} {event.gap_status}",
    ]


def early_stopping(event: EarlyStopping) -> list[str]:
    """Return why training stopped, and what the best was."""
    return [
        "",
        f"🛑 EARLY STOPPING at step {event.step}: {event.patience} validations without improvement",
        f"  Best model: epoch {event.best_epoch}, step {event.best_step}, "
        f"val loss {_loss_text(event.best_val_loss)}",
    ]


def final_analysis(event: Finished) -> list[str]:
    """Return ANÁLISE FINAL: what came out, how it overfits, where everything is."""
    rows = {"Status": _status(event)}
    if event.mean_gap is not None and event.max_gap is not None and event.min_gap is not None:
        rows["Overfitting gap"] = (
            f"mean {event.mean_gap:.3f}, max {event.max_gap:.3f}, min {event.min_gap:.3f}"
        )
    if event.best_val_loss is not None:
        rows["Best val loss"] = (
            f"{_loss_text(event.best_val_loss)} (epoch {event.best_epoch}, step {event.best_step})"
        )
    if event.baseline_val_loss is not None:
        rows["Baseline"] = _baseline(event.baseline_val_loss, event.best_val_loss)
    pruned = f" (pruned by {event.pruned_by})" if event.pruned_by else ""
    took = duration(event.elapsed_time_sec)
    rows |= {
        "Result": f"{event.state}{pruned} after {event.step} steps, {took}",
        "Adapters": event.adapters,
        "Metrics": f"{event.run_dir}/training_metrics.csv",
        "Summary": f"{event.run_dir}/training_summary.json",
    }
    return ["", "📊 ANÁLISE FINAL", *(f"  {name:<17}{value}" for name, value in rows.items())]


def duration(seconds: float) -> str:
    """Return a length of time for a person: ``45s``, ``3m 20s``, ``2h 05m``, ``1d 03h``.

    ``-`` stands for one that is endless, or as good as.
    """
    if not abs(seconds) < ENDLESS:
        return "-"
    whole = max(0, round(seconds))
    for unit, size, below, part in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "m", 60),
        ("m", 60, "s", 1),
    ):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // part:02d}{below}"
    return f"{whole}s"


def gap_band(status: str) -> str:
    """Return the bound of a gap status: ``gap < 0.15`` for BOM."""
    bounds = {word: f"gap < {bound:.2f}" for bound, word in GAP_BANDS}
    return bounds.get(status, f"gap >= {GAP_BANDS[-1][0]:.2f}" if status == WORST_BAND else "")


def _status(event: Finished) -> str:
    if event.gap_status is None:
        return "unknown: overfitting shows only against validation data"
    gap = "" if event.best_gap is None else f"; {event.best_gap:.3f} at the best step"
    mark = GAP_MARKS.get(event.gap_status, "")
    return f"{mark} {event.gap_status} ({gap_band(event.gap_status)}{gap})"


def _baseline(baseline: float, best: float | None) -> str:
    if best is None or not baseline > 0:
        return f"{_loss_text(baseline)} before training"
    change = (best - baseline) / baseline
    return f"{_loss_text(baseline)} before training ({change:+.0%} since)"


def _validation_plan(event: Started) -> str:
    if not event.validations:
        return "none"
    steps, patience = event.config["eval_steps"], event.config["early_stopping_patience"]
    plan = f"{event.validations}, every {min(steps, event.total_steps)} steps"
    if patience is None:
        return f"{plan}; no early stopping"
    delta = event.config["early_stopping_min_delta"] or 0
    return f"{plan}; stops after {patience} without an improvement over {delta:g}, keeps the lowest"


def _loss_text(loss: float) -> str:
    return f"{loss:.4f}"
