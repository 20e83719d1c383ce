"""What a job came to, in the figures that a line or a message has room for."""

from __future__ import annotations

from daemon.store.records import JobRecord
from jobs.verdict import NOT_LEARNED


def figures(record: JobRecord) -> list[str]:
    """Return the scores of an evaluation, or the best loss of a training and its gap."""
    if record.evaluates:
        return scores(record)
    best = [] if record.best_val_loss is None else [f"best val loss {record.best_val_loss:.4f}"]
    if record.gap_status == NOT_LEARNED:
        return [*best, NOT_LEARNED]
    if record.overfitting_gap is None:
        return best
    return [*best, f"gap {record.overfitting_gap:.3f} {record.gap_status or ''}".rstrip()]


def scores(record: JobRecord) -> list[str]:
    """Return what an evaluation found, as far as there was one."""
    found = {"token F1": record.token_f1, "exact match": record.exact_match}
    return [f"{name} {value:.3f}" for name, value in found.items() if value is not None]
