"""How good an answer is, beside the one it should have been: four scores between 0 and 1. Pure.

Exact match and token F1 are those of SQuAD v1.1 (Rajpurkar et al., 2016), with a normalization for
Portuguese: lower case, no punctuation, no articles. Numbers, dates and scores stay whole: ``0-3``,
``1995/96`` and ``21:30`` are tokens. ROUGE-L is the F-measure of the longest common subsequence of
words (Lin, 2004), chrF sacrebleu's (Popović, 2015) as a fraction.
"""

from __future__ import annotations

import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

# What people call each score.
TITLES = {
    "token_f1": "Token F1",
    "exact_match": "Exact match",
    "rouge_l": "ROUGE-L",
    "chrf": "chrF",
}
METRICS = tuple(TITLES)
ARTICLES = frozenset(("o", "a", "os", "as", "um", "uma", "uns", "umas"))
# What may join two digits to one token.
JOINTS = frozenset("-/.,:")


def score(answer: str, reference: str, *, ignore_accents: bool = False) -> dict[str, float]:
    """Return the scores of an answer by their names (``METRICS``)."""
    answer, reference = _plain(answer, ignore_accents), _plain(reference, ignore_accents)
    given, wanted = words(answer), words(reference)
    return {
        "token_f1": token_f1(without_articles(given), without_articles(wanted)),
        "exact_match": float(without_articles(given) == without_articles(wanted)),
        "rouge_l": rouge_l(given, wanted),
        "chrf": chrf(answer, reference),
    }


def words(text: str) -> list[str]:
    """Return the words of a text: lower case, without punctuation; ``0-3`` is one."""
    text = unicodedata.normalize("NFC", text).lower()
    # As in SQuAD punctuation leaves no gap: `Beira-Mar` is one word, too.
    return "".join(_kept(text, place) for place in range(len(text))).split()


def without_articles(found: Sequence[str]) -> list[str]:
    """Return words without the Portuguese articles."""
    return [word for word in found if word not in ARTICLES]


def token_f1(given: Sequence[str], wanted: Sequence[str]) -> float:
    """Return the harmonic mean of precision and recall over tokens, counted as a multiset."""
    return _f_measure((Counter(given) & Counter(wanted)).total(), given, wanted)


def rouge_l(given: Sequence[str], wanted: Sequence[str]) -> float:
    """Return ROUGE-L, the same over the longest common subsequence."""
    from rapidfuzz.distance import LCSseq  # noqa: PLC0415 - status needs the names alone

    return _f_measure(LCSseq.similarity(given, wanted), given, wanted)


def chrf(answer: str, reference: str) -> float:
    """Return chrF2 over character 6-grams, case kept, of one answer."""
    return float(_chrf().sentence_score(answer, [reference]).score) / 100


def _f_measure(common: int, given: Sequence[str], wanted: Sequence[str]) -> float:
    return 2 * common / (len(given) + len(wanted)) if common else 0.0


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF  # noqa: PLC0415 - takes half a second

    return CHRF()


def _plain(text: str, ignore_accents: bool) -> str:
    if not ignore_accents:
        return unicodedata.normalize("NFC", text)
    parts = unicodedata.normalize("NFD", text)
    return "".join(c for c in parts if not unicodedata.combining(c))


def _kept(text: str, place: int) -> str:
    """Return what becomes of a character: nothing of punctuation, except between two digits."""
    character = text[place]
    if character not in string.punctuation and not unicodedata.category(character).startswith("P"):
        return "-" if character == "−" and _between_digits(text, place) else character
    joint = "-" if unicodedata.category(character) == "Pd" else character
    return joint if joint in JOINTS and _between_digits(text, place) else ""


def _between_digits(text: str, place: int) -> bool:
    before, after = text[max(place - 1, 0) : place], text[place + 1 : place + 2]
    return before.isdecimal() and after.isdecimal()
