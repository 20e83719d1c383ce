"""A trial that is asked to end: it keeps what it has reached, and says at whose wish it ended."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import ExitCode
from jobs.events import Event, Finished, Validation
from jobs.paths import RunDirectory, Workspace
from jobs.spec import SweepTrial, read_spec
from jobs.state import State
from jobs.stopping import StopRequest, end_early
from jobs.storage.files import read_json
from jobs.training.session import train
from tests.helpers.runs import events, make_run
from tests.helpers.specs import write_spec
from tests.helpers.waiting import wait_until
from tests.jobs.test_child import child


def ended_at(
    workspace: Workspace, run: RunDirectory, looks: int, stop_at: int | None = None
) -> tuple[Finished | None, list[Event]]:
    """Run one attempt, asked to end once it has looked so often, and to stop likewise."""
    said: list[Event] = []
    asked = {"end": 0, "stop": 0}

    def look(what: str, limit: int | None, answer: str) -> str | None:
        asked[what] += 1
        return answer if limit is not None and asked[what] > limit else None

    outcome = train(
        workspace,
        read_spec(run),
        said.append,
        lambda: look("stop", stop_at, "the daemon stops"),
        0,
        lambda: look("end", looks, "median"),
    )
    return outcome, said


def validations(said: list[Event]) -> list[int]:
    return [event.step for event in said if isinstance(event, Validation) and event.step]


def test_it_keeps_the_best_so_far_and_says_who_ended_it(alone: Workspace, tiny_model: Path) -> None:
    run = make_run(alone, tiny_model, eval_steps=2, num_epochs=50, prefix_cache_gb=0)
    outcome, said = ended_at(alone, run, looks=5)
    assert outcome is not None
    assert (outcome.state, outcome.pruned_by) == ("early_stopped", "median")
    assert outcome.step < 20
    assert outcome.best_step in validations(said)
    summary = read_json(run.summary)
    assert (summary["state"], summary["pruned_by"]) == ("early_stopped", "median")
    assert run.adapter_weights.exists()


def test_before_its_first_validation_it_is_measured_once(
    alone: Workspace, tiny_model: Path
) -> None:
    run = make_run(alone, tiny_model, eval_steps=1000, num_epochs=500, prefix_cache_gb=0)
    outcome, said = ended_at(alone, run, looks=3)
    assert outcome is not None
    assert validations(said) == [outcome.step]
    assert outcome.best_val_loss is not None
    assert run.adapter_weights.exists()


def test_before_its_first_step_it_has_no_adapter_and_fails_not(
    alone: Workspace, tiny_model: Path
) -> None:
    run = make_run(alone, tiny_model)
    outcome, said = ended_at(alone, run, looks=0)
    assert outcome is not None
    assert (outcome.state, outcome.step, outcome.best_val_loss) == ("early_stopped", 0, None)
    assert validations(said) == []
    assert not run.adapter_weights.exists()


def test_a_run_at_its_own_end_was_not_pruned(alone: Workspace, tiny_model: Path) -> None:
    run = make_run(alone, tiny_model, prefix_cache_gb=0)
    total = read_spec(run).total_steps
    outcome, _ = ended_at(alone, run, looks=total)
    assert outcome is not None
    assert (outcome.state, outcome.step, outcome.pruned_by) == ("completed", total, None)


def test_one_that_was_stopped_before_it_could_ends_in_its_next_attempt(
    alone: Workspace, tiny_model: Path
) -> None:
    run = make_run(alone, tiny_model, eval_steps=2, prefix_cache_gb=0)
    stopped, _ = ended_at(alone, run, looks=1000, stop_at=4)
    assert stopped is None
    outcome, said = ended_at(alone, run, looks=0)
    assert outcome is not None
    assert (outcome.step, outcome.pruned_by) == (4, "median")
    assert validations(said) == []
    assert run.adapter_weights.exists()


@pytest.mark.parametrize("before", [b"", b"." * 5000], ids=["alone", "after many beats"])
def test_the_word_comes_down_the_pipe_whatever_is_around_it(before: bytes) -> None:
    theirs, ours = os.pipe()
    stop = StopRequest()
    os.write(ours, before + end_early("hyperband") + b".")
    stop.listen_to_pipe(theirs)
    assert wait_until(stop.ending, "the word") == "hyperband"
    os.write(ours, end_early("time"))
    assert stop.ending() == "hyperband"
    assert stop.reason() is None
    os.close(ours)
    wait_until(stop.reason, "the end of the pipe")
    os.close(theirs)


def test_a_word_that_comes_in_pieces_is_one() -> None:
    theirs, ours = os.pipe()
    stop = StopRequest()
    stop.listen_to_pipe(theirs)
    for piece in (b"..end ea", b"rly: ti", b".me\n"):
        os.write(ours, piece)
    assert wait_until(stop.ending, "the word") == "time"
    os.close(ours)
    wait_until(stop.reason, "the end of the pipe")
    os.close(theirs)


def test_a_child_that_is_told_ends_well(alone: Workspace, tiny_model: Path) -> None:
    long: dict[str, Any] = {"num_epochs": 2000, "save_steps": 1_000_000, "eval_steps": 100}
    run = make_run(alone, tiny_model, **long)
    trial = SweepTrial("20260101-000000-night-aaaa", 3, 0, {"lora.rank": 4})
    write_spec(run, replace(read_spec(run), sweep=trial))
    theirs, ours = os.pipe()
    # Even before it listens: the word waits in the pipe.
    os.write(ours, b"." + end_early("median"))
    with child(run, "--attempt", "1", "--pipe", str(theirs), fds=(theirs,)) as process:
        assert process.wait(60) == ExitCode.OK
    os.close(ours)
    os.close(theirs)
    assert events(alone, run)[-1]["pruned_by"] == "median"
    assert read_json(run.summary)["state"] == State.EARLY_STOPPED
    assert read_spec(run).sweep == trial
