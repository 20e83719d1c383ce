"""What is said of a run of either program, be it one that was stopped."""

from __future__ import annotations

import argparse
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks import beside_shape
from benchmarks.beside_shape import (
    COLD,
    PEER,
    ShapeComparison,
    Timed,
    report,
    time_farense,
    time_mlx_lm,
    timed_steps,
)
from benchmarks.rows import long_rows
from benchmarks.runs import SETTINGS, Watched, make_run, watch
from benchmarks.shapes import Shape, write_model
from jobs.model_store.tiny import VOCABULARY
from jobs.paths import Workspace

OURS = Timed(
    setting=COLD,
    empty_kernels=True,
    steps=8,
    step_seconds=(0.5,),
    start_seconds=3.0,
    compile_seconds=2.0,
    graphs=2,
    whole_seconds=20.0,
    fill_seconds=1.0,
    states=16,
    mlx_peak_mb=600.0,
    resident_mb=800.0,
    trainable=1000,
)
FIRST = {"at": 104.0, "trainable": 1000, "tokens": 64, "answer_tokens": 21.0}


def stopped(failure: str | None = None) -> Watched:
    return Watched(datetime.fromtimestamp(100, UTC), 80.0, 900.0, failure, failure is not None)


def step(seconds: float, graphs: int = 0) -> dict[str, float]:
    return {"at": 0.0, "seconds": seconds, "graphs": graphs, "mlx_peak_mb": 700 + seconds}


def comparison(tmp_path: Path, *runs: Timed) -> ShapeComparison:
    settings = {"lora": {**SETTINGS["lora"], "num_layers": 8}}
    result = ShapeComparison(Shape.read("llama"), tmp_path / "shape.json", settings, 64, 21.0)
    for run in runs:
        result.add(run)
    return result


def test_steps_that_trace_are_compiling_and_the_others_are_the_pace() -> None:
    timed = timed_steps(stopped(), FIRST, [step(30, 1), step(5, 1), step(2), step(4)], empty=True)
    assert list(timed.step_seconds) == [2, 4]
    assert (timed.pace, timed.compile_seconds, timed.graphs) == (3, 29, 2)
    assert (timed.start_seconds, timed.mlx_peak_mb, timed.resident_mb) == (4, 730, 900)


def test_pairs_are_divided_one_by_one(tmp_path: Path) -> None:
    peers = [replace(OURS, setting=PEER, step_seconds=(pace,), states=0) for pace in (1.0, 2.0)]
    text = report(comparison(tmp_path, OURS, peers[0], OURS, peers[1]))
    assert "farense, cold: 3.00 (2.00 to 4.00) times mlx-lm's speed" in text
    assert "8 of 30 blocks adapted, 64 tokens, 21 of them the answer" in text


def test_one_that_was_stopped_while_it_compiled_gives_a_bound(tmp_path: Path) -> None:
    peer = timed_steps(stopped("not finished in 80 s"), FIRST, [step(30, 1)], empty=True)
    assert peer.pace == 0
    text = report(comparison(tmp_path, OURS, peer))
    # 3 s of start, 2 of compiling, 1 of filling, and two steps.
    assert "not finished in 80 s; steps it finished: 1; farense, cold, takes 7 s for 2" in text
    assert "more than 11.4 times its speed" in text
    assert "times mlx-lm's speed" not in text


def test_one_that_was_stopped_before_it_told_anything_gives_a_bound(tmp_path: Path) -> None:
    peer = timed_steps(stopped("not finished in 80 s"), {}, [], empty=True)
    assert "more than 12.3 times its speed" in report(comparison(tmp_path, OURS, peer))


def test_one_that_failed_gives_none(tmp_path: Path) -> None:
    died = replace(stopped("killed by the system, as where memory ends"), stopped=False)
    text = report(comparison(tmp_path, OURS, timed_steps(died, FIRST, [step(30, 1)], empty=True)))
    assert (
        "mlx-lm: killed by the system, as where memory ends; steps it finished: 1\n" in text + "\n"
    )
    assert "more than" not in text


def test_sides_that_adapt_other_layers_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        comparison(tmp_path, OURS, replace(OURS, setting=PEER, trainable=999))


def test_a_process_past_its_limit_is_killed_and_one_that_fails_says_why(
    workspace: Workspace,
) -> None:
    sleep, fail = "import time; time.sleep(60)", "raise SystemExit('no room')"
    killed = watch(workspace, "timeit", "-n", "1", sleep, limit=0.5)
    assert killed.failure == "not finished in 0 s"
    assert killed.seconds < 30
    failed = watch(workspace, "timeit", "-n", "1", fail, limit=60)
    assert failed.failure == "ended with 1: SystemExit: no room"
    with pytest.raises(SystemExit, match="timeit ended with 1"):
        watch(workspace, "timeit", "-n", "1", fail)


def test_both_programs_tell_what_they_did(
    workspace: Workspace, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")  # every step is traced then
    model = workspace.models / "llama"
    write_model(Shape.read("llama").small(VOCABULARY), model, tiny_model)
    settings: dict[str, Any] = {
        "model": "models/llama",
        "lora": {**SETTINGS["lora"], "num_layers": 2},
        "max_seq_length": 48,
        "max_steps": 8,
        "log_steps": 4,
    }
    run = make_run(workspace, long_rows(model, 48, 16, 16), **settings)
    ours = time_farense(run, COLD, workspace.root)
    assert (ours.steps, len(ours.step_seconds), ours.states) == (8, 1, 16)
    assert ours.graphs >= 8
    options = argparse.Namespace(
        peer_steps=3, peer_seconds=100.0, peer_cache=0, peer_uncompiled=False
    )
    run = make_run(workspace, long_rows(model, 48, 16, 16), **settings)
    theirs, told = time_mlx_lm(run, workspace.root, options, empty=True)
    assert theirs.failure is None
    assert (theirs.steps, theirs.graphs, theirs.trainable) == (3, 3, ours.trainable)
    assert abs(told["answer_tokens"] - 16) <= 1
    assert theirs.mlx_peak_mb > 0
    options.peer_seconds = 0.2
    run = make_run(workspace, long_rows(model, 48, 16, 16), **settings)
    theirs, told = time_mlx_lm(run, workspace.root, options, empty=True)
    assert (theirs.failure, theirs.steps, told) == ("not finished in 0 s", 0, {})


def test_options_that_make_no_comparison_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    beside_shape.add_options(parser)
    for given in (["--steps", "6"], ["--steps", "4"], ["--peer-steps", "2"]):
        with pytest.raises(SystemExit):
            beside_shape.check_options(parser, parser.parse_args(given))
    assert "its first two steps compile" in capsys.readouterr().err
