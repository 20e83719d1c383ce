"""`farense ask`: one question, a line each, or a conversation on a terminal."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from cli.reader_gone import READER_GONE
from jobs.paths import Workspace
from jobs.state import State, read_state, write_state
from jobs.storage.files import whole_lines
from jobs.storage.locks import hold
from tests.cli.conftest import FARENSE, Run, environment
from tests.helpers.past_runs import FIRST
from tests.helpers.processes import without_reader
from tests.helpers.waiting import wait_until

QUICK = {"MLX_DISABLE_COMPILE": "1"}
FEW = ("--max-new-tokens", "6")


def beginnings(workspace: Workspace) -> list[tuple[str, str]]:
    """Return the questions of the evaluation with what the answers begin with."""
    rows = map(json.loads, whole_lines(workspace.run(FIRST).evaluation / "answers.jsonl"))
    return [(row["question"], row["answer"][: len("O Farense")]) for row in rows]


def test_it_answers_each_line_of_its_input_and_starts_no_server(past: Workspace) -> None:
    (first, one), (second, two), *_ = beginnings(past)
    done = subprocess.run(
        [FARENSE, "ask", FIRST, *FEW],
        input=f"{first}\n\n  \n{second}",
        env=environment(past.root, **QUICK),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = done.stdout.splitlines()
    assert [answer[: len(one)] for answer in answers] == [one, two]
    assert "(cut after 6 tokens: --max-new-tokens)" in done.stderr
    assert not (past.private / "server").exists()


def test_a_reader_that_has_seen_enough_ends_it_quietly(past: Workspace) -> None:
    done = without_reader([FARENSE, "ask", FIRST, "Quem?", *FEW], environment(past.root, **QUICK))
    assert done.returncode == READER_GONE
    assert all(line.startswith("Warning: ") for line in done.stderr.splitlines())


def test_what_is_not_utf_8_is_refused_by_its_line(past: Workspace) -> None:
    (first, one), *_ = beginnings(past)

    def asked(text: bytes, *arguments: str | bytes) -> tuple[int, str, str]:
        done = subprocess.run(
            [FARENSE, "ask", FIRST, *FEW, *arguments],
            input=text,
            env=environment(past.root, **QUICK),
            capture_output=True,
            check=False,
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    code, out, err = asked(f"{first}\n".encode() + b"\xff\xfe bad\n")
    assert code == 2
    assert out.startswith(one)
    assert "line 2 is not UTF-8" in err
    code, out, err = asked(b"", b"\xff\xfe bad")
    assert (code, out) == (2, "")
    assert "The question is not UTF-8" in err


def test_one_answer_as_json_and_another_job_is_mentioned(farense: Run, past: Workspace) -> None:
    running = past.run("20261123-210000-second-bbbb")
    write_state(running, type(read_state(running))(State.RUNNING, attempt=2))
    with hold(running.lock):
        done = farense("ask", FIRST, "Quem?", "--base", "--json", *FEW, **QUICK)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found.pop("answer")
    about = {"job": FIRST, "by": "base", "question": "Quem?", "reasoning": None}
    assert found == {**about, "tokens": 6, "cut": True}
    assert f"{running.job_id} is running: it shares memory" in done.err


class Terminal:
    """A person at a terminal who talks to a command."""

    def __init__(self, workspace: Workspace, *arguments: str) -> None:
        self.screen = b""
        self._own, theirs = pty.openpty()
        os.set_blocking(self._own, False)
        self.process = subprocess.Popen(
            [FARENSE, *arguments],
            env=environment(workspace.root, TERM="dumb", **QUICK),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def type(self, text: str) -> None:
        os.write(self._own, text.encode())

    def shows(self, text: str, after: int = 0) -> int:
        """Wait until a text is on the screen behind a place; return where it ends."""

        def seen() -> int | None:
            with suppress(OSError):  # nothing new, or nobody there any more
                self.screen += os.read(self._own, 65536)
            place = self.screen.find(text.encode(), after)
            return None if place < 0 else place + len(text.encode())

        return wait_until(seen, f"{text!r} on the screen")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._own)


@pytest.fixture
def terminal(past: Workspace) -> Iterator[Callable[..., Terminal]]:
    started: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        started.append(Terminal(past, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.mark.parametrize("end", ["\x04", "interrupt"])
def test_on_a_terminal_it_asks_until_the_person_has_enough(
    terminal: Callable[..., Terminal], past: Workspace, end: str
) -> None:
    (first, one), *_ = beginnings(past)
    person = terminal("ask", FIRST, *FEW)
    place = person.shows("> ")
    person.type("\n")  # passed over
    place = person.shows("> ", place)
    for question, answer in ((first, one), (first, one)):
        person.type(f"{question}\n")
        place = person.shows(answer, place)
        place = person.shows("> ", place)
    if end == "interrupt":
        person.process.send_signal(signal.SIGINT)
    else:
        person.type(end)
    assert person.process.wait(timeout=30) == 0
    assert b"Traceback" not in person.screen
