"""What makes two examples ask, or answer, the same."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable

from jobs.data.examples import Dialogue
from jobs.data.messages import Message

NOT_A_WORD = re.compile(r"[\W_]+")


def normalized(text: str) -> str:
    """Return ``text`` without what does not make it another one: case, spacing, punctuation.

    Accents stay: "e" and "é" are different words in Portuguese.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return NOT_A_WORD.sub(" ", folded).strip() or folded.strip()


def said(message: Message) -> Hashable:
    """Return what a message says, equal where only case, spacing or punctuation differ."""
    return message.role, normalized(message.content), message.tool_calls


def question_of(example: Dialogue) -> Hashable:
    """Return all that an example asks, equal where only case, spacing or punctuation differ."""
    return tuple(map(said, example.context)), example.tools
