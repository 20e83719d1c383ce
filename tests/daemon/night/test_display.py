"""Putting a Mac's display to sleep, by a stand-in for ``pmset``."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from daemon.night import display
from daemon.night.display import put_to_sleep


def pmset(folder: Path, line: str) -> Path:
    program = folder / "pmset"
    program.write_text(f"#!/bin/sh\n{line}\n")
    program.chmod(0o755)
    return program


def test_a_mac_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pmset(tmp_path, f'echo "$@" >> "{tmp_path}/asked"')
    monkeypatch.setenv("PATH", str(tmp_path))
    assert put_to_sleep("darwin")
    assert not put_to_sleep("linux")
    assert (tmp_path / "asked").read_text() == "displaysleepnow\n"


def test_what_does_not_work_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    display._warn.cache_clear()
    pmset(tmp_path, "echo no display >&2; exit 3")
    monkeypatch.setenv("PATH", str(tmp_path))
    with capture_logs() as said:
        assert not put_to_sleep("darwin")
        assert not put_to_sleep("darwin")
    assert [entry["reason"] for entry in said] == ["no display"]
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with capture_logs() as said:
        assert not put_to_sleep("darwin")
    assert "pmset" in said[0]["reason"]
