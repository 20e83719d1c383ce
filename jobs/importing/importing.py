"""From files of other forms to our JSON Lines: which form was taken, what was written, what not.

A row is written only if the reader of our rows accepts it, so that what was imported can be
trained on. One row at a time is in memory, and a few numbers of each.
"""

from __future__ import annotations

import shlex
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import orjson

from jobs.config.share import Share
from jobs.data.examples import Example, Origin, Problem, read_row
from jobs.data.messages import RowError
from jobs.data.valid_split import SplitKeys
from jobs.errors import DataError
from jobs.importing.forms import (
    MAPPED,
    NO_FORM,
    PREFERENCE_PAIR,
    Form,
    forms_of,
    handed_on,
    kept_beside,
    mapped_form,
    without_form,
)
from jobs.importing.rows import TABLES, SourceFile, open_source
from jobs.storage.files import explain, open_to_others, write_many_with
from jobs.storage.values import printable
from jobs.suggest import did_you_mean

TRAIN, VALID = "train.jsonl", "valid.jsonl"
# Rows after which a file of which none could be used is given up.
PATIENCE = 1000
# Of rows that are left out, those that are kept to be told.
TOLD = 1000
SHOWN = 5
NAME_COLUMNS = "Name the columns: --map prompt={0} --map completion={1}"


@dataclass(frozen=True)
class LeftOut:
    """A row that was not written: where it stands, and why."""

    file: str
    unit: str
    line: int
    reason: str


