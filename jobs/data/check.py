"""What a person should know about their data before a night of training: a report, no printing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from jobs.config.share import Share
from jobs.data.examples import Document, Example, Problem, scan_examples
from jobs.data.foreign_form import other_form
from jobs.data.language import language_warning
from jobs.data.lengths import Length, Lengths, measure, summarize
from jobs.data.messages import ProblemKind
from jobs.data.prompt_check import prompt_warnings
from jobs.data.prompts import PromptFormat
from jobs.data.same_text import normalized, question_of, said
from jobs.data.text_remarks import Remark, remarks_on
from jobs.data.tokenizer import Tokenizer
from jobs.data.valid_split import valid_rows_of
from jobs.errors import DataError

Lines = tuple[int, ...]


@dataclass(frozen=True)
class FileReport:
    """What one file holds.

    Attributes:
        examples: number of lines that can be used.
        problems: every line that cannot, in order.
        duplicates: groups of lines with the same text.
        near_duplicates: groups of lines that differ in case, spacing or punctuation only.
        conflicts: groups of lines that ask the same question and do not all answer the same.
        lengths: None where there is no example to measure.
        remarks: what the model's tokenizer makes of texts, where that may surprise.
        part: how much of the file this is about, where it is split.
    """

    path: Path
    examples: int
    problems: tuple[Problem, ...]
    duplicates: tuple[Lines, ...]
    near_duplicates: tuple[Lines, ...]
    conflicts: tuple[Lines, ...]
    lengths: Lengths | None
    remarks: tuple[Remark, ...] = ()
    part: str | None = None

    @property
    def empty_fields(self) -> Lines:
        """The lines refused because a field is empty."""
        return tuple(p.line for p in self.problems if p.kind is ProblemKind.EMPTY)

    @property
    def usable(self) -> bool:
        """Whether a job could take the file: no bad line, and examples that fit."""
        left_out = (self.lengths.left_out or 0) if self.lengths else 0
        return not self.problems and self.examples > left_out

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain data, for JSON."""
        derived = {"usable": self.usable, "empty_fields": self.empty_fields}
        return asdict(self) | {"path": str(self.path)} | derived


@dataclass(frozen=True)
class Leak:
    """A validation line that training sees too."""

    valid_line: int
    train_lines: Lines


@dataclass(frozen=True)
class DataReport:
    """What a training file holds, by itself and beside its validation file.

    Attributes:
        leaked_examples: validation lines whose question and answer stand in the training file.
        leaked_questions: validation lines whose question stands there, but with other answers.
        prompt_warnings: what the prompt format or the chat template makes of any row.
    """

    train: FileReport
    valid: FileReport | None
    leaked_examples: tuple[Leak, ...]
    leaked_questions: tuple[Leak, ...]
    prompt_format: PromptFormat
    max_seq_length: int
    prompt_warnings: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether a job could take every file."""
        return self.train.usable and (self.valid is None or self.valid.usable)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain data, for JSON."""
        return {
            "usable": self.usable,
            "prompt_format": self.prompt_format,
            "max_seq_length": self.max_seq_length,
            "train": self.train.as_dict(),
            "valid": self.valid.as_dict() if self.valid else None,
            "leaked_examples": [asdict(leak) for leak in self.leaked_examples],
            "leaked_questions": [asdict(leak) for leak in self.leaked_questions],
            "prompt_warnings": list(self.prompt_warnings),
        }


@dataclass(frozen=True)
class _Row:
    """A usable line: its example, normalized whole and as a question (None for a plain text)."""

    line: int
    example: Example
    length: Length
    whole: Hashable
    question: Hashable | None


