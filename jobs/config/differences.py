"""How two configurations differ. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.config.config_file import flatten


@dataclass(frozen=True)
class Difference:
    """A setting that two configs do not share; ``why`` is the reason a preset gives for it."""

    setting: str
    a: Any
    b: Any
    why: str = ""


def differences(
    a: dict[str, Any], b: dict[str, Any], why: Mapping[str, str] | None = None
) -> list[Difference]:
    """Return the settings in which two configs differ, in their order.

    Args:
        a: a config as plain data, nested or flat.
        why: the reasons for settings, by their dotted keys.
    """
    left, right, reasons = flatten(a), flatten(b), why or {}
    return [
        Difference(key, left.get(key), right.get(key), reasons.get(key, ""))
        for key in left | right
        if left.get(key) != right.get(key)
    ]
