"""Examples as they are learned, token by token: for a person to look at."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from jobs.data.batching import is_target
from jobs.data.examples import Problem, scan_examples
from jobs.data.prompts import PromptFormat
from jobs.data.tokenize import cut, encode_example
from jobs.data.tokenizer import Tokenizer
from jobs.errors import DataError, InvalidInput

FIRST = 2


@dataclass(frozen=True)
class MarkedExample:
    """The tokens of an example, cut as for training.

    Attributes:
        stretches: the text in stretches that are learned, or are not.
        texts: of its tokens; one that is a part of a character only is told by its number.
        learned: whether each of them is a target.
    """

    line: int
    tokens: tuple[int, ...]
    texts: tuple[str, ...]
    learned: tuple[bool, ...]
    stretches: tuple[tuple[bool, str], ...]


def marked_examples(
    path: Path,
    tokenizer: Tokenizer,
    prompt_format: PromptFormat,
    lines: Collection[int],
    *,
    everything: bool,
    max_seq_length: int,
) -> list[MarkedExample]:
    """Return the examples on some lines of a file; the first ones where none is asked for.

    Args:
        everything: all tokens are learned, not those of answers alone.

    Raises:
        InvalidInput: a line that was asked for is not there, or holds no example that can be used.
    """
    found: dict[int, MarkedExample] = {}
    for line, row in scan_examples(path):
        if lines and line not in lines:
            continue
        if isinstance(row, Problem):
            if lines:
                raise InvalidInput(f"{path}, line {line}: {row.reason}")
            continue
        try:
            encoded = encode_example(row, tokenizer, prompt_format)
        except DataError:
            if lines:
                raise
            continue
        data = cut([encoded], mask_prompt=not everything, max_seq_length=max_seq_length)
        for example in data.examples:
            learned = tuple(is_target(example).tolist())
            found[line] = MarkedExample(
                line,
                example.tokens,
                tuple(_text(token, tokenizer) for token in example.tokens),
                learned,
                _stretches(example.tokens, learned, tokenizer),
            )
        if lines and line not in found:
            raise InvalidInput(
                f"{path}, line {line}: nothing of the answer is left within {max_seq_length} "
                "tokens.",
                "Raise --max-seq-length.",
            )
        if len(found) == (len(lines) or FIRST):
            break
    if missing := sorted(set(lines) - set(found)):
        raise InvalidInput(f"{path} holds no example on line {', '.join(map(str, missing))}.")
    return [found[line] for line in sorted(found)]


def shown(example: MarkedExample) -> Iterator[str]:
    """Yield an example as lines: what is learned stands between ``>>`` and ``<<``."""
    count = sum(example.learned)
    yield f"line {example.line}: {len(example.tokens)} tokens, {count} learned"
    text = "".join(f">>{text}<<" if learned else text for learned, text in example.stretches)
    yield from (f"    {line}".rstrip() for line in text.split("\n"))


def _stretches(
    tokens: Sequence[int], learned: Sequence[bool], tokenizer: Tokenizer
) -> tuple[tuple[bool, str], ...]:
    groups = groupby(zip(learned, tokens, strict=True), key=lambda pair: pair[0])
    return tuple((it, tokenizer.decode([token for _, token in group])) for it, group in groups)


def _text(token: int, tokenizer: Tokenizer) -> str:
    text = tokenizer.decode([token])
    return f"<{token}>" if "\ufffd" in text else text
