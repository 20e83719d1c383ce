"""A file is read a row at a time: one that is larger takes hardly more memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.paths import REPOSITORY

ROWS = 60_000
PROGRAM = """
import sys
from pathlib import Path
from jobs.importing.importing import import_files
import_files([Path(sys.argv[1])], Path(sys.argv[2]))
"""


def write(path: Path, rows: int) -> Path:
    """Write rows of 1,300 bytes that cannot be packed, all in one row group."""
    answers = [os.urandom(600).hex() for _ in range(rows)]
    asked = [f"Pergunta {number}, com algumas palavras?" for number in range(rows)]
    if path.suffix == ".parquet":
        table = pa.table({"question": asked, "answer": answers})
        pq.write_table(table, path, row_group_size=rows, use_dictionary=False)
        assert pq.ParquetFile(path).metadata.num_row_groups == 1
    else:
        ends = ("[", ",\n", "]") if path.suffix == ".json" else ("", "\n", "")
        lines = (
            f'{{"question": "{q}", "answer": "{a}"}}' for q, a in zip(asked, answers, strict=True)
        )
        path.write_text(ends[0] + ends[1].join(lines) + ends[2])
    return path


def written(path: Path, rows: int) -> Path:
    """Write rows in another process: a child's peak is at least its parent's memory."""
    program = f"from {__name__} import write; write(Path({str(path)!r}), {rows})"
    command = [sys.executable, "-c", f"from pathlib import Path; {program}"]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    return path


def peak(source: Path, folder: Path) -> int:
    """Return the most memory that a process had which imports a file, in bytes."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(source), str(folder)])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "json"])
def test_a_larger_file_takes_hardly_more_memory(tmp_path: Path, ending: str) -> None:
    small = peak(written(tmp_path / f"small.{ending}", ROWS // 30), tmp_path / "small")
    large = written(tmp_path / f"large.{ending}", ROWS)
    more = peak(large, tmp_path / "large") - small
    assert large.stat().st_size > 70e6
    assert more < 40e6, f"{more / 1e6:.0f} MB more"
