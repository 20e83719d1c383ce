"""How two configurations differ, as a person reads it. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from jobs.config.config_file import flatten
from jobs.config.differences import Difference, differences

# Settings that are read together: shown in one row where either differs.
PAIRS = {
    ("lora.scale", "lora.dropout"): ("lora scale / dropout", " / "),
    ("batch_size", "gradient_accumulation"): ("batch_size x gradient_accumulation", " x "),
    ("early_stopping_patience", "early_stopping_min_delta"): (
        "early_stopping_patience / min_delta",
        " / ",
    ),
}


def cells(row: Difference) -> list[str]:
    """Return a difference as four texts."""
    return [row.setting, value_text(row.a), value_text(row.b), row.why]


def paired(
    a: dict[str, Any], b: dict[str, Any], why: Mapping[str, str] | None = None
) -> list[Difference]:
    """Return the differences of two configs, settings that are read together in one.

    Args:
        why: the reasons for settings, by their dotted keys.
    """
    left, right = flatten(a), flatten(b)
    rows: dict[str, Difference] = {}
    for row in differences(a, b, why):
        pair = next((pair for pair in PAIRS if row.setting in pair), None)
        if pair is None:
            rows[row.setting] = row
            continue
        name, joint = PAIRS[pair]
        reasons = [*(rows[name].why.split("; ") if name in rows else []), row.why]
        rows[name] = Difference(
            name,
            _joined(joint, [left.get(key) for key in pair]),
            _joined(joint, [right.get(key) for key in pair]),
            "; ".join(dict.fromkeys(reason for reason in reasons if reason)),
        )
    return list(rows.values())


def value_text(value: Any) -> str:
    """Return a setting as a person writes it: ``none``, ``5e-4``, ``16``, ``0.08``."""
    if value is None:
        return "none"
    if isinstance(value, float) and 0 < value < 1e-3:
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    if isinstance(value, float) and value.is_integer() and value:
        return str(int(value))
    if isinstance(value, tuple | list):
        return ", ".join(str(item) for item in value)
    return str(value)


def set_text(value: Any) -> str:
    """Return a value as ``--set`` takes it, in quotes where a shell would take it apart."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return shlex.quote(f"[{value_text(value)}]")
    return shlex.quote(value_text(value))


def _joined(joint: str, values: list[Any]) -> str:
    return "none" if values == [None] * len(values) else joint.join(map(value_text, values))
