"""Telling one start of the machine from another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from daemon import boot


def test_every_process_finds_the_same_id() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from daemon.boot import boot_id; print(boot_id())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == boot.boot_id()
    assert boot.boot_id()


def test_a_machine_without_one_has_none(tmp_path: Path) -> None:
    assert boot._from_file(tmp_path / "boot_id") is None
    (tmp_path / "boot_id").write_text("\n")
    assert boot._from_file(tmp_path / "boot_id") is None