@dataclass
class Imported:
    """What an import did.

    Attributes:
        forms: each form that rows had, and by what it was known -> how many rows.
        kept: columns that became metadata.
        unused: columns that were not used, of any row.
        left_out: the first rows that were not written; ``left_out_count`` counts all.
        train, valid: the files that were written, and their examples.
    """

    kinds: dict[str, str]
    forms: Counter[tuple[str, str]] = field(default_factory=Counter)
    kept: set[str] = field(default_factory=set)
    unused: set[str] = field(default_factory=set)
    left_out: list[LeftOut] = field(default_factory=list)
    left_out_count: int = 0
    train: Path = Path()
    train_examples: int = 0
    valid: Path | None = None
    valid_examples: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, for JSON."""
        forms = [
            {"form": name, "known_by": why, "examples": count}
            for (name, why), count in self.forms.most_common()
        ]
        return {
            "files": self.kinds,
            "forms": forms,
            "metadata_columns": sorted(self.kept),
            "unused_columns": sorted(self.unused),
            "left_out": self.left_out_count,
            "left_out_rows": [vars(row) for row in self.left_out],
            "train": str(self.train),
            "train_examples": self.train_examples,
            "valid": str(self.valid) if self.valid else None,
            "valid_examples": self.valid_examples,
        }


def columns_of(given: Sequence[str]) -> dict[str, str]:
    """Return what ``KEY=COLUMN`` say.

    Raises:
        DataError: one of them cannot be.
    """
    found: dict[str, str] = {}
    for text in given:
        key, sign, column = text.partition("=")
        if not sign or not column or key not in MAPPED:
            raise DataError(
                f"--map {printable(text)} says nothing: expected one of "
                f"{', '.join(f'{name}=' for name in MAPPED)} and the name of a column.",
                "For example: --map prompt=pergunta --map completion=resposta",
            )
        if key in found:
            raise DataError(f"--map names {key} twice.", "Give each of them once.")
        found[key] = column
    try:
        if found:
            mapped_form(found)
    except ValueError as error:
        raise DataError(f"{error}.", NAME_COLUMNS.format("question", "answer")) from error
    return found


def import_files(
    paths: Sequence[Path],
    folder: Path,
    *,
    columns: Mapping[str, str] | None = None,
    share: Share | None = None,
    seed: int = 42,
    force: bool = False,
    names: Mapping[Path, str] | None = None,
) -> Imported:
    """Write what files hold into ``train.jsonl``, and ``valid.jsonl``, of a folder.

    Args:
        columns: what of a row is what (:func:`columns_of`); by the names of the columns else.
        share: is for validation.
        seed: of the choice.
        force: replace what is there.
        names: what to call files that have no names of their own.

    Raises:
        DataError: a file cannot be read or has no form that is known, or several; no row of it can
            be used; the folder has such files already; or one side of the split would be empty.
        WorkspaceError: the folder cannot be written.
    """
    names = names or {}
    sources = [open_source(path) for path in paths]
    _check_columns(sources, columns or {})
    targets = [folder / TRAIN, *([folder / VALID] if share else [])]
    if not force:
        _check_free(folder)
    done = Imported({names.get(it.path, str(it.path)): it.kind for it in sources}, train=targets[0])
    form = mapped_form(columns) if columns else None
    keys = SplitKeys(seed)
    with _temporary(folder) as written:
        for source in sources:
            name = names.get(source.path, str(source.path))
            for line, example in _rows(source, name, form, done):
                written.write(line + b"\n")
                done.train_examples += 1
                if share:
                    keys.add(example)
        sides = _sides(keys, share) if share else None
        done.valid_examples = sum(sides) if sides else 0
        done.train_examples -= done.valid_examples
        done.valid = targets[1] if share else None
        written.flush()
        wanted = (False, True) if sides else (None,)
        write_many_with(
            {
                target: partial(_copy, written, sides, side)
                for target, side in zip(targets, wanted, strict=True)
            }
        )
    open_to_others(*targets)
    return done


def _check_free(folder: Path) -> None:
    there = [path for path in (folder / TRAIN, folder / VALID) if path.exists()]
    if there:
        raise DataError(
            f"{' and '.join(map(str, there))} {'are' if len(there) > 1 else 'is'} there already.",
            "Choose another folder with --to, or replace them with --force.",
        )


def _check_columns(sources: Sequence[SourceFile], columns: Mapping[str, str]) -> None:
    """Check that each file has the columns that a person names."""
    if not columns:
        return
    for source in sources:
        known = _columns(source)
        for column in columns.values():
            if column in known:
                continue
            shown = printable(", ".join(known[:20])) or "none"
            raise DataError(
                f"{source.path} has no column {printable(column)}; it has {shown}.",
                printable(did_you_mean(column, known)) or "Name one of these with --map.",
            )


def _columns(source: SourceFile) -> tuple[str, ...]:
    """Return the columns of a file; where each row has its own keys, those of the first ones."""
    return source.columns or tuple(
        dict.fromkeys(
            key
            for _, (_, values) in zip(range(PATIENCE), source.rows(), strict=False)
            if isinstance(values, dict)
            for key in values
        )
    )


def _rows(
    source: SourceFile, name: str, form: Form | None, done: Imported
) -> Iterator[tuple[bytes, Example]]:
    """Yield the rows of a file that can be used, as they are written and as they are read."""
    seen = used = 0
    for number, values in source.rows():
        seen += 1
        found = values if isinstance(values, Problem) else _row(source, number, values, form, done)
        if isinstance(found, Problem):
            done.left_out_count += 1
            if len(done.left_out) < TOLD:
                row = LeftOut(name, source.unit, number, printable(found.reason))
                done.left_out.append(row)
            if not used and seen >= PATIENCE:
                break
        else:
            used += 1
            yield found
    if not used:
        raise _nothing(source, name, seen, done)


def _row(
    source: SourceFile, number: int, values: dict[str, Any], form: Form | None, done: Imported
) -> tuple[bytes, Example] | Problem:
    form = form or _form(source, number, values)
    if form is None:
        return Problem(number, without_form(values))
    metadata, dropped = kept_beside(values, form)
    try:
        row = {**form.row(values), **handed_on(values, form)}
        line = orjson.dumps({**row, "metadata": metadata} if metadata else row)
    except RowError as error:
        return Problem(number, str(error))
    except TypeError as error:  # half a surrogate pair, a number beyond 64 bits, bytes
        return Problem(number, f"it holds what JSON cannot: {error}")
    example = read_row(line, Origin(source.path, number))
    if not isinstance(example, Problem):
        done.forms[form.name, form.why] += 1
        done.kept |= metadata.keys() - _own_metadata(values)
        done.unused.update(dropped)
        return line, example
    return example


def _own_metadata(values: Mapping[str, Any]) -> set[str]:
    own = values.get("metadata")
    return set(own) if isinstance(own, dict) else set()


def _form(source: SourceFile, number: int, values: Mapping[str, Any]) -> Form | None:
    """Return the form of a row.

    Raises:
        DataError: it has several.
    """
    # Tables have every column in every row: one that is empty says nothing, unless none is left.
    filled = frozenset(key for key, value in values.items() if value not in (None, ""))
    found = forms_of(filled) or forms_of(frozenset(values))
    if len(found) > 1:
        both = "; ".join(f"{form.name} ({form.why})" for form in found[:4])
        example = found[0].columns
        raise DataError(
            f"{source.path}, {source.unit} {number}: the columns fit more than one form: "
            f"{printable(both)}.",
            NAME_COLUMNS.format(*example)
            if len(example) > 1
            else f"Say which it is: --map messages={example[0]}",
        )
    return found[0] if found else None


def _nothing(source: SourceFile, name: str, seen: int, done: Imported) -> DataError:
    if not seen:
        return DataError(f"{name} holds no rows.", "Name a file with rows in it.")
    # What is said of each row alike is said once, of the first.
    told = {row.reason: row for row in reversed(done.left_out) if row.file == name}
    mine = sorted(told.values(), key=lambda row: row.line)[:SHOWN]
    reasons = [f"  {row.unit} {row.line}: {row.reason}" for row in mine]
    many = f"first {seen:,} {source.unit}s" if seen >= PATIENCE else f"{source.unit}s"
    hint = "docs/data.md lists the forms, and what is read of each."
    columns = _columns(source)
    if any(NO_FORM in row.reason for row in mine) and len(columns) > 1:
        named = (shlex.quote(printable(column)) for column in columns)
        hint = f"{NAME_COLUMNS.format(next(named), next(named))}. {hint}"
        if source.kind in TABLES:
            hint += " The first line of a table has to name its columns."
    elif any(PREFERENCE_PAIR in row.reason for row in mine):
        hint = f"The chosen answers alone: --map prompt=prompt --map completion=chosen. {hint}"
    return DataError("\n".join([f"None of the {many} of {name} can be used:", *reasons]), hint)


def _sides(keys: SplitKeys, share: Share) -> Sequence[bool]:
    try:
        return keys.valid_rows(share)
    except ValueError as error:
        raise DataError(
            f"--valid {share.text}: {error}.",
            "Give another share or number, or leave out --valid.",
        ) from error


@contextmanager
def _temporary(folder: Path) -> Iterator[IO[bytes]]:
    """Open a file without a name in a folder; one that was made for it goes if it stays empty."""
    made = [it for it in (folder, *folder.parents) if not it.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            yield file
    except OSError as error:
        raise explain(error, folder) from error
    finally:
        for new in made:
            with suppress(OSError):  # something is in it
                new.rmdir()


def _copy(
    written: IO[bytes], sides: Sequence[bool] | None, side: bool | None, file: IO[bytes]
) -> None:
    written.seek(0)
    for number, line in enumerate(written):
        if sides is None or sides[number] is side:
            file.write(line)
