"""The same seed gives the same bits, whatever the state of the prefix cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.events import Event, TrainMetrics, Validation
from jobs.paths import Workspace
from jobs.training import session
from jobs.training.engine import Engine
from tests.helpers.attempts import attempt, computed, evict, result, warnings
from tests.helpers.runs import make_run

JOB = "20261122-21000{}-tiny-bits"
FILES = {"11.jsonl": 11, "5.jsonl": 5}


def stop_after(asked: int) -> Callable[[], str | None]:
    """Return a reason to stop once it was asked for so often."""
    answers = iter([None] * asked)
    return lambda: next(answers, "the test says so")


def test_cold_warm_evicted_and_off_end_the_same(alone: Workspace, tiny_model: Path) -> None:
    cold, warm, evicted, off = (
        make_run(alone, tiny_model, JOB.format(n), prefix_cache_gb=0.0 if n == 3 else None)
        for n in range(4)
    )
    assert computed(attempt(alone, cold)) == FILES
    assert computed(attempt(alone, warm)) == {}

    def evict_at_first_validation(event: Event) -> None:
        if isinstance(event, Validation) and event.step == 0:
            evict(alone)

    assert computed(attempt(alone, evicted, on_event=evict_at_first_validation)) == {}
    assert not alone.prefix_cache.exists()
    assert "prefix_cache_gb is 0" in warnings(attempt(alone, off))
    assert not alone.prefix_cache.exists()
    assert result(warm) == result(evicted) == result(off) == result(cold)


@pytest.mark.parametrize("steps", [3, 7])  # inside an update and after one
def test_stopped_evicted_and_resumed_it_ends_the_same(
    alone: Workspace, tiny_model: Path, steps: int
) -> None:
    whole, broken = (make_run(alone, tiny_model, JOB.format(n)) for n in range(2))
    attempt(alone, whole)
    attempt(alone, broken, stop=stop_after(steps))
    evict(alone)
    assert computed(attempt(alone, broken)) == FILES
    assert result(broken) == result(whole)


def test_stopped_while_filling_it_goes_on_there(alone: Workspace, tiny_model: Path) -> None:
    run = make_run(alone, tiny_model, train=40)
    said = attempt(alone, run, stop=stop_after(1))  # the second of three chunks
    assert computed(said) == {"40.jsonl": 0}
    assert not list(run.path.glob("checkpoint_*"))
    (folder,) = filter(Path.is_dir, alone.prefix_cache.iterdir())
    before = (folder / "states.bin").read_bytes()
    attempt(alone, run)
    assert len(before) > 0
    assert (folder / "states.bin").read_bytes().startswith(before)

    other = make_run(alone, tiny_model, JOB.format(1), train=40, prefix_cache_gb=0.0)
    attempt(alone, other)
    assert result(run) == result(other)


@pytest.mark.parametrize(("batch_size", "accumulation"), [(1, 1), (2, 4), (3, 3)])
def test_nothing_is_traced_in_the_second_epoch(
    alone: Workspace,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch_size: int,
    accumulation: int,
) -> None:
    engines: list[Engine] = []

    class Watched(Engine):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            engines.append(self)

    monkeypatch.setattr(session, "Engine", Watched)
    traces: list[int] = []

    def note(event: Event) -> None:
        if isinstance(event, TrainMetrics):
            traces.append(engines[0].traces)

    steps = -(-40 // batch_size)
    settings: dict[str, Any] = {"batch_size": batch_size, "gradient_accumulation": accumulation}
    settings |= {"num_epochs": 3, "log_steps": steps, "eval_steps": steps}
    attempt(alone, make_run(alone, tiny_model, train=40, **settings), on_event=note)
    before, first, second, third = traces
    assert before < first == second == third
