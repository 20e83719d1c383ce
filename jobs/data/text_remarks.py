"""Texts of a data file that a tokenizer reads otherwise than a person would. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from jobs.data.examples import Document, Example
from jobs.data.tokenize import without_end
from jobs.data.tokenizer import Tokenizer

# Ends of turns that data made for one model often hold, and that another does not know.
KNOWN_ENDS = ("<|im_end|>", "</s>", "<|eot_id|>", "<|endoftext|>", "<end_of_turn>", "<|end|>")


@dataclass(frozen=True)
class Remark:
    """What is so in some lines of a file, counted from 1."""

    text: str
    lines: tuple[int, ...]


def remarks_on(
    rows: Iterable[tuple[int, Example]], tokenizer: Tokenizer | None
) -> tuple[Remark, ...]:
    """Return what there is to say of numbered rows; nothing without a tokenizer."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for line, row in rows if tokenizer else ():
        for text in _of(row, tokenizer):  # type: ignore[arg-type]  # there is one
            found[text].append(line)
    return tuple(Remark(text, tuple(lines)) for text, lines in found.items())


def _of(row: Example, tokenizer: Tokenizer) -> Iterable[str]:
    if isinstance(row, Document):
        bos = tokenizer.bos_token_id
        if bos is not None and tokenizer.encode(row.text)[:2] == [bos, bos]:
            text = tokenizer.decode([bos])
            yield f"the text begins with {text}, which is added anyway; it is learned once"
        return
    answer = without_end(row.completion, tokenizer)
    if answer != row.completion:
        end = row.completion.strip()[len(answer.strip()) :].strip()
        yield f"the answer ends with {end}, which is added anyway; it is learned once"
    elif foreign := next((e for e in KNOWN_ENDS if answer.rstrip().endswith(e)), None):
        yield f"the answer ends with {foreign}, no end of this model's; it is learned as text"
    inside = "\n".join([*(message.content for message in row.context), answer])
    if marks := [text for text in tokenizer.control_texts if text in inside]:
        yield (
            f"{' '.join(marks)} stand in the text; the prompt format writes such marks itself, "
            "and here they are read as marks"
        )
    if tokenizer.adds_space and answer[:1].isspace():
        yield "the answer begins with white space, which is learned"
