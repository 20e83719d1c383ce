"""Telling one start of the machine from another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from daemon import host


def test_every_process_finds_the_same_id() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from daemon.host import boot_id; print(boot_id())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == host.boot_id()
    assert host.boot_id()


def test_a_machine_without_one_has_none(tmp_path: Path) -> None:
    assert host._from_file(tmp_path / "boot_id") is None
    (tmp_path / "boot_id").write_text("\n")
    assert host._from_file(tmp_path / "boot_id") is None
