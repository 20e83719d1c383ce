"""A GPU's way, taken on a CPU: weights as stored, one stream, MLX's own kernels, noise of MLX's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.backend.backend import CpuBackend, backend
from jobs.backend.choice import AS_ACCELERATOR, CPU, CUDA, METAL, VARIABLE
from jobs.backend.device import ask_device
from jobs.backend.environment import environment
from jobs.errors import ConfigError
from jobs.events import PrefixCached, Started
from jobs.model.lora import CpuLoRALinear
from jobs.paths import Workspace
from tests.helpers.attempts import attempt, computed, evict, only, result
from tests.helpers.runs import make_run, metrics

JOB = "20261122-21000{}-tiny-gpus"
# MLX computes in 16 bits on a CPU twenty times more slowly than in 32.
SMALL: dict[str, Any] = {
    "train": 4,
    "valid": 2,
    "gap_examples": 2,
    "save_steps": 2,
    "eval_steps": 3,
}
FILES = {"4.jsonl": 4, "2.jsonl": 2}
LOSSES = ("loss", "val_loss", "train_eval_loss")


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(VARIABLE, AS_ACCELERATOR)
    backend.cache_clear()
    yield
    backend.cache_clear()


@pytest.mark.usefixtures("accelerator")
def test_it_is_told_and_nothing_of_the_cpus_way_is_used(
    alone: Workspace, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[object] = []
    monkeypatch.setattr(CpuLoRALinear, "of", lambda *given: used.append(given))
    monkeypatch.setattr(CpuBackend, "hold", lambda *given: used.append(given))
    said = attempt(alone, make_run(alone, tiny_model, **SMALL))
    (started,) = only(Started, said)
    assert "as an accelerator" in started.device
    assert "weights as stored" in started.device
    assert "as an accelerator" in environment()["device"]
    assert used == []
    # Half the bytes of a float32 state.
    states = {event.data: event.megabytes for event in only(PrefixCached, said)}
    backend.cache_clear()
    monkeypatch.undo()
    evict(alone)
    wide = only(PrefixCached, attempt(alone, make_run(alone, tiny_model, JOB.format(1), **SMALL)))
    assert sum(states.values()) < 0.6 * sum({e.data: e.megabytes for e in wide}.values())


@pytest.mark.usefixtures("accelerator")
def test_cold_warm_off_and_stopped_end_the_same(alone: Workspace, tiny_model: Path) -> None:
    cold, warm, off, broken = (
        make_run(alone, tiny_model, JOB.format(n), **SMALL, prefix_cache_gb=0.0 if n == 2 else None)
        for n in range(4)
    )
    assert computed(attempt(alone, cold)) == FILES
    assert computed(attempt(alone, warm)) == {}
    attempt(alone, off)
    answers = iter([None] * 3)
    attempt(alone, broken, stop=lambda: next(answers, "the test says so"))
    attempt(alone, broken)
    assert result(warm) == result(cold) == result(off) == result(broken)


def test_the_losses_are_those_of_the_cpu(
    alone: Workspace, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without dropout: NumPy and MLX draw other numbers."""
    lora = {"rank": 4, "scale": 16.0, "dropout": 0.0, "num_layers": 2, "keys": ["q_proj"]}
    runs = [make_run(alone, tiny_model, JOB.format(n), **SMALL, lora=lora) for n in range(2)]
    for run, name in zip(runs, (CPU, AS_ACCELERATOR), strict=True):
        monkeypatch.setenv(VARIABLE, name)
        backend.cache_clear()
        attempt(alone, run)
    backend.cache_clear()
    rows = [metrics(run) for run in runs]
    assert len(rows[0]) == len(rows[1]) > 2
    for one, other in zip(*rows, strict=True):
        for key in LOSSES:
            if one.get(key) is not None:
                assert other[key] == pytest.approx(one[key], abs=1e-2)


@pytest.mark.parametrize(
    ("name", "words"), [("gpu", "expected one of cpu"), (CUDA, "finds none"), (METAL, "finds none")]
)
@pytest.mark.skipif(sys.platform == "darwin", reason="there is a GPU")
def test_what_is_not_there_is_refused(
    name: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, name)
    backend.cache_clear()
    with pytest.raises(ConfigError, match=words):
        backend()
    with pytest.raises(ConfigError, match=words) as caught:
        ask_device(1)
    assert "jobs.errors" not in caught.value.message
    backend.cache_clear()
