"""What does not fit into memory is computed otherwise, and to the end of the run in one way."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.backend.backend import backend
from jobs.backend.mlx import mx
from jobs.errors import ExitCode, OutOfMemory
from jobs.paths import RunDirectory, Workspace
from jobs.resources.ways import Peak
from jobs.storage.files import read_json, write_json
from jobs.training.engine import Engine
from tests.helpers.attempts import attempt, evict, result, warnings
from tests.helpers.runs import SETTINGS, make_run, metrics, questions, run_child

JOB = "20261122-21000{}-tiny-ways"
# Texts so long that a step takes many times what is held beside it.
ROWS = [{**row, "completion": row["completion"] * 20} for row in questions(10)]
LONG: dict[str, Any] = {
    "train_rows": ROWS,
    "valid_rows": ROWS[:2],
    "max_seq_length": 448,
    "batch_size": 4,
    "num_epochs": 2,
    "save_steps": 2,
    "eval_steps": 3,
    "log_steps": 1,
    "gap_examples": 2,
    # Small, so that an update does not turn a difference by rounding into one that shows.
    "learning_rate": 2e-4,
    "lora": {**SETTINGS["lora"], "num_layers": 4},
}
# With frozen blocks below the adapted ones, and so with prefix states.
CUT: dict[str, Any] = {**LONG, "lora": SETTINGS["lora"], "grad_checkpoint": False}
AGAIN, ONE = "blocks are computed again in the backward pass", "computing on one stream"


@pytest.fixture(autouse=True)
def two_streams(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two streams, whatever the machine has."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    yield
    backend().lanes(1)


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[Peak]:
    """What each trial took, in their order."""
    seen: list[Peak] = []
    peak_memory = Engine.peak_memory

    def listening(engine: Engine, *arguments: Any) -> Peak:
        gc.collect()
        seen.append(peak_memory(engine, *arguments))
        return seen[-1]

    monkeypatch.setattr(Engine, "peak_memory", listening)
    return seen


@pytest.fixture
def peaks(alone: Workspace, tiny_model: Path, trials: list[Peak]) -> tuple[Peak, Peak]:
    """What steps take in the plain way, and where blocks are computed again."""
    with pytest.raises(OutOfMemory, match="Also tried: blocks are computed again") as caught:
        attempt(alone, make_run(alone, tiny_model, JOB.format(9), **LONG, memory="0.1MB"))
    assert ONE in caught.value.message
    plain, again = trials
    trials.clear()
    assert again.each < 0.9 * plain.each
    return plain, again


def between(less: int, more: int) -> str:
    """Return a cap that lets the first fit and the second not, with room for what else is held."""
    assert less < 0.95 * more
    return f"{(less + more) / 2e6:.6f}MB"


def versions(run: RunDirectory) -> list[dict[str, str]]:
    """Return the versions in each checkpoint."""
    return [read_json(path)["versions"] for path in run.path.glob("checkpoint_*/checkpoint.json")]


def stop_after(steps: int) -> Any:
    answers = iter([None] * steps)
    return lambda: next(answers, "the test says so")


def allow_all(run: RunDirectory) -> None:
    """Let a job have all memory, as another machine might."""
    spec = read_json(run.job)
    run.job.chmod(0o600)
    write_json(run.job, {**spec, "config": {**spec["config"], "memory": "auto"}})


def losses(run: RunDirectory, name: str = "loss") -> list[float]:
    return [row[name] for row in metrics(run) if row[name] is not None]


def test_the_next_way_is_taken_said_and_trains_as_the_plain_one(
    alone: Workspace, tiny_model: Path, peaks: tuple[Peak, Peak], trials: list[Peak]
) -> None:
    plain, again = peaks
    caps = {
        AGAIN: between(again.on(2), plain.on(2)),
        f"{ONE}, {AGAIN}": between(again.on(1), min(again.on(2), plain.on(1))),
    }
    free = make_run(alone, tiny_model, JOB.format(0), **LONG)
    said = attempt(alone, free)
    assert "Memory:" not in warnings(said)
    assert len(trials) == 1
    assert not any({"streams", "grad_checkpoint"} & found.keys() for found in versions(free))
    assert losses(free)[-1] < losses(free)[0]
    for number, (way, cap) in enumerate(caps.items(), 1):
        run = make_run(alone, tiny_model, JOB.format(number), **LONG, memory=cap)
        mx.reset_peak_memory()
        (line,) = (text for text in warnings(attempt(alone, run)).splitlines() if "Memory:" in text)
        assert f"that the setting memory allows; {way}: about" in line
        assert losses(run) == pytest.approx(losses(free), rel=1e-3)
        assert losses(run, "val_loss") == pytest.approx(losses(free, "val_loss"), rel=1e-3)
        assert metrics(run)[-1]["memory_mb"] < 1.05 * float(cap.removesuffix("MB"))


def test_an_explicit_setting_leaves_the_streams_to_choose(
    alone: Workspace, tiny_model: Path, peaks: tuple[Peak, Peak], trials: list[Peak]
) -> None:
    plain, again = peaks
    cap = between(plain.on(1), plain.on(2))
    kept = make_run(alone, tiny_model, JOB.format(0), **LONG, memory=cap, grad_checkpoint=False)
    said = warnings(attempt(alone, kept))
    assert f"{ONE}: about" in said
    assert AGAIN not in said
    assert versions(kept)[0]["grad_checkpoint"] == "false"

    trials.clear()
    wanted = make_run(alone, tiny_model, JOB.format(1), **LONG, grad_checkpoint=True, memory="9GB")
    assert "Memory:" not in warnings(attempt(alone, wanted))
    (only,) = trials
    assert only.each == pytest.approx(again.each, rel=0.2)


def test_a_resumed_run_keeps_its_way(
    alone: Workspace, tiny_model: Path, peaks: tuple[Peak, Peak], trials: list[Peak]
) -> None:
    """Although the memory would allow the plain one by now."""
    plain, again = peaks
    cap = between(again.on(1), min(again.on(2), plain.on(1)))
    whole, broken = (
        make_run(alone, tiny_model, JOB.format(n), **LONG, memory=cap) for n in range(2)
    )
    attempt(alone, whole)
    attempt(alone, broken, stop=stop_after(3))
    allow_all(broken)
    trials.clear()
    said = warnings(attempt(alone, broken))
    assert len(trials) == 1
    assert "Resuming with another" not in said
    assert result(broken) == result(whole)
    assert {(found["streams"], found["grad_checkpoint"]) for found in versions(broken)} == {
        ("1", "true")
    }


def test_states_are_the_same_bits_whichever_way_steps_are_computed(
    alone: Workspace, tiny_model: Path, trials: list[Peak]
) -> None:
    """From the cache, computed at every step, and computed anew by a resumed run."""
    with pytest.raises(OutOfMemory):
        attempt(alone, make_run(alone, tiny_model, JOB.format(9), **CUT, memory="0.1MB"))
    capped = {**CUT, "memory": between(trials[0].on(1), trials[0].on(2))}
    kept, off, broken = (
        make_run(
            alone, tiny_model, JOB.format(n), **capped, prefix_cache_gb=0.0 if n == 1 else None
        )
        for n in range(3)
    )
    for run in (kept, off):
        assert ONE in warnings(attempt(alone, run))
    attempt(alone, broken, stop=stop_after(3))
    allow_all(broken)
    evict(alone)
    attempt(alone, broken)
    assert result(kept) == result(off) == result(broken)


def test_a_checkpoint_of_before_goes_on_in_the_plain_way(
    alone: Workspace, tiny_model: Path, trials: list[Peak]
) -> None:
    whole, broken = (make_run(alone, tiny_model, JOB.format(n), **LONG) for n in range(2))
    attempt(alone, whole)
    attempt(alone, broken, stop=stop_after(3))
    trials.clear()
    assert "Memory:" not in warnings(attempt(alone, broken))
    assert len(trials) == 1
    assert result(broken) == result(whole)


def test_a_validation_that_does_not_fit_is_computed_in_smaller_pieces(
    alone: Workspace, tiny_model: Path, trials: list[Peak], monkeypatch: pytest.MonkeyPatch
) -> None:
    measuring, validations = Engine.measuring_memory, list[Peak]()

    def listening(engine: Engine, *arguments: Any) -> Peak:
        validations.append(measuring(engine, *arguments))
        return validations[-1]

    monkeypatch.setattr(Engine, "measuring_memory", listening)
    short = [{"prompt": "Quem?", "completion": "O Farense."}] * 8
    settings: dict[str, Any] = {
        **LONG,
        "train_rows": short,
        "valid_rows": [{**ROWS[0]}] * 8,
        "batch_size": 1,
    }
    free = make_run(alone, tiny_model, JOB.format(0), **settings, memory="100MB")
    assert "Memory:" not in warnings(attempt(alone, free))
    (step,), (validation,) = trials, validations
    cap = between(step.on(2), validation.on(2))
    run = make_run(alone, tiny_model, JOB.format(1), **settings, memory=cap)
    mx.reset_peak_memory()
    said = warnings(attempt(alone, run))
    assert metrics(run)[-1]["memory_mb"] < 1.05 * float(cap.removesuffix("MB"))
    assert "Memory: a validation of the longest texts needs" in said
    assert "validations are computed in smaller pieces" in said
    assert all({"streams", "validation_halvings"} <= found.keys() for found in versions(run))
    assert losses(run, "val_loss") == pytest.approx(losses(free, "val_loss"), rel=1e-3)


def test_memory_that_ends_in_a_trial_leads_to_the_next_way(
    alone: Workspace, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a GPU's allocator says it."""
    peak_memory, asked = Engine.peak_memory, iter([True])

    def ends_once(engine: Engine, *arguments: Any) -> Peak:
        if next(asked, False):
            raise RuntimeError("cudaMallocAsync(...) failed: out of memory")
        return peak_memory(engine, *arguments)

    monkeypatch.setattr(Engine, "peak_memory", ends_once)
    run = make_run(alone, tiny_model, JOB.format(0), **LONG)
    said = warnings(attempt(alone, run))
    assert "a training step on the largest batch ran out of memory" in said
    assert f"{AGAIN}: about" in said
    assert losses(run)[-1] < losses(run)[0]


def test_a_cap_too_small_for_everything_ends_as_out_of_memory_does(
    alone: Workspace, tiny_model: Path
) -> None:
    run = make_run(alone, tiny_model, JOB.format(0), **LONG, memory="0.5MB")
    ended = run_child(run, OMP_NUM_THREADS="2")
    assert ended.returncode == ExitCode.OUT_OF_MEMORY
    assert "has to fit into the 0.5 MB that the setting memory allows" in ended.stdout
    assert "raise memory" in ended.stdout
    assert not list(run.path.glob("checkpoint_*"))
