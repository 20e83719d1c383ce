"""What to change in a configuration, from what was measured of its run: the troubleshooting rules.

Each rule is a symptom with its figure, and the settings that go with it. Where several rules have a
word on one setting, the first of them counts: what makes a run fail, then overfitting, then the
rest. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jobs.compare.criteria import GAP_TARGET
from jobs.compare.decision import LOSS_MARGIN
from jobs.compare.side import DIVERGED, MEASURED_BY, OUT_OF_MEMORY, Side, measured_otherwise
from jobs.config.config_file import flatten
from jobs.state import State
from jobs.verdict import GAP_BANDS

# A training loss, in eval mode on the same examples, that rises by more than this from one
# validation to the next: nats per token.
RISE = 0.1
NO_OVERFITTING = GAP_BANDS[0][0]
MOST_DROPOUT, DROPOUT_STEP = 0.3, 0.05
FASTEST = 1e-3
PATIENCE, MIN_DELTA = 5, 0.001
VALIDATIONS = 8
FEW_VALIDATIONS = 3
# What makes a difference by chance, or is another task.
NOT_TUNED = ("seed", "data.train", "data.valid", "model", *MEASURED_BY)

Values = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """A setting, what it was, and what to try."""

    setting: str
    now: Any
    to: Any


@dataclass(frozen=True)
class Advice:
    """What is wrong with a run, and what to change.

    Attributes:
        rule: the name of the rule.
        symptom: what was measured.
        changes: of settings; none where the settings of the run are not known.
        also: what no setting does; may be empty.
    """

    rule: str
    symptom: str
    changes: tuple[Change, ...]
    also: str = ""


Rule = Callable[[Side, Side, Values], Advice | None]


def advice(a: Side, b: Side, *, is_worse: bool = False) -> tuple[Advice, ...]:
    """Return what to change in B's configuration, the most pressing first.

    Args:
        is_worse: whether B's answers or losses are worse than A's. Where one setting alone makes
            that difference, no rule knows better than to go back.
    """
    settings = flatten(b.config)
    if is_worse and (back := _back_to_a(flatten(a.config), settings)) is not None:
        return (back,)
    found = [finding for rule in RULES if (finding := rule(a, b, settings)) is not None]
    return tuple(_without_repeats(found))


def _back_to_a(theirs: Values, ours: Values) -> Advice | None:
    """Find the one setting by which B was made worse than A."""
    other = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)]
    if len(other) != 1 or other[0] in NOT_TUNED or not {*other} <= ours.keys() & theirs.keys():
        return None
    (key,) = other
    return Advice(
        "one setting",
        f"{key} is all that differs, and A's is the better",
        (Change(key, ours[key], theirs[key]),),
        also="With it B is A again: from there, change something else.",
    )


def _unstable(a: Side, b: Side, now: Values) -> Advice | None:
    curve = b.curve
    if curve.not_finite is not None:
        symptom = f"a loss was not finite at step {curve.not_finite}"
    elif b.failure == DIVERGED or b.rollbacks:
        symptom = f"it diverged{f', and went back {b.rollbacks} times' if b.rollbacks else ''}"
    elif curve.train_rise > RISE:
        symptom = f"the training loss once rose by {curve.train_rise:.2f} between two validations"
    else:
        return None
    return Advice(
        "unstable",
        symptom,
        _changes(
            now,
            learning_rate=_half(now.get("learning_rate")),
            **_longer_warmup(b, now),
            max_grad_norm=1.0 if now.get("max_grad_norm") is None else None,
        ),
    )


def _not_learned(a: Side, b: Side, now: Values) -> Advice | None:
    """Find a run that ended no better than it began: as a rule, its updates were too large."""
    curve = b.curve
    if curve.learned or curve.best_val_loss is None or curve.baseline_val_loss is None:
        return None
    best, before = f"{curve.best_val_loss:.4f}", f"{curve.baseline_val_loss:.4f}"
    rate = now.get("learning_rate")
    return Advice(
        "not learned",
        f"its best validation loss, {best}, is not below {before} before training",
        _changes(
            now,
            learning_rate=None if rate is None else rate / 10,
            **_longer_warmup(b, now),
        ),
        also="Where the training loss fell all the same, the two sets may have little in common.",
    )


def _out_of_memory(a: Side, b: Side, now: Values) -> Advice | None:
    if OUT_OF_MEMORY not in (b.failure, *b.failed_attempts):
        return None
    batch, accumulation = now.get("batch_size") or 1, now.get("gradient_accumulation") or 1
    smaller = {"batch_size": batch // 2, "gradient_accumulation": 2 * accumulation}
    return Advice(
        "out of memory",
        "it ran out of memory",
        _changes(
            now,
            **(smaller if batch % 2 == 0 else {}),
            grad_checkpoint=True,
            on_oom="retry_smaller",
        ),
    )


def _no_validation(a: Side, b: Side, now: Values) -> Advice | None:
    if b.valid is not None or b.curve.validations or not b.made_by_farense:
        return None
    data = a.valid.path if a.valid else "data/valid.jsonl"
    return Advice("no validation", "it has no validation set", _changes(now, data__valid=data))


def _overfitting(a: Side, b: Side, now: Values) -> Advice | None:
    gap = b.curve.gap
    if gap is None or not _overfits(b):
        return None
    rank, epochs, best = now.get("lora.rank") or 1, now.get("num_epochs"), b.curve.best_epoch
    fewer = best is not None and isinstance(epochs, int) and 0 < best < epochs
    return Advice(
        "overfitting",
        f"the gap at its best step is {gap:.3f} ({b.curve.gap_status})",
        _changes(
            now,
            lora__rank=max(1, rank * 3 // 4),
            lora__dropout=_more_dropout(now.get("lora.dropout")),
            learning_rate=_half(now.get("learning_rate")),
            num_epochs=best if fewer else None,
        ),
        also="More training data, or more varied ones, help most.",
    )


def _late_stop(a: Side, b: Side, now: Values) -> Advice | None:
    """Find a run that went on after its best, with nothing to stop it."""
    if b.curve.since_best < 2 or now.get("early_stopping_patience") is not None or not now:
        return None
    return Advice(
        "no early stopping",
        f"{b.curve.since_best} validations after its best brought nothing",
        _changes(now, early_stopping_patience=PATIENCE, early_stopping_min_delta=MIN_DELTA),
    )


def _few_validations(a: Side, b: Side, now: Values) -> Advice | None:
    total, every = b.total_steps, now.get("eval_steps")
    if not 0 < b.curve.validations < FEW_VALIDATIONS or not total or not every:
        return None
    count = b.curve.validations
    return Advice(
        "few validations",
        f"{count} validation{'s' if count > 1 else ''} cannot show where the best step was",
        _changes(now, eval_steps=min(every, max(1, total // VALIDATIONS))),
    )


def _stopped_early(a: Side, b: Side, now: Values) -> Advice | None:
    patience = now.get("early_stopping_patience")
    if b.state is not State.EARLY_STOPPED or not patience or _no_more(b):
        return None
    if b.curve.missed_gain > 0:
        return Advice(
            "stopped too soon",
            f"the loss still fell, by {b.curve.missed_gain:.4f}: less than min_delta counts",
            _changes(now, early_stopping_min_delta=0.0),
        )
    if not (b.total_steps and b.curve.steps and b.curve.steps < b.total_steps / 2):
        return None
    return Advice(
        "stopped too soon",
        f"it stopped at step {b.curve.steps} of {b.total_steps}, without overfitting",
        _changes(now, early_stopping_patience=2 * patience),
    )


def _ended_early(a: Side, b: Side, now: Values) -> Advice | None:
    """Find a run whose last validation was its best, unless more training would only overfit.

    One that was lower by less than ``min_delta`` says that little more would come.
    """
    curve = b.curve
    falling = curve.validations > 1 and curve.since_best == 0 and curve.missed_gain == 0
    if b.state is not State.COMPLETED or not falling or not now or _no_more(b):
        return None
    limit, epochs = now.get("max_steps"), now.get("num_epochs") or 1
    examples = b.train.examples if b.train else 0
    planned = epochs * -(-examples // (now.get("batch_size") or 1))
    longer = {} if limit is None else {"max_steps": 2 * limit}
    if limit is None or 2 * limit > planned:
        longer["num_epochs"] = 2 * epochs
    return Advice(
        "ended too soon",
        "its last validation was its best: the loss was still falling",
        _changes(now, **longer),
    )


def _underfitting(a: Side, b: Side, now: Values) -> Advice | None:
    ours, theirs, gap = b.curve.train_loss, a.curve.train_loss, b.curve.gap
    known = b.curve.learned and not measured_otherwise(a, b)
    if ours is None or theirs is None or gap is None or not known:
        return None
    if gap >= NO_OVERFITTING or ours <= theirs + LOSS_MARGIN:
        return None
    rank = now.get("lora.rank") or 1
    return Advice(
        "underfitting",
        f"its training loss is {ours:.4f} ({theirs:.4f} with A), with a gap of {gap:.3f}",
        _changes(
            now,
            lora__rank=-(-rank * 4 // 3),
            lora__dropout=_less_dropout(now.get("lora.dropout")),
            learning_rate=_other_rate(now.get("learning_rate"), a.config.get("learning_rate")),
            num_epochs=(now.get("num_epochs") or 0) + 1,
        ),
    )


RULES: tuple[Rule, ...] = (
    _not_learned, _unstable, _out_of_memory, _no_validation, _overfitting, _late_stop,
    _few_validations, _stopped_early, _ended_early, _underfitting,
)  # fmt: skip


def _longer_warmup(b: Side, now: Values) -> dict[str, Any]:
    """Return twice the warmup of B; a tenth of the run where it has none."""
    if ratio := now.get("warmup_ratio"):
        return {"warmup_ratio": min(2 * ratio, 0.5)}
    tenth = max(1, (b.total_steps or 0) // 10)
    return {"warmup_steps": 2 * (now.get("warmup_steps") or 0) or tenth}


def _changes(now: Values, **wanted: Any) -> tuple[Change, ...]:
    """Return the changes of settings that are known; ``__`` stands for the dot of a key."""
    found = [(name.replace("__", "."), to) for name, to in wanted.items() if to is not None]
    return tuple(Change(key, now[key], to) for key, to in found if key in now and now[key] != to)


def _without_repeats(findings: list[Advice]) -> Iterator[Advice]:
    """Yield findings whose settings none before them has a word on."""
    seen: set[str] = set()
    for finding in findings:
        changes = tuple(change for change in finding.changes if change.setting not in seen)
        seen |= {change.setting for change in changes}
        yield Advice(finding.rule, finding.symptom, changes, finding.also)


def _overfits(side: Side) -> bool:
    return side.curve.learned and side.curve.gap is not None and side.curve.gap >= GAP_TARGET


def _no_more(side: Side) -> bool:
    """Tell whether more steps of the same would do no good."""
    return _overfits(side) or not side.curve.learned


def _half(rate: float | None) -> float | None:
    return None if rate is None else rate / 2


def _other_rate(ours: float | None, theirs: float | None) -> float | None:
    """Return a rate to learn more with: A's, which did, or where it is the same a higher one."""
    if ours is None or (theirs is not None and theirs != ours):
        return theirs
    return None if ours >= FASTEST else min(FASTEST, 2 * ours)


def _more_dropout(dropout: float | None) -> float | None:
    if dropout is None or dropout >= MOST_DROPOUT:
        return None
    return min(MOST_DROPOUT, round(dropout + DROPOUT_STEP, 2))


def _less_dropout(dropout: float | None) -> float | None:
    return None if dropout is None else float(f"{dropout / 2:.2g}")
