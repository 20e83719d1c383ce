"""The answers of an evaluation on their way: each is on disk as soon as it is given.

The first line of the file says what the answers depend on. Under other circumstances (another
adapter, another version of MLX) they are given anew, all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from jobs.storage.files import append, end_torn_line, whole_lines, write_atomic
from jobs.storage.values import well_typed

ADAPTER, BASE = "adapter", "base"
ANSWERERS = (ADAPTER, BASE)


@dataclass(frozen=True)
class Answer:
    """What was answered to one question.

    Attributes:
        by: ``adapter`` or ``base``.
        question: its place in the validation set, from 0.
        text: without the white space around it.
        cut: it came to the limit before its end.
        elapsed_time_sec: that the evaluation had taken by then, over all attempts.
        reasoning: what a thinking model wrote before it; None where it wrote no such block.
    """

    by: str
    question: int
    text: str
    cut: bool
    elapsed_time_sec: float = 0.0
    reasoning: str | None = None


class Answers:
    """The answers so far; those of an attempt that was killed are kept.

    Args:
        path: where they stand.
        circumstances: all that an answer depends on, as plain data.
    """

    def __init__(self, path: Path, circumstances: dict[str, Any]) -> None:
        self._path = path
        self._given: dict[tuple[str, int], Answer] = {}
        if self._were_given_under(circumstances):
            end_torn_line(path)
            self._given = {(a.by, a.question): a for a in _answers(path)}
        else:
            write_atomic(path, orjson.dumps(circumstances) + b"\n")

    def __len__(self) -> int:
        return len(self._given)

    def add(self, answer: Answer) -> None:
        """Keep an answer, unless that question was answered already.

        Raises:
            WorkspaceError: the file cannot be written.
        """
        if not self.has(answer.by, answer.question):
            append(self._path, orjson.dumps(asdict(answer)))
            self._given[answer.by, answer.question] = answer

    def has(self, by: str, question: int) -> bool:
        """Tell whether a question was answered."""
        return (by, question) in self._given

    @property
    def elapsed_time_sec(self) -> float:
        """What the evaluation had taken when the last of them was given, over all attempts."""
        return max((answer.elapsed_time_sec for answer in self._given.values()), default=0.0)

    def of(self, by: str, question: int) -> Answer:
        """Return an answer that was given."""
        return self._given[by, question]

    def _were_given_under(self, circumstances: dict[str, Any]) -> bool:
        try:
            first = next(whole_lines(self._path), b"")
            return bool(orjson.loads(first) == orjson.loads(orjson.dumps(circumstances)))
        except (OSError, ValueError):
            return False


def _answers(path: Path) -> Iterator[Answer]:
    """Yield the answers in a file; what is no answer is passed over."""
    for line in whole_lines(path):
        try:
            answer = Answer(**orjson.loads(line))
        except (ValueError, TypeError):
            continue
        if well_typed(answer):
            yield answer