def check(
    train_path: Path,
    valid_path: Path | None,
    tokenizer: Tokenizer | None,
    *,
    prompt_format: PromptFormat = "farense",
    max_seq_length: int = 512,
    share: Share | None = None,
    seed: int = 42,
) -> DataReport:
    """Read the files and return what there is to say about them.

    Args:
        share: of the training file is for validation, in place of a file.
        seed: of that choice.
        tokenizer: measures lengths; without one they are counted in characters.

    Raises:
        DataError: a file is missing, unreadable, or of another form altogether. Bad lines do not
            raise: they are reported.
        ModelError: the tokenizer cannot be used with ``prompt_format``.
    """
    summed = partial(_report, tokenizer=tokenizer, max_seq_length=max_seq_length)
    train_rows, problems = _read(train_path, tokenizer, prompt_format)
    valid, valid_rows = None, list[_Row]()
    if share is not None and train_rows:
        chosen = valid_rows_of([row.example for row in train_rows], share, seed, train_path)
        valid_rows = [row for row, it in zip(train_rows, chosen, strict=True) if it]
        train_rows = [row for row, it in zip(train_rows, chosen, strict=True) if not it]
        valid = summed(train_path, valid_rows, [], part=share.text)
    elif valid_path:
        valid_rows, found = _read(valid_path, tokenizer, prompt_format)
        valid = summed(valid_path, valid_rows, found)
    train = summed(train_path, train_rows, problems, part=share.rest if share else None)
    whole = _leaks(
        ((row.whole, row.line) for row in train_rows), ((row.whole, row.line) for row in valid_rows)
    )
    reported = {leak.valid_line for leak in whole}
    questions = _leaks(
        _questions(train_rows), (row for row in _questions(valid_rows) if row[1] not in reported)
    )
    language = language_warning((row.example for row in train_rows), prompt_format)
    said = prompt_warnings(tokenizer, prompt_format) if tokenizer else ()
    said += (language,) if language else ()
    return DataReport(train, valid, whole, questions, prompt_format, max_seq_length, said)


def _read(
    path: Path, tokenizer: Tokenizer | None, prompt_format: PromptFormat
) -> tuple[list[_Row], list[Problem]]:
    problems: list[Problem] = []
    rows: list[_Row] = []
    for number, found in scan_examples(path):
        if isinstance(found, Problem):
            problems.append(found)
            continue
        try:
            # Without its origin: the report gives the line by itself.
            length = measure(replace(found, origin=None), tokenizer, prompt_format)
        except DataError as error:
            problems.append(Problem(number, error.message))
            continue
        rows.append(_row(number, found, length))
    if problems and not rows and (other := other_form(path)):
        raise other
    return rows, problems


def _report(
    path: Path,
    rows: list[_Row],
    problems: list[Problem],
    *,
    tokenizer: Tokenizer | None,
    max_seq_length: int,
    part: str | None = None,
) -> FileReport:
    unit = "tokens" if tokenizer else "characters"
    exact = _groups((row.example, row.line) for row in rows)
    lengths = [row.length for row in rows]
    return FileReport(
        path=path,
        examples=len(rows),
        problems=tuple(problems),
        duplicates=exact,
        near_duplicates=_near_duplicates(rows, exact),
        conflicts=_conflicts(rows),
        lengths=summarize(lengths, unit, max_seq_length) if lengths else None,
        remarks=remarks_on(((row.line, row.example) for row in rows), tokenizer),
        part=part,
    )


def _row(line: int, example: Example, length: Length) -> _Row:
    if isinstance(example, Document):
        return _Row(line, example, length, normalized(example.text), None)
    question = question_of(example)
    return _Row(line, example, length, (question, said(example.answer)), question)


def _groups(keyed: Iterable[tuple[Hashable, int]]) -> tuple[Lines, ...]:
    """Return the line numbers that share a key, for every key that more than one line has."""
    lines: defaultdict[Hashable, list[int]] = defaultdict(list)
    for key, line in keyed:
        lines[key].append(line)
    return tuple(tuple(group) for group in lines.values() if len(group) > 1)


def _questions(rows: Iterable[_Row]) -> Iterable[tuple[Hashable, int]]:
    return ((row.question, row.line) for row in rows if row.question is not None)


def _near_duplicates(rows: list[_Row], exact: tuple[Lines, ...]) -> tuple[Lines, ...]:
    known = set(exact)
    groups = _groups((row.whole, row.line) for row in rows)
    return tuple(group for group in groups if group not in known)


def _conflicts(rows: list[_Row]) -> tuple[Lines, ...]:
    whole = {row.line: row.whole for row in rows}
    groups = _groups(_questions(rows))
    return tuple(group for group in groups if len({whole[line] for line in group}) > 1)


def _leaks(
    train: Iterable[tuple[Hashable, int]], valid: Iterable[tuple[Hashable, int]]
) -> tuple[Leak, ...]:
    """Return the validation lines whose key training lines have too."""
    seen: defaultdict[Hashable, list[int]] = defaultdict(list)
    for key, line in train:
        seen[key].append(line)
    return tuple(Leak(line, tuple(seen[key])) for key, line in valid if key in seen)
