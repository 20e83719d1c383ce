"""What `farense watch` shows, and which job it means: no queue needed."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rich.console import Console as Terminal

from cli.commands.watch import INTERRUPTED, default_job, watch_job
from cli.show.live import LiveView
from daemon.store.records import JobRecord
from jobs.console import Console
from jobs.events import (
    Envelope,
    EvaluationStarted,
    Event,
    PhaseBegan,
    PrefixCached,
    Progress,
    StoodStill,
    Warned,
    parse_event,
)
from jobs.state import State
from tests.jobs.test_console import finished, measured, row, started

JOB = "20251122-220104-v2-kqzd"
CONSOLE = Console()
# Of 680 examples so many, and the seconds left.
FILLED = [(16, None), (120, 140.0), (144, 134.0), (680, 0.0)]


def record(state: State, job: str = JOB, **known: Any) -> JobRecord:
    return JobRecord(job, "v2", state, f"checkpoints_qlora/{job}", **known)


def envelopes(*events: Event) -> Iterator[Envelope]:
    return (Envelope(event, JOB, 1, "2025-11-22T22:01:04.000+00:00") for event in events)


class Recorded:
    """A reader over a job that has happened; the last event may be a Ctrl-C."""

    def __init__(self, state: State, *events: Event, interrupted: bool = False) -> None:
        self.state, self.events, self.interrupted = state, events, interrupted

    def job(self, argument: str) -> JobRecord:
        reason = "Out of memory." if self.state == "failed" else None
        return record(self.state, argument, reason=reason)

    def follow(
        self, job_id: str, *, follow: bool = True, idle: Callable[[], object] = lambda: None
    ) -> Iterator[Envelope]:
        yield from envelopes(*self.events)
        idle()
        if self.interrupted:
            raise KeyboardInterrupt

    def why_nothing_starts(self, queue: str) -> list[str]:
        return [f"Nothing starts on {queue}."]

    def without_daemon(self, queue: str) -> list[str]:
        return [f"No daemon works on {queue}."]


@pytest.mark.parametrize(
    ("states", "chosen"),
    [
        (["completed", "running", "queued"], 1),
        (["completed", "queued", "scheduled", "failed"], 1),
        (["waiting", "queued", "completed"], 1),
        (["failed", "completed"], 0),
        (["interrupted", "running", "queued"], 1),
        (["interrupted", "paused", "queued", "completed"], 2),
        (["waiting", "completed", "interrupted"], 2),
        (["scheduled", "interrupted"], 0),
    ],
)
def test_without_a_name_the_job_that_matters_now_is_meant(states: list[str], chosen: int) -> None:
    records = [
        record(State.RUNNING, f"job-{i}", interrupted=True)
        if state == "interrupted"
        else record(State(state), f"job-{i}")
        for i, state in enumerate(states)
    ]
    assert default_job(records) is records[chosen]


def test_without_any_job_none_is_meant() -> None:
    assert default_job([]) is None


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (State.COMPLETED, 0),
        (State.EARLY_STOPPED, 0),
        (State.FAILED, 1),
        (State.CANCELLED, 1),
    ],
)
def test_the_exit_code_tells_how_the_job_ended(
    state: State, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert watch_job(Recorded(state, started(), row(10, 5.0)), JOB) == code
    shown = capsys.readouterr()
    assert "Loss: 5.0000" in shown.out
    assert (f"{JOB} {state.verb}" in shown.err) is (code == 1)
    assert ("Out of memory." in shown.err) is (state is State.FAILED)


def test_ctrl_c_leaves_the_job_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert watch_job(Recorded(State.RUNNING, started(), interrupted=True), JOB) == INTERRUPTED
    assert f"{JOB} goes on. Watch again: farense watch {JOB}" in capsys.readouterr().err


def test_json_lines_are_the_events_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    watch_job(Recorded(State.COMPLETED, started(), row(10, 5.0)), JOB, as_json=True)
    lines = capsys.readouterr().out.splitlines()
    assert [parse_event(line.encode()) for line in lines] == [*envelopes(started(), row(10, 5.0))]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (State.QUEUED, "Nothing starts on default."),
        (State.SCHEDULED, "No daemon works on default."),
        (State.PAUSED, f"{JOB} is paused at step 0: `farense resume {JOB}` goes on from there."),
    ],
)
def test_why_a_job_does_not_move_is_an_event_of_the_json_lines(
    state: State, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    watch_job(Recorded(state, started(), interrupted=True), JOB, as_json=True)
    shown = capsys.readouterr()
    last = parse_event(shown.out.splitlines()[-1].encode())
    assert last is not None
    assert last.event == StoodStill(0, state, interrupted=False, message=message)
    assert message not in shown.err


def test_in_plain_lines_it_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    watch_job(Recorded(State.QUEUED, started(), interrupted=True), JOB)
    shown = capsys.readouterr()
    assert "Nothing starts on default." in shown.err
    assert "Nothing starts" not in shown.out


def test_the_live_view_of_a_job_that_stands_still_promises_nothing() -> None:
    stopped = StoodStill(210, "running", True, "interrupted at step 210")
    shown = live(started(), row(10, 5.0), Progress(210, 1272, 1, 2.05, 518.0), stopped)
    end = shown.rpartition("interrupted at step 210")[2]
    assert "step 210/1272" in end
    assert "loss 5.0000 · interrupted" in end
    assert "left" not in end
    assert "steps/s" not in end


def test_the_live_view_of_a_queued_job_says_that_it_waits() -> None:
    shown = live(StoodStill(0, "queued", False, "No daemon works on this queue."))
    end = shown.rpartition("No daemon works on this queue.")[2]
    assert "waiting" in end
    assert "queued" in end
    assert "step 0" not in end


def live(*events: Event) -> str:
    screen = io.StringIO()
    terminal = Terminal(file=screen, force_terminal=True, width=110, highlight=False)
    with LiveView(terminal) as view:
        for envelope in envelopes(*events):
            view.add(envelope)
    return screen.getvalue()


def test_the_live_view_keeps_losses_speed_and_time_left_below() -> None:
    shown = live(
        started(), row(10, 5.0), measured(200, 1.8, 0.1), Progress(210, 1272, 1, 2.05, 518.0)
    )
    assert "step 210/1272" in shown
    assert "loss 5.0000 · val 1.8000 · 2.05 steps/s · 8m 38s left" in shown
    assert "📚 Epoch 1/3" in shown


def test_the_live_view_moves_while_the_prefix_cache_fills() -> None:
    filling = [PrefixCached("t", done, 680, 90.0, done / 4, left) for done, left in FILLED]
    shown = live(started(), *filling[:2])
    assert "computing prefix states 120/680" in shown
    assert "2m 20s left" in shown
    assert "compiling kernels" in live(started(), PhaseBegan("compiling kernels"))


def test_plain_lines_tell_now_and_then_how_far_a_long_filling_is() -> None:
    filling = [PrefixCached("t", done, 680, 90.0, done / 4, left) for done, left in FILLED]
    lines = [line for e in envelopes(*filling) for line in CONSOLE.lines(e)]
    assert lines == [
        "  Prefix cache: computing the frozen blocks of 680 examples, once ...",
        "  Prefix cache: 144/680, 2m 14s left",
        "  Prefix cache: 680 examples of t computed, 90 MB, 170 s",
    ]


def test_the_live_view_of_an_evaluation_counts_answers() -> None:
    begun = EvaluationStarted(1, "v2", JOB, "tiny", "CPU", 80, 160, 0, 64, 16)
    shown = live(begun, Progress(32, 160, 0, 2.5, 51.2))
    assert "answer 32/160" in shown
    assert "2.5 answers/s · 51s left" in shown


def test_the_live_view_shows_brackets_and_colons_as_they_are() -> None:
    assert "[red]:smile: [/]" in live(started(), Warned("[red]:smile: [/]"))


def test_the_live_view_ends_at_the_end() -> None:
    shown = live(started(), Progress(1272, 1272, 3, 2.0, 0.0), finished())
    assert "ANÁLISE FINAL" in shown
