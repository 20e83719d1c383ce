"""What a child takes for a request to stop."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from jobs.errors import ExitCode
from jobs.paths import REPOSITORY
from jobs.stopping import StopRequest
from tests.helpers.waiting import wait_until


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    theirs, ours = os.pipe()
    yield theirs, ours
    os.close(theirs)


def test_the_end_of_the_pipe_is_a_request(pipe: tuple[int, int]) -> None:
    theirs, ours = pipe
    stop = StopRequest()
    stop.listen_to_pipe(theirs)
    os.write(ours, b".")
    assert stop.reason() is None
    os.close(ours)
    assert wait_until(stop.reason, "the end of the pipe") == "the worker is gone"


def test_silence_is_a_request_where_it_has_a_limit(pipe: tuple[int, int]) -> None:
    theirs, ours = pipe
    patient, impatient = StopRequest(), StopRequest()
    other_end = os.dup(theirs)
    ended: list[str] = []
    patient.listen_to_pipe(other_end, 3600, lambda: ended.append("patient"))
    impatient.listen_to_pipe(theirs, 0.1, lambda: ended.append("impatient"))
    assert "no lease was renewed" in wait_until(impatient.reason, "silence")
    assert patient.reason() is None
    wait_until(lambda: ended, "the end of the lease")
    assert ended == ["impatient"]
    os.close(ours)
    wait_until(patient.reason, "the end of the pipe")
    os.close(other_end)


def test_words_in_time_are_none(pipe: tuple[int, int]) -> None:
    theirs, ours = pipe
    stop, words = StopRequest(), 0
    stop.listen_to_pipe(theirs, 2.0, lambda: None)

    def said() -> bool:
        nonlocal words
        os.write(ours, b".")
        words += 1
        return words > 150  # more than two seconds of them, at the pace of wait_until

    wait_until(said, "many words")
    assert stop.reason() is None
    os.close(ours)
    wait_until(stop.reason, "the end of the pipe")


BUSY = """
import sys, time
from jobs.errors import ExitCode
from jobs.paths import REPOSITORY
from jobs.stopping import StopRequest
StopRequest().listen_to_pipe(int(sys.argv[1]), 0.3)
print("listens", flush=True)
time.sleep(3600)
"""


@pytest.mark.parametrize("daemon", ["killed", "silent"])
def test_a_process_that_does_not_stop_ends_before_its_lease_is_over(
    pipe: tuple[int, int], daemon: str
) -> None:
    """Another machine takes the job then, and two must never run it."""
    theirs, ours = pipe
    with subprocess.Popen(
        [sys.executable, "-P", "-c", BUSY, str(theirs)],
        pass_fds=(theirs,),
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"listens\n"
        if daemon == "killed":
            os.close(ours)
        assert process.wait(60) == ExitCode.STOPPED
    if daemon == "silent":
        os.close(ours)
