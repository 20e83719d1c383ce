"""Trying many mutations of one thing: which were accepted, and what went wrong with which."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO

from cli.main import report
from jobs.errors import FarenseError
from tests.helpers.mutations import Mutator

TOTAL = int(os.environ.get("FARENSE_MUTATIONS", "500"))
ALONE = os.environ.get("FARENSE_MUTATION")
SEED = 1910
EACH = TOTAL // 5
# Of processor time: a mutation takes some milliseconds.
SECONDS = 5.0

Try = Callable[[Mutator], bool]


class Hangs(BaseException):
    """Not an Exception: nothing may catch it."""


def tried(family: str, attempt: Try, each: int = EACH) -> None:
    """Try ``each`` mutations of a family; ``attempt`` tells whether the thing was accepted."""
    found: Counter[str] = Counter()
    for number in range(each) if ALONE is None else [int(ALONE)]:
        with judged(family, number):
            try:
                accepted = attempt(Mutator(f"{SEED} {family} {number}"))
                found["accepted" if accepted else "set aside"] += 1
            except FarenseError as error:
                said = StringIO()
                with redirect_stderr(said):
                    report(error)
                assert harmless(said.getvalue())
                found["refused"] += 1
    print(f"{family}: {dict(found)}")  # which -rP shows
    if ALONE is None:
        # Else the damage would be too small, or too great, to say anything.
        assert found["accepted"] > each // 50
        assert found["refused"] + found["set aside"] > each // 50


@contextmanager
def judged(family: str, number: int) -> Iterator[None]:
    """Fail, saying how to repeat it, where a mutation raises or takes long."""

    def hangs(*_: object) -> None:
        raise Hangs(f"more than {SECONDS:.0f} s")

    before = signal.signal(signal.SIGVTALRM, hangs)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    except (Exception, Hangs) as error:
        raise AssertionError(
            f"{family} {number}: {error!r:.500}; repeat it alone: "
            f"FARENSE_MUTATION={number} pytest tests/faults -k test_{family}"
        ) from error
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def harmless(text: str) -> bool:
    """Tell whether a terminal shows ``text`` and obeys nothing in it."""
    return all(c in "\n\xa0\u3000" or c.isprintable() for c in text)
