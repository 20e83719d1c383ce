"""`make setup` in a clone that was moved: its .venv is made anew, once."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from jobs.paths import REPOSITORY

# Stands for Python: makes an environment as `python -m venv` does, with one installed script.
PYTHON = """\
#!/bin/sh
if [ "$2" = venv ]; then
    mkdir -p "$3/bin"
    printf '#!/bin/sh\\n' > "$3/bin/python"
    printf '#!%s/%s/bin/python\\n' "$PWD" "$3" > "$3/bin/farense"
    chmod +x "$3/bin/python"
fi
"""


@pytest.fixture
def python(tmp_path: Path) -> Path:
    path = tmp_path / "python"
    path.write_text(PYTHON)
    path.chmod(0o755)
    return path


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "farense"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "uv.lock"):
        shutil.copy2(REPOSITORY / name, folder)
    return folder


def setup(clone: Path, python: Path) -> str:
    command = ["make", "setup", f"PYTHON={python}", "SYNC=true"]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("move", [shutil.move, shutil.copytree])
def test_make_setup_mends_a_moved_or_copied_clone(clone: Path, python: Path, move: object) -> None:
    assert "made anew" not in setup(clone, python)
    script = (clone / ".venv" / "bin" / "farense").read_text()
    assert script == f"#!{clone}/.venv/bin/python\n"
    assert "Setting up" not in setup(clone, python)

    moved = clone.with_name("farense 2")
    assert callable(move)
    move(clone, moved)
    (moved / ".venv" / "left").touch()
    assert "made anew" in setup(moved, python)
    assert (moved / ".venv" / "bin" / "farense").read_text() == f"#!{moved}/.venv/bin/python\n"
    assert not (moved / ".venv" / "left").exists()
    assert "Setting up" not in setup(moved, python)


def test_an_environment_of_an_older_makefile_is_kept(clone: Path, python: Path) -> None:
    setup(clone, python)
    (clone / ".venv" / ".ready").write_text("")
    (clone / ".venv" / "kept").touch()
    assert "made anew" not in setup(clone, python)
    assert (clone / ".venv" / "kept").exists()
