"""Asking another process of ours: what takes MLX and seconds, for a command that has neither.

The process reads the question from its standard input and prints the answer, both as JSON. Where it
meets an error of ours it prints that instead, and exits with the error's code.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import orjson

from jobs.errors import ConfigError, DataError, FarenseError, JobFailed, ModelError

KINDS: dict[str, type[FarenseError]] = {
    kind.__name__: kind for kind in (ConfigError, DataError, ModelError)
}


class UnansweredError(Exception):
    """The process could not be started, did not end, or ended without an answer; says which."""


def ask_apart(module: str, question: Any, seconds: float) -> Any:
    """Return the answer of ``python -P -m module``.

    Args:
        question: anything that JSON can hold.
        seconds: how long it may take.

    Raises:
        UnansweredError: there is none.
        FarenseError: the error that the process met.
    """
    command = [sys.executable, "-P", "-m", module]
    asked = orjson.dumps(question)
    try:
        done = subprocess.run(
            command, input=asked, capture_output=True, check=False, timeout=seconds
        )
    except OSError as error:
        raise UnansweredError(f"it could not be started: {error.strerror or error}") from error
    except subprocess.TimeoutExpired as error:
        raise UnansweredError(f"it had not ended after {seconds:.0f} s") from error
    try:
        answer = orjson.loads(done.stdout)
    except ValueError as error:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        why = f"it ended with code {done.returncode}" + "".join(f": {line}" for line in last)
        raise UnansweredError(why) from error
    if done.returncode:
        kind = KINDS.get(answer["kind"], JobFailed)
        raise kind(answer["message"], answer["hint"])
    return answer


def tell(work: Callable[[Any], Any]) -> int:
    """Do the work of such a process and print its answer; return the exit code.

    Args:
        work: makes the answer of the question.
    """
    question = orjson.loads(sys.stdin.buffer.read())
    try:
        # Libraries print warnings where they like.
        with contextlib.redirect_stdout(sys.stderr):
            answer, code = work(question), 0
    except FarenseError as error:
        kind = type(error).__name__
        answer = {"kind": kind, "message": error.message, "hint": error.hint}
        code = int(error.exit_code)
    sys.stdout.buffer.write(orjson.dumps(answer))
    return code
