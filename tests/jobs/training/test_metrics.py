from __future__ import annotations

import csv
from pathlib import Path

import orjson

from jobs.events import TrainMetrics
from jobs.paths import RunDirectory
from jobs.training.metrics import COLUMNS, MetricsFiles


def row(step: int, loss: float | None = 1.5, val_loss: float | None = None) -> TrainMetrics:
    return TrainMetrics(
        epoch=1, step=step, update=step, loss=loss, val_loss=val_loss, train_eval_loss=None,
        overfitting_gap=None, learning_rate=1e-4, grad_norm=None, tokens_per_second=10.0,
        memory_mb=1.0, elapsed_time_sec=0.1, timestamp="2026-11-22T21:00:00+00:00",
    )  # fmt: skip


def test_absent_values_are_null_in_json_and_empty_in_csv(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    files = MetricsFiles(run)
    files.add(row(1, loss=None))
    files.rewrite()
    assert orjson.loads(run.metrics_json.read_bytes())[0]["loss"] is None
    with run.metrics_csv.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == COLUMNS
    assert table[0]["loss"] == ""


def test_a_loss_that_is_not_finite_is_not_taken_for_a_missing_one(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    MetricsFiles(run).add(row(1, loss=float("nan")))
    assert orjson.loads(run.metrics.read_bytes())["loss"] == "NaN"


def test_the_views_follow_the_record_at_a_tenth_of_its_size(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    files = MetricsFiles(run)
    rewrites = 0
    before = None
    for step in range(1, 1001):
        files.add(row(step))
        seen = run.metrics_json.stat().st_ino
        rewrites += seen != before
        before = seen
        listed = len(orjson.loads(run.metrics_json.read_bytes())) if step % 97 == 0 else None
        assert listed is None or listed >= step / 1.1 - 1
    assert rewrites < 80  # log(1000) / log(1.1), with the first ten one by one


def test_a_validation_shows_at_once_in_a_record_that_is_not_long(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    files = MetricsFiles(run)
    for step in range(1, 50):
        files.add(row(step, val_loss=1.0 if step % 3 == 0 else None))
        if step % 3 == 0:
            assert orjson.loads(run.metrics_json.read_bytes())[-1]["step"] == step


def test_all_rewriting_together_stays_proportional_to_the_rows(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    files = MetricsFiles(run)
    rewritten = 0
    before = None
    for step in range(1, 2001):
        files.add(row(step, val_loss=1.0 if step % 5 == 0 else None))
        seen = run.metrics_json.stat()
        rewritten += seen.st_size if seen.st_ino != before else 0
        before = seen.st_ino
    # 1 / (1 - 1 / 1.02) = 51 times; a rewrite at every validation would be 200 times.
    assert rewritten < 55 * run.metrics_json.stat().st_size


def test_cutting_takes_record_and_views_back(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    files = MetricsFiles(run)
    files.add(row(1))
    length = files.length
    files.add(row(2))
    files.cut(length)
    assert [r["step"] for r in orjson.loads(run.metrics_json.read_bytes())] == [1]
    files.cut(0)
    assert orjson.loads(run.metrics_json.read_bytes()) == []


def test_a_torn_last_row_is_left_out(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    files = MetricsFiles(run)
    files.add(row(1))
    with run.metrics.open("ab") as file:
        file.write(b'{"epoch": 1, "st')
    files.rewrite()
    assert [r["step"] for r in orjson.loads(run.metrics_json.read_bytes())] == [1]
