"""The rows of a metrics file, asked for piece by piece while it grows and is cut back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from daemon.page import metrics
from daemon.page.metrics import rows_after
from jobs.paths import RunDirectory


def line(step: int, loss: float = 1.5) -> bytes:
    return orjson.dumps({"step": step, "loss": loss, "grad_norm": 1.0}) + b"\n"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def steps(found: dict[str, Any]) -> list[int]:
    return [row[0] for row in found["rows"]]


def test_what_is_new_comes_after_what_is_known(run: RunDirectory) -> None:
    run.metrics.write_bytes(line(1) + line(2))
    first = rows_after(run, "")
    assert (first["anew"], steps(first)) == (True, [1, 2])
    assert dict(zip(first["columns"], first["rows"][0], strict=True))["loss"] == 1.5
    with run.metrics.open("ab") as file:
        file.write(line(3) + b'{"step": 4, "lo')
    second = rows_after(run, first["mark"])
    assert (second["anew"], steps(second)) == (False, [3])
    third = rows_after(run, second["mark"])
    assert (third["anew"], steps(third), third["mark"]) == (False, [], second["mark"])


def test_rows_that_were_cut_back_are_sent_anew(run: RunDirectory) -> None:
    run.metrics.write_bytes(line(1) + line(2) + line(3))
    known = rows_after(run, "")["mark"]
    run.metrics.write_bytes(line(1) + line(2))  # an attempt resumes at a checkpoint
    assert steps(rows_after(run, known)) == [1, 2]
    # It has come as far again, by other figures: the place alone would not tell.
    run.metrics.write_bytes(line(1) + line(2) + line(3, 2.5) + line(4))
    found = rows_after(run, known)
    assert (found["anew"], steps(found)) == (True, [1, 2, 3, 4])


@pytest.mark.parametrize("mark", ["", "x", "-1-2-3", "99999-10-0", "5-9-0", "9" * 15 + "-1-1"])
def test_a_mark_that_means_nothing_is_the_beginning(run: RunDirectory, mark: str) -> None:
    run.metrics.write_bytes(line(1))
    found = rows_after(run, mark)
    assert (found["anew"], steps(found)) == (True, [1])


def test_without_a_file_there_are_no_rows(run: RunDirectory) -> None:
    assert steps(rows_after(run, "")) == steps(rows_after(run, "50-10-1")) == []


def test_a_long_file_comes_in_pieces(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "CHUNK", 200)
    run.metrics.write_bytes(b"".join(line(step) for step in range(50)))
    found, mark, more = [], "", True
    while more:
        piece = rows_after(run, mark)
        found += steps(piece)
        mark, more = piece["mark"], piece["more"]
    assert found == list(range(50))


def test_a_damaged_row_is_left_out(run: RunDirectory) -> None:
    run.metrics.write_bytes(line(1) + b"\xff\n[1]\n" + line(2))
    assert steps(rows_after(run, "")) == [1, 2]
