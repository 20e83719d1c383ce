"""A part of the data for validation: by seed, a question on one side, each kind in its share.

What is kept of a row is a number for its question and one for its kind:
12 MB for a million of them.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
import orjson

from jobs.config.share import Share
from jobs.data.examples import Document, Example, read_examples
from jobs.data.same_text import normalized, question_of
from jobs.errors import DataError
from jobs.storage.files import write_many_with
from jobs.storage.formatting import counted

KIND = "tipo"


class SplitKeys:
    """What decides on which side rows come: what they ask, and of which kind they are."""

    def __init__(self, seed: int) -> None:
        self._seed = hashlib.blake2b(str(seed).encode(), digest_size=16).digest()
        self._questions, self._kinds = array("Q"), array("I")
        self._names: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._questions)

    def add(self, example: Example) -> None:
        """Add the next row."""
        if isinstance(example, Document):
            asked: object = normalized(example.text)
        else:
            asked = question_of(example)
        # By the seed and the question alone: neither place nor number of the rows matters.
        digest = hashlib.blake2b(orjson.dumps(asked), key=self._seed, digest_size=8).digest()
        self._questions.append(int.from_bytes(digest, "big"))
        kind = orjson.dumps(example.metadata.get(KIND), default=str)
        self._kinds.append(self._names.setdefault(kind, len(self._names)))

    def valid_rows(self, share: Share) -> Sequence[bool]:
        """Tell of each row whether it is for validation.

        Rows with the same question stay together, so that the share is met as nearly as they allow.

        Raises:
            ValueError: one side would be empty.
        """
        examples = len(self)
        wanted = share.of(examples)
        chosen = np.zeros(examples, bool)
        if 0 < wanted < examples:
            groups = self._groups()
            over = 0  # what a kind could not take, or took too much, the next one makes good
            for quota, members in zip(self._quotas(wanted, groups), groups, strict=True):
                rows = _nearest(quota + over, members)
                over += quota - len(rows)
                chosen[rows] = True
        taken = int(chosen.sum())
        if not 0 < taken < examples:
            if 0 < wanted < examples and len(np.unique(self._questions)) == 1:
                raise ValueError(
                    f"all {examples} examples ask the same, and a question stays on one side"
                )
            raise ValueError(
                f"{share.text} of {counted(examples, 'example')} would leave none "
                f"{'to train on' if wanted >= examples else 'for validation'}"
            )
        found: list[bool] = chosen.tolist()
        return found

    def _groups(self) -> list[list[np.ndarray]]:
        """Return the rows of each question, in an order by chance; a list of them for each kind."""
        questions = np.frombuffer(self._questions, np.uint64)
        kinds = np.frombuffer(self._kinds, np.uint32)
        order = np.lexsort((kinds, questions))
        ends = np.flatnonzero(np.diff(questions[order])) + 1
        names = sorted(self._names, key=lambda name: name)
        rank = np.empty(len(names), np.int64)
        rank[[self._names[name] for name in names]] = np.arange(len(names))
        groups: list[list[np.ndarray]] = [[] for _ in names]
        for begin, end in pairwise([0, *ends.tolist(), len(order)]):
            rows = order[begin:end]
            # A question of several kinds counts as one: as that whose name comes first.
            groups[int(rank[kinds[rows]].min())].append(rows)
        return groups

    def _quotas(self, wanted: int, groups: list[list[np.ndarray]]) -> list[int]:
        """Deal ``wanted`` rows out to the kinds by their shares, by largest remainders."""
        sizes = [sum(map(len, members)) for members in groups]
        exact = [Fraction(wanted * size, len(self)) for size in sizes]
        quotas = [int(part) for part in exact]
        questions = np.frombuffer(self._questions, np.uint64)

        def place(number: int) -> tuple[Fraction, int]:
            # Kinds that are equal in that are taken by chance, not by their names.
            first = int(questions[groups[number][0][0]]) if groups[number] else 0
            return quotas[number] - exact[number], first

        for number in sorted(range(len(sizes)), key=place)[: wanted - sum(quotas)]:
            quotas[number] += 1
        return quotas


def _nearest(quota: int, members: list[np.ndarray]) -> list[int]:
    """Return the rows of the first groups that come nearest to ``quota``, larger ones passed by."""
    found: list[int] = []
    for rows in members:
        if len(found) >= quota:
            break
        if len(rows) < 2 * (quota - len(found)):
            found += rows.tolist()
    return found


def valid_rows_of(rows: Sequence[Example], share: Share, seed: int, path: Path) -> Sequence[bool]:
    """Tell of each row of a file whether it is for validation.

    Raises:
        DataError: one side would be empty.
    """
    keys = SplitKeys(seed)
    for row in rows:
        keys.add(row)
    try:
        return keys.valid_rows(share)
    except ValueError as error:
        raise DataError(
            f"{path} cannot be split: {error}.", "Set data.valid to another share, or to a file."
        ) from error


def split_file(path: Path, share: Share, seed: int, folder: Path) -> tuple[Path, Path]:
    """Write a JSON Lines file as two: what is to train on, and the share for validation.

    Each holds an empty line for every line of the other, which readers pass over: so a line has
    the number that it has in the file of its owner, whoever names it.

    Raises:
        DataError: the file cannot be used, or one side would be empty.
        WorkspaceError: the folder cannot be written.
    """
    rows = read_examples(path)
    chosen = valid_rows_of(rows, share, seed, path)
    lines = {row.origin.line: it for row, it in zip(rows, chosen, strict=True) if row.origin}
    targets = folder / "train.jsonl", folder / "valid.jsonl"
    write_many_with(
        {
            target: partial(_copy_side, path, lines, side)
            for target, side in zip(targets, (False, True), strict=True)
        }
    )
    return targets


def _copy_side(path: Path, lines: Mapping[int, bool], side: bool, target: IO[bytes]) -> None:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            target.write(line.rstrip(b"\r\n") + b"\n" if lines.get(number) is side else b"\n")
