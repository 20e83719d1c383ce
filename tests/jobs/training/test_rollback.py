"""A step that is not finite, and ``on_divergence: rollback``: back, with half the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from jobs.backend.mlx import mx, tree_map
from jobs.errors import Diverged
from jobs.events import CheckpointSaved, Event, Finished, PhaseBegan, Warned
from jobs.paths import RunDirectory, Workspace
from jobs.spec import read_spec
from jobs.storage.files import read_json
from jobs.training.checkpoint_files import checkpoint_folders, step_of
from jobs.training.engine import Engine
from jobs.training.session import train
from tests.helpers.runs import SETTINGS, make_run, metrics, numbers

RATE = 5e-3  # of the tests' settings
# Without the cache: filling it asks too whether to stop.
ROLLBACK: dict[str, Any] = {"on_divergence": "rollback", "save_steps": 3, "prefix_cache_gb": 0.0}
JOB = "20261122-21000{}-tiny-abcd"


@pytest.fixture(autouse=True)
def uncompiled() -> Iterator[None]:
    """Compiling kernels takes longer than these trainings."""
    mx.disable_compile()
    yield
    mx.enable_compile()


class Killed(BaseException):
    """What a test throws where a process would have been killed."""


@pytest.fixture
def explode(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, float], None]:
    """Makes the gradient at a step NaN while the learning rate is above a bound."""
    update = Engine.update

    def exploding(at_step: int, above: float) -> None:
        def poisoned(self: Engine, target_count: int, learning_rate: float, number: int) -> None:
            if number == at_step and learning_rate > above:
                self.accumulated = tree_map(lambda array: array * math.nan, self.accumulated)
            update(self, target_count, learning_rate, number)

        monkeypatch.setattr(Engine, "update", poisoned)

    return exploding


def attempt(
    workspace: Workspace, run: RunDirectory, *, stop_at: int = 10**9, kill_at: int = 10**9
) -> tuple[Finished | None, list[Event]]:
    """Run one attempt; stop it before a step, or kill it after so many events."""
    said: list[Event] = []
    asked = count()

    def emit(event: Event) -> None:
        if not isinstance(event, PhaseBegan):  # of which there may be any number
            said.append(event)
        if len(said) >= kill_at:
            raise Killed

    def stop_reason() -> str | None:
        return "the test says so" if next(asked) >= stop_at else None

    return train(workspace, read_spec(run), emit, stop_reason), said


def until_finished(workspace: Workspace, run: RunDirectory, kill_at: int) -> int:
    """Run a job whose every attempt is killed after ``kill_at`` events; return the attempts."""
    for attempts in range(1, 40):
        try:
            attempt(workspace, run, kill_at=kill_at)
        except Killed:
            continue
        return attempts
    raise AssertionError("the run gets nowhere")


def end(run: RunDirectory) -> tuple[bytes, list[dict[str, Any]]]:
    """Return what must not depend on interruptions."""
    return (run.adapters / "adapters.safetensors").read_bytes(), numbers(run)


def test_it_goes_back_and_says_so_everywhere(
    alone: Workspace, tiny_model: Any, explode: Callable[[int, float], None]
) -> None:
    explode(8, 0.6 * RATE)
    run = make_run(alone, tiny_model, **ROLLBACK)
    outcome, said = attempt(alone, run)
    assert outcome is not None
    assert (outcome.state, outcome.rollbacks) == ("completed", 1)
    assert [event.message for event in said if isinstance(event, Warned)][-1] == (
        "The loss or an update became NaN or infinite at step 8. "
        "Going back to step 6 with learning_rate 0.0025 (rollback 1 of 2)."
    )
    rows = [(row["step"], row["learning_rate"], row["rollbacks"]) for row in metrics(run)]
    assert rows == [
        (0, None, 0),
        (3, RATE, 0),
        (6, RATE, 0),
        (9, RATE / 2, 1),
        (12, RATE / 2, 1),
    ]
    assert read_json(run.summary)["rollbacks"] == 1
    assert read_json(run.training_state)["rollbacks"] == 1


def test_it_goes_back_to_the_beginning_where_there_is_nothing_else(
    alone: Workspace, tiny_model: Any, explode: Callable[[int, float], None]
) -> None:
    """Training from the beginning at half the rate is what it then comes to."""
    explode(2, 0.6 * RATE)
    run = make_run(alone, tiny_model, **ROLLBACK)
    attempt(alone, run)
    half = make_run(alone, tiny_model, JOB.format(1), learning_rate=RATE / 2, save_steps=3)
    attempt(alone, half)
    adapter, rows = end(run)
    assert {row.pop("rollbacks") for row in rows[1:]} == {1}
    expected_adapter, expected_rows = end(half)
    assert {row.pop("rollbacks") for row in expected_rows[1:]} == {0}
    assert (adapter, rows) == (expected_adapter, expected_rows)


@pytest.mark.parametrize(("step", "bound", "kill_at"), [(8, 0.6, 10), (8, 0.3, 7), (2, 0.3, 8)])
def test_killed_around_a_rollback_it_ends_with_the_same_bits(
    alone: Workspace,
    tiny_model: Any,
    explode: Callable[[int, float], None],
    step: int,
    bound: float,
    kill_at: int,
) -> None:
    explode(step, bound * RATE)
    whole = make_run(alone, tiny_model, **ROLLBACK)
    attempt(alone, whole)
    broken = make_run(alone, tiny_model, JOB.format(1), **ROLLBACK)
    assert until_finished(alone, broken, kill_at) > 2
    assert end(broken) == end(whole)
    assert metrics(whole)[-1]["rollbacks"] == (1 if bound > 0.5 else 2)


@pytest.mark.parametrize("stops", [[7], [4, 1, 1, 1]])
def test_a_stop_does_not_change_where_it_goes_back_to(
    alone: Workspace, tiny_model: Any, explode: Callable[[int, float], None], stops: list[int]
) -> None:
    explode(8, 0.6 * RATE)
    settings = {**ROLLBACK, "keep_checkpoints": 1}
    whole = make_run(alone, tiny_model, **settings)
    attempt(alone, whole)
    broken = make_run(alone, tiny_model, JOB.format(1), **settings)
    for stop_at in stops:
        assert attempt(alone, broken, stop_at=stop_at)[0] is None
    attempt(alone, broken)
    assert end(broken) == end(whole)


def test_a_rollback_is_on_disk_before_the_next_step(
    alone: Workspace, tiny_model: Any, explode: Callable[[int, float], None]
) -> None:
    explode(8, 0.6 * RATE)
    run = make_run(alone, tiny_model, **ROLLBACK)
    attempt(alone, run, stop_at=7)
    _, said = attempt(alone, run, stop_at=1)  # trains step 8, which is bad, and goes back
    saved = [event.step for event in said if isinstance(event, CheckpointSaved)]
    assert saved == [6, 6]  # once for the rollback, once for the stop
    assert [step_of(path) for path in checkpoint_folders(run) if step_of(path) > 6] == []
    counters = read_json(run.path / "checkpoint_epoch0_step6" / "checkpoint.json")["counters"]
    assert (counters["step"], counters["rollbacks"]) == (6, 1)


def test_after_two_rollbacks_it_fails(alone: Workspace, tiny_model: Any) -> None:
    # After the first update the adapter's output, scaled so, is beyond float32 at any rate.
    lora = {**SETTINGS["lora"], "scale": 3e38}
    run = make_run(alone, tiny_model, lora=lora, learning_rate=1.0, **ROLLBACK)
    said: list[Event] = []
    with pytest.raises(Diverged, match="had been halved 2 times"):
        train(alone, read_spec(run), said.append, lambda: None)
    back = [event for event in said if isinstance(event, Warned) and "rollback" in event.message]
    assert len(back) == 2
    assert [row["loss"] for row in metrics(run)] == [None]


def test_by_default_it_stops(
    alone: Workspace, tiny_model: Any, explode: Callable[[int, float], None]
) -> None:
    explode(8, 0.6 * RATE)
    run = make_run(alone, tiny_model)
    with pytest.raises(Diverged, match="at step 8"):
        attempt(alone, run)
    assert not (run.path / "checkpoint_epoch0_step0").exists()
