"""Prompt formats: how a question becomes the text that a model continues.

``farense`` is the block format of the Farense data; ``chat`` is the tokenizer's own template (see
:mod:`jobs.data.tokenize`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from jobs.data.examples import Dialogue, Example, located
from jobs.errors import DataError

PromptFormat = Literal["farense", "chat"]


def farense_prompt(row: Dialogue) -> str:
    """Return the text up to where the answer starts.

    Raises:
        DataError: the conversation has more than one question, or more than words; naming its file
            and line.
    """
    if not row.is_plain:
        raise DataError(
            located(row, "tools and reasoning are written by a chat template"),
            "Use prompt_format: chat, and a model whose template knows them.",
        )
    question = row.context[-1].content
    if len(row.context) == 2 and row.context[0].role == "system":
        question = f"{row.context[0].content}\n\n{question}"
    elif len(row.context) > 1:
        raise DataError(
            located(
                row,
                "expected one user and one assistant message (and a system message at most), "
                f"found {len(row.context) + 1} messages; several turns need prompt_format: chat",
            ),
            "Use prompt_format: chat, or split the conversation.",
        )
    return f"### Pergunta:\n{question}\n\n### Resposta:\n"


def check_prompt_format(rows: Iterable[Example], prompt_format: PromptFormat) -> None:
    """Check, without a tokenizer, that every row can be written in ``prompt_format``.

    Raises:
        DataError: a conversation of several turns in the ``farense`` format.
    """
    if prompt_format == "farense":
        for row in rows:
            if isinstance(row, Dialogue):
                farense_prompt(row)
