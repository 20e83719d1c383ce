"""How two configurations differ: pure functions over presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.config import Preset

# Settings that are read together: shown in one row where either differs.
PAIRS = {
    ("lora.scale", "lora.dropout"): ("lora scale / dropout", " / "),
    ("batch_size", "gradient_accumulation"): ("batch_size x gradient_accumulation", " x "),
    ("early_stopping_patience", "early_stopping_min_delta"): (
        "early_stopping_patience / min_delta",
        " / ",
    ),
}


@dataclass(frozen=True)
class Difference:
    """A setting that two configs do not share; ``why`` is the reason a preset gives for it."""

    setting: str
    a: Any
    b: Any
    why: str

    def cells(self) -> list[str]:
        """Return the difference as four texts."""
        return [self.setting, value_text(self.a), value_text(self.b), self.why]


def differences(a: Preset, b: Preset) -> list[Difference]:
    """Return the settings in which two presets differ, in the order of the config."""
    from jobs.config import flatten

    left, right = flatten(a.config.model_dump()), flatten(b.config.model_dump())
    why = b.why or a.why
    return [
        Difference(key, left.get(key), right.get(key), why.get(key, ""))
        for key in left | right
        if left.get(key) != right.get(key)
    ]


def paired(a: Preset, b: Preset) -> list[Difference]:
    """Return the differences, settings that are read together in one."""
    from jobs.config import flatten

    left, right = flatten(a.config.model_dump()), flatten(b.config.model_dump())
    rows: dict[str, Difference] = {}
    for row in differences(a, b):
        pair = next((pair for pair in PAIRS if row.setting in pair), None)
        if pair is None:
            rows[row.setting] = row
            continue
        name, joint = PAIRS[pair]
        reasons = [*(rows[name].why.split("; ") if name in rows else []), row.why]
        rows[name] = Difference(
            name,
            _joined(joint, [left[key] for key in pair]),
            _joined(joint, [right[key] for key in pair]),
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


def _joined(joint: str, values: list[Any]) -> str:
    return "none" if values == [None] * len(values) else joint.join(map(value_text, values))
