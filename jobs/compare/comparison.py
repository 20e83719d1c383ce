"""Two runs compared: all figures, the decision, and what may stand against either."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jobs.compare.advice import Advice, advice
from jobs.compare.changed import Changed, changed_most
from jobs.compare.criteria import Criterion, criteria
from jobs.compare.decision import FEWEST, PRIMARY, Action, Basis, Recommendation, Relation, decide
from jobs.compare.paired import (
    Pair,
    ScoreDifference,
    paired_difference,
    pairs_of,
    unpaired_difference,
)
from jobs.compare.side import Side, measured_otherwise, side_of
from jobs.config.differences import Difference, differences
from jobs.errors import InvalidInput
from jobs.evaluation.scores import METRICS
from jobs.past_run import PastRun

DATA = ("data.train", "data.valid", "init_from")


@dataclass(frozen=True)
class Comparison:
    """B beside A.

    Attributes:
        same_validation_set: True where both were validated on the same data; None where that of one
            is not known. (Different data are refused.)
        config: the settings in which they differ; None where those of one are not known.
        scores: each score of both, and the difference.
        pairs: questions that both answered, and that the intervals rest on; 0 where answers were
            not paired.
        better, worse: the questions whose answers changed most.
        criteria: whether either is a success.
        advice: what to change in B's settings, where B has ended and is not to be used, or lacks
            what a decision needs.
        notes: what else a reader has to know, a sentence each.
    """

    a: Side
    b: Side
    same_validation_set: bool | None
    config: tuple[Difference, ...] | None
    scores: tuple[ScoreDifference, ...]
    pairs: int
    better: tuple[Changed, ...]
    worse: tuple[Changed, ...]
    criteria: tuple[Criterion, ...]
    decision: Recommendation
    advice: tuple[Advice, ...]
    notes: tuple[str, ...]


def compare(first: PastRun, second: PastRun) -> Comparison:
    """Compare a run with an earlier one, ``first``.

    Raises:
        InvalidInput: they are one run, or were validated on different data.
    """
    if first.directory.path.resolve() == second.directory.path.resolve():
        raise InvalidInput(f"A and B are the same run: {first.name}.", "Name two runs.")
    a, b = side_of(first), side_of(second)
    same = _same_validation_set(a, b)
    reasons = list(_why_unpaired(a, b, same))
    pairs = [] if reasons else pairs_of(first.answers, second.answers)
    if not reasons and len(pairs) < FEWEST:
        reasons = [f"{len(pairs)} answers can be paired, and it takes {FEWEST}"]
    scores = _scores(a, b, pairs)
    token_f1 = next(score for score in scores if score.metric == PRIMARY)
    decision = decide(a, b, token_f1, "; ".join(reasons) or None)
    better, worse = changed_most(pairs)
    return Comparison(
        a=a,
        b=b,
        same_validation_set=same,
        config=tuple(_differences(first, second, a, b)) if a.config and b.config else None,
        scores=scores,
        pairs=len(pairs),
        better=better,
        worse=worse,
        criteria=criteria(a, b),
        decision=decision,
        advice=_advice(a, b, decision),
        notes=tuple(_notes(a, b, len(pairs))),
    )


def _advice(a: Side, b: Side, decision: Recommendation) -> tuple[Advice, ...]:
    """Return what to change in B; nothing where it is not B that is to be changed."""
    if not b.has_ended or decision.action is Action.USE_B:
        return ()
    # Without a decision B is to blame only for what B itself lacks.
    lacking = not (b.usable and b.curve.learned) or b.curve.best_val_loss is None
    if decision.action is Action.NONE and not lacking:
        return ()
    # What left no adapter failed for a reason of its own.
    measured = decision.basis in (Basis.F1, Basis.LOSS)
    return advice(a, b, is_worse=measured and decision.verdict is Relation.WORSE)


def _same_validation_set(a: Side, b: Side) -> bool | None:
    """Tell whether both have the same validation set; None where one is not known.

    Raises:
        InvalidInput: they have different ones.
    """
    if a.valid is None or b.valid is None:
        return None
    if a.valid.sha256 == b.valid.sha256:
        return True
    named = [
        f"  {name} {side.name}: {side.valid.source}, {side.valid.examples} examples, "
        f"sha256 {side.valid.sha256[:12]}"
        for name, side in (("A", a), ("B", b))
        if side.valid is not None
    ]
    raise InvalidInput(
        "\n".join(["A and B were validated on different data, so no figure compares:", *named]),
        f"Train one of them anew on the data of the other: --set data.valid={a.valid.path}",
    )


def _scores(a: Side, b: Side, pairs: list[Pair]) -> tuple[ScoreDifference, ...]:
    if pairs:
        return tuple(paired_difference(pairs, metric) for metric in METRICS)
    return tuple(unpaired_difference(a.scores, b.scores, metric) for metric in METRICS)


def _differences(first: PastRun, second: PastRun, a: Side, b: Side) -> Iterator[Difference]:
    """Yield the settings that differ; data by the names that the user knows."""
    for row in differences(a.config, b.config):
        if row.setting in DATA:
            yield Difference(row.setting, _data(first, row), _data(second, row))
        else:
            yield row
    one, other = a.model_fingerprint, b.model_fingerprint
    if one and other and a.config.get("model") == b.config.get("model"):
        # The part in which they differ: what stands beside weights and tokenizer has its own.
        for part, its in zip(one.split("-"), other.split("-"), strict=False):
            if part != its:
                yield Difference("model (its files)", part[:12], its[:12])
                break


def _data(run: PastRun, row: Difference) -> Any:
    """Return the name and the beginning of the digest of a run's data."""
    spec = run.spec
    if row.setting == "init_from":
        start = None if spec is None else spec.init_from
        return None if start is None else f"{start.source} ({start.adapter_sha256[:8]})"
    file = None if spec is None else (spec.train if row.setting == "data.train" else spec.valid)
    return None if file is None else f"{file.source} ({file.sha256[:8]})"


def _why_unpaired(a: Side, b: Side, same: bool | None) -> Iterator[str]:
    """Yield why answers are not compared question by question."""
    for name, side, other in (("A", a, b), ("B", b, a)):
        evaluate = f" (farense evaluate {side.name})" if side.made_by_farense else ""
        if not side.scores and side.made_by_farense and side.valid is None:
            valid = other.valid.path if other.valid else "data/valid.jsonl"
            yield (
                f"{name} has no validation set, so it cannot be evaluated "
                f"(train it anew with --set data.valid={valid})"
            )
        elif not side.scores:
            yield f"{name} was not evaluated{evaluate}"
        elif side.outdated:
            yield f"{name} has another adapter since it was evaluated{evaluate}"
    if not (a.scores and b.scores):
        return
    if same is None:
        yield "whether both were asked the same is not known"
    if a.ignore_accents != b.ignore_accents:
        yield "accents made a difference to the scores of one run only"


def _notes(a: Side, b: Side, pairs: int) -> Iterator[str]:
    for name, side in (("A", a), ("B", b)):
        if side.made_by_farense and side.valid is None:
            yield f"{name} has no validation set."
        elif side.valid is None:
            yield f"The validation set of {name} is not known: losses may be of different data."
        if not side.has_ended:
            yield f"{name} {side.ending}: its figures are those so far."
        if side.curve.gap_note:
            yield f"{name}: {side.curve.gap_note}"
    if other := measured_otherwise(a, b):
        yield f"Losses do not compare: other {', '.join(other)}."
    if pairs and pairs < max(a.questions, b.questions):
        yield f"{pairs} questions were answered by both, of {a.questions} and {b.questions}."
