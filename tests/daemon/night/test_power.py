"""Battery, mains and heat, as macOS and Linux tell of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.night.power import (
    Power,
    PowerWatch,
    mains_in,
    mains_said,
    percent_in,
    percent_said,
    read_power,
    thermal_said,
)
from tests.helpers import pmset


@pytest.mark.parametrize(
    ("output", "percent", "on_mains"),
    [
        (pmset.CHARGED, 100, True),
        (pmset.CHARGED_BY_BLANKS, 100, True),
        (pmset.CHARGING, 14, True),
        (pmset.FINISHING, 99, True),
        (pmset.HELD_AT_80, 80, True),
        (pmset.DISCHARGING, 88, False),
        (pmset.JUST_UNPLUGGED, 43, False),
        (pmset.NO_BATTERY, None, True),
        (pmset.ON_UPS, 87, False),
        (pmset.LAPTOP_BESIDE_UPS, 20, False),
        (pmset.LAPTOP_BESIDE_UPS.replace("'Battery Power'", "'UPS Power'"), 40, False),
        (pmset.DISCHARGING.replace("present: true", "present: false"), None, False),
        ("pmset: command not found\n", None, True),
        ("", None, True),
    ],
)
def test_what_pmset_says_of_the_battery(output: str, percent: int | None, on_mains: bool) -> None:
    assert (percent_said(output), mains_said(output)) == (percent, on_mains)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (pmset.COOL, None),
        (pmset.COOL_INTEL, None),
        (pmset.SLOWED_INTEL, "macOS holds the processor to 35 % of its speed"),
        (pmset.SLOWED_TWICE, "macOS holds the processor to 23 % of its speed"),
        (pmset.WARNED, "thermal warning level 1, performance warning level 2"),
        (pmset.WARNED_NO_MORE, None),
        ("", None),
    ],
)
def test_what_pmset_says_of_heat(output: str, said: str | None) -> None:
    assert thermal_said(output) == said


def test_only_what_is_worth_a_word_is_told() -> None:
    assert Power(80).noteworthy is None
    assert Power(43, on_mains=False).noteworthy == "on battery power (43 %)"
    assert Power(None, on_mains=False).noteworthy == "on battery power"
    hot = Power(20, on_mains=False, thermal="thermal warning level 1")
    assert hot.noteworthy == "on battery power (20 %); thermal warning level 1"


def supply(folder: Path, name: str, **files: str) -> None:
    (folder / name).mkdir()
    for file, text in files.items():
        (folder / name / file).write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("online", "status", "on_mains"),
    [("1", "Charging", True), ("0", "Discharging", False), ("0", "Charging", True)],
)
def test_what_linux_says(tmp_path: Path, online: str, status: str, on_mains: bool) -> None:
    supply(tmp_path, "AC", type="Mains", online=online)
    supply(tmp_path, "BAT0", type="Battery", status=status, capacity="60", scope="System")
    supply(tmp_path, "BAT1", type="Battery", status=status, capacity="21")
    supply(
        tmp_path, "hid-mouse", type="Battery", status="Discharging", capacity="3", scope="Device"
    )
    assert (mains_in(tmp_path), percent_in(tmp_path)) == (on_mains, 40)


def test_a_machine_without_a_battery_is_on_mains_power(tmp_path: Path) -> None:
    assert (mains_in(tmp_path), percent_in(tmp_path)) == (True, None)
    supply(tmp_path, "BAT0", type="Battery", status="Unknown", capacity="?")
    assert percent_in(tmp_path) is None


def test_a_mac_is_asked_by_pmset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a stand-in of that name answers, on the PATH."""
    (tmp_path / "batt").write_text(pmset.DISCHARGING)
    (tmp_path / "therm").write_text(pmset.SLOWED_INTEL)
    program = tmp_path / "pmset"
    program.write_text(f'#!/bin/sh\n[ "$1" = -g ] && cat "{tmp_path}/$2"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    slowed = "macOS holds the processor to 35 % of its speed"
    assert read_power("darwin") == Power(88, on_mains=False, thermal=slowed)
    program.write_text("#!/bin/sh\nexit 64\n")
    assert read_power("darwin") == Power()
    program.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_power("darwin") == Power()


def test_the_machine_is_not_asked_again_too_soon() -> None:
    times, found = iter([0.0, 4.0, 5.0, 5.0]), iter([Power(50), Power(49)])
    watch = PowerWatch(lambda: next(found), lambda: next(times))
    assert [watch.look(5.0).percent for _ in range(3)] == [50, 50, 49]
