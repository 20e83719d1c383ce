"""A part of the data for validation: by seed, a question on one side, each kind in its share.

What is kept of a row is a number for its question and one for its kind:
12 MB for a million of them.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
import orjson

from jobs.data.check import normalized, question_of
from jobs.data.examples import Document, Example

PERCENT = re.compile(r"(\d{1,2}(?:\.\d{1,6})?)%", re.ASCII)
COUNT = re.compile(r"\d{1,9}", re.ASCII)
# More than this is no validation set: training gets the larger side.
MOST = Fraction(1, 2)
KIND = "tipo"


@dataclass(frozen=True)
class Share:
    """How much of the data is for validation: a part of them, or a number of examples."""

    text: str
    part: Fraction | None = None
    count: int | None = None

    def of(self, examples: int) -> int:
        """Return how many of ``examples`` that is."""
        if self.part is None:
            return self.count or 0
        return int(self.part * examples + Fraction(1, 2))


def percent(text: str) -> Share | None:
    """Return the share that a percentage says; None where ``text`` is none.

    Raises:
        ValueError: it is one, and no share for validation.
    """
    if not (text.endswith("%") and text[:1].isdigit()):
        return None
    found = PERCENT.fullmatch(text)
    part = Fraction(found[1]) / 100 if found else None
    if part is None or not 0 < part <= MOST:
        raise ValueError(
            f"{text} is no share for validation: expected more than 0% and at most 50%"
        )
    return Share(text, part)


def share_of(text: str) -> Share:
    """Return what a person says of validation data: ``10%``, or how many examples.

    Raises:
        ValueError: it is neither.
    """
    if (found := percent(text)) is not None:
        return found
    if COUNT.fullmatch(text) and int(text) > 0:
        return Share(text, count=int(text))
    raise ValueError(f"{text!r} is neither a share (10%) nor a number of examples (200)")


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
            raise ValueError(
                f"{share.text} of {examples} {'example' if examples == 1 else 'examples'} would "
                f"leave none {'for validation' if not taken else 'to train on'}"
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
