"""The report of ``farense data check`` as lines of at most ``WIDTH`` columns. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from textwrap import wrap
from typing import TYPE_CHECKING

from jobs.storage.formatting import counted

if TYPE_CHECKING:
    from jobs.data.check import DataReport, FileReport, Leak, Lines
    from jobs.data.lengths import Lengths

WIDTH = 100
BAR_WIDTH = 50
SHOWN = 10
INDENT = "  "
NOTHING_FITS = "a file holds no example, or none that fits max_seq_length"


def report_lines(report: DataReport, measured_with: str) -> Iterator[str]:
    """Yield the report; ``measured_with`` says where the lengths come from."""
    for file in (report.train, report.valid):
        if file:
            yield from _file_lines(file, report.max_seq_length)
            yield ""
    if report.valid:
        yield from _leak_lines(report)
        yield ""
    for said in report.prompt_warnings:
        yield from wrap(said, WIDTH)
    yield from wrap(f"{measured_with} Prompt format: {report.prompt_format}.", WIDTH)
    yield _verdict(report)


def _file_lines(file: FileReport, max_seq_length: int) -> Iterator[str]:
    yield f"{file.path} ({file.part} of it)" if file.part else str(file.path)
    yield from _problem_lines(file)
    for groups, found in (
        (file.duplicates, "exact duplicates"),
        (file.near_duplicates, "duplicates but for case, spacing or punctuation"),
        (file.conflicts, "same question, different answers"),
    ):
        yield from _group_lines(groups, found)
    for remark in file.remarks:
        yield from wrap(
            f"{remark.text}: {counted(len(remark.lines), 'line')} ({_numbers(remark.lines)})",
            WIDTH,
            initial_indent=INDENT,
            subsequent_indent=INDENT * 2,
        )
    if file.lengths:
        yield from _length_lines(file.lengths, max_seq_length)


def _problem_lines(file: FileReport) -> Iterator[str]:
    examples = counted(file.examples, "example")
    if not file.problems:
        yield f"{INDENT}{examples}, no bad lines"
        return
    empty = f", {len(file.empty_fields)} of them for an empty field" if file.empty_fields else ""
    yield f"{INDENT}{examples}, {counted(len(file.problems), 'bad line')}{empty}:"
    for problem in file.problems[:SHOWN]:
        yield from wrap(
            f"line {problem.line}: {problem.reason}",
            WIDTH,
            initial_indent=INDENT * 2,
            subsequent_indent=INDENT * 4,
        )
    yield from _rest(len(file.problems))


def _group_lines(groups: Sequence[Lines], found: str) -> Iterator[str]:
    if not groups:
        yield f"{INDENT}{found}: none"
        return
    yield f"{INDENT}{found}: {counted(len(groups), 'group')} of lines"
    for group in groups[:SHOWN]:
        yield f"{INDENT * 2}lines {_numbers(group)}"
    yield from _rest(len(groups))


def _length_lines(lengths: Lengths, max_seq_length: int) -> Iterator[str]:
    yield (
        f"{INDENT}{lengths.unit}: {lengths.mean:.1f} on average, {lengths.mean_completion:.1f} of "
        f"them answer; longest {lengths.longest}"
    )
    widest = max(bin_.count for bin_ in lengths.histogram)
    labels = [f"{bin_.low}-{bin_.high}" for bin_ in lengths.histogram]
    label_width = max(map(len, labels))
    for label, bin_ in zip(labels, lengths.histogram, strict=True):
        bar = "█" * -(-bin_.count * BAR_WIDTH // widest)
        yield f"{INDENT * 2}{label:>{label_width}}  {bar:<{BAR_WIDTH}}  {bin_.count}"
    if lengths.truncated is None or lengths.left_out is None:
        yield f"{INDENT}max_seq_length counts tokens: what it cuts needs a model's tokenizer"
        return
    cut_short = counted(lengths.truncated, "example")
    yield (
        f"{INDENT}max_seq_length {max_seq_length} cuts {cut_short} short "
        f"and leaves out {lengths.left_out}"
    )


def _leak_lines(report: DataReport) -> Iterator[str]:
    for leaks, found in (
        (report.leaked_examples, "the same question and answer"),
        (report.leaked_questions, "the same question with another answer"),
    ):
        yield from _leaks(leaks, found)


def _leaks(leaks: Sequence[Leak], found: str) -> Iterator[str]:
    yield f"Leakage, {found} in both files: {counted(len(leaks), 'line') if leaks else 'none'}"
    for leak in leaks[:SHOWN]:
        noun = "line" if len(leak.train_lines) == 1 else "lines"
        yield f"{INDENT}line {leak.valid_line}: training {noun} {_numbers(leak.train_lines)}"
    yield from _rest(len(leaks), INDENT)


def _verdict(report: DataReport) -> str:
    if not report.usable:
        bad_lines = any(file.problems for file in _files(report))
        return f"Not usable: {'see the bad lines above' if bad_lines else NOTHING_FITS}."
    found = any(
        (
            report.leaked_examples,
            report.leaked_questions,
            report.prompt_warnings,
            *(file.duplicates or file.near_duplicates or file.conflicts for file in _files(report)),
        )
    )
    return "Usable, with the warnings above." if found else "Usable."


def _files(report: DataReport) -> list[FileReport]:
    return [file for file in (report.train, report.valid) if file]


def _numbers(lines: Lines) -> str:
    shown = ", ".join(str(line) for line in islice(lines, SHOWN))
    return f"{shown} and {len(lines) - SHOWN} more" if len(lines) > SHOWN else shown


def _rest(total: int, indent: str = INDENT * 2) -> Iterator[str]:
    if total > SHOWN:
        yield f"{indent}and {total - SHOWN} more (--json lists all)"
