"""Battery, mains and heat of this machine: what macOS' ``pmset`` and Linux say of them.

What was said is read by pure functions. Nothing of ``pmset`` was run on a Mac by farense's tests:
they hold outputs that others have published.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from daemon.host import run_tool

BATTERY = ("pmset", "-g", "batt")
THERMAL = ("pmset", "-g", "therm")
POWER_SUPPLIES = Path("/sys/class/power_supply")
DRAWING_FROM = re.compile(r"drawing from '([^']+)'", re.IGNORECASE)
# ` -InternalBattery-0 (id=4653155)<tab>80%; AC attached; not charging present: true`
SUPPLY = re.compile(r"^\s*-(.+?)(?:\s+\(id=\d+\))?\s+(\d{1,3})%;(.*)$", re.MULTILINE)
INTERNAL = "InternalBattery"
UPS = "UPS Power"
LIMIT = re.compile(r"\bCPU_(Speed|Scheduler)_Limit\s*=\s*(\d+)")
LEVEL = re.compile(r"\b(Thermal|Performance) Warning Level\s*[=:]\s*(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Power:
    """How this machine is fed, and whether it is too hot.

    Attributes:
        percent: charge of the battery, from 0 to 100; None where there is none, or nobody can tell.
        on_mains: on mains power; so it is where nobody can tell. A UPS is a battery.
        thermal: what the system does about heat, in words; None where it does nothing, and on
            Linux. A Mac with Apple silicon tells `pmset` of heat rarely, if at all.
    """

    percent: int | None = None
    on_mains: bool = True
    thermal: str | None = None

    @property
    def noteworthy(self) -> str | None:
        """What a person should know of it; None on mains power and cool."""
        charge = "" if self.percent is None else f" ({self.percent} %)"
        battery = None if self.on_mains else f"on battery power{charge}"
        return "; ".join(said for said in (battery, self.thermal) if said) or None


def read_power(platform: str = sys.platform) -> Power:
    """Return how this machine is fed now; on a Mac, two short programs are asked."""
    if platform != "darwin":
        return Power(percent_in(POWER_SUPPLIES), mains_in(POWER_SUPPLIES))
    battery = _output(BATTERY)
    return Power(percent_said(battery), mains_said(battery), thermal_said(_output(THERMAL)))


class PowerWatch:
    """Remembers for a while how the machine was fed: it is asked many times a second.

    Args:
        read: looks at the machine.
        clock: that only goes forward, in seconds.
    """

    def __init__(
        self,
        read: Callable[[], Power] = read_power,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._clock = read, clock
        self._found: Power | None = None
        self._read_at = 0.0

    def look(self, seconds: float) -> Power:
        """Return how the machine was fed at most so many seconds ago."""
        if self._found is None or self._clock() - self._read_at >= seconds:
            self._found, self._read_at = self._read(), self._clock()
        return self._found


def mains_said(output: str) -> bool:
    """Tell what ``pmset -g batt`` says: mains power, or a battery (a UPS is one too)."""
    found = DRAWING_FROM.search(output)
    return found is None or found[1] not in ("Battery Power", UPS)


def percent_said(output: str) -> int | None:
    """Return the charge that ``pmset -g batt`` tells of; None where it tells of no battery.

    Of a Mac's own battery and a UPS it is that of the one in use; on mains power, of the Mac's own.
    """
    source = DRAWING_FROM.search(output)
    on_ups = source is not None and source[1] == UPS
    supplies = [
        (name.startswith(INTERNAL), min(100, int(percent)))
        for name, percent, rest in SUPPLY.findall(output)
        if "present: false" not in rest
    ]
    found = [percent for own, percent in supplies if own is not on_ups]
    return next(iter(found or [percent for _, percent in supplies]), None)


def thermal_said(output: str) -> str | None:
    """Return what ``pmset -g therm`` says that macOS does about heat; None where that is nothing.

    A limit below 100 % may have other reasons: a missing battery, or a weak power adapter.
    """
    limits = {name: int(percent) for name, percent in LIMIT.findall(output)}
    least = min(limits.values(), default=100)
    slowed = [f"macOS holds the processor to {least} % of its speed"] if least < 100 else []
    levels = [
        f"{name.lower()} warning level {level}"
        for name, level in LEVEL.findall(output)
        if int(level) > 0
    ]
    return ", ".join([*slowed, *levels]) or None


def mains_in(folder: Path) -> bool:
    """Tell what Linux says in ``/sys/class/power_supply``.

    A laptop charged by USB-C may call its mains supply offline: its battery then says "Charging".
    The batteries of mice and keyboards do not count.
    """
    supplies = _supplies(folder)
    mains = [supply for supply in supplies if supply["type"] == "Mains"]
    batteries = _batteries(supplies)
    if not batteries or any(supply["online"] == "1" for supply in mains):
        return True
    said = {battery["status"] for battery in batteries}
    if "Discharging" in said:
        return False
    return "Charging" in said or not mains


def percent_in(folder: Path) -> int | None:
    """Return the charge that Linux tells of, the mean of several batteries; None without one."""
    told = [battery["capacity"] for battery in _batteries(_supplies(folder))]
    found = [min(100, int(text)) for text in told if text.isdecimal()]
    return sum(found) // len(found) if found else None


def _supplies(folder: Path) -> list[dict[str, str]]:
    names = ("type", "online", "scope", "status", "capacity")
    return [{name: _read(path / name) for name in names} for path in sorted(folder.glob("*"))]


def _batteries(supplies: list[dict[str, str]]) -> list[dict[str, str]]:
    return [s for s in supplies if s["type"] == "Battery" and s["scope"] != "Device"]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):  # not every supply has every file
        return ""


def _output(command: tuple[str, ...]) -> str:
    """Return what a tool of the system prints; nothing where it fails."""
    try:
        return run_tool(command).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
