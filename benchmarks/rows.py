"""Examples of wanted number and length, made of the sample data."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks.runs import Row, sample_rows

ROWS = 120
# What the prompt format puts around a question.
FRAME = "### Pergunta:\n\n\n### Resposta:\n"


def many_rows(count: int) -> list[Row]:
    """Return so many questions: the sample's again and again, numbered, since none are equal."""
    numbered = enumerate(itertools.islice(itertools.cycle(sample_rows("train")), count))
    return [{**row, "prompt": f"({number}) {row['prompt']}"} for number, row in numbered]


def long_rows(model: Path, length: int, answer: int | None = None, count: int = ROWS) -> list[Row]:
    """Return rows of at least ``length`` tokens, of which all but ``answer`` are the prompt.

    ``max_seq_length`` then cuts all to the same length.

    Args:
        model: the folder whose tokenizer counts.
        answer: tokens of the answer; a third of all without, as in the sample.
    """
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    frame = len(tokenizer.encode(FRAME, add_special_tokens=False))
    wanted = length - (answer or -(-length // 3)) - frame
    if wanted < 1:
        sys.exit(f"{length} tokens leave no room for a question beside the answer.")
    questions = itertools.cycle(sample_rows("train"))
    rows = []
    for _ in range(count):
        prompt = _text(tokenizer, questions, "prompt", wanted)
        # Longer than what is left of the length, whatever the format adds.
        rows.append(
            {"prompt": prompt, "completion": _text(tokenizer, questions, "completion", length)}
        )
    return rows


def _text(tokenizer: Tokenizer, rows: Iterator[Row], key: str, tokens: int) -> str:
    """Return texts one after another, cut after about ``tokens`` tokens."""
    text = ""
    while len(encoding := tokenizer.encode(text, add_special_tokens=False)) < tokens:
        text = f"{text} {next(rows)[key]}".strip()
    return text[: encoding.offsets[tokens - 1][1]]
