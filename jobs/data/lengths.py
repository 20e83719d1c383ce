"""How long the examples of a file are, and what ``max_seq_length`` would cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.data.examples import Document, Example
from jobs.data.messages import Message
from jobs.data.prompts import PromptFormat, farense_prompt
from jobs.data.tokenize import EncodedExample, encode_example
from jobs.data.tokenizer import Tokenizer

# Bins start at round lengths, and there are about half a screenful of them at most.
BIN_WIDTHS = (4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768)
MAX_BINS = 12


@dataclass(frozen=True)
class Length:
    """The length of one example, where in it answers start, and how much of the rest is none."""

    whole: int
    completion_start: int
    between: int = 0

    @classmethod
    def of(cls, example: EncodedExample) -> Length:
        """Return the length of an example in tokens."""
        whole, start = len(example.tokens), example.completion_start
        return cls(whole, start, whole - start - example.learned)

    @property
    def learned(self) -> int:
        """Length of what is learned when the prompt is masked."""
        return self.whole - self.completion_start - self.between


@dataclass(frozen=True)
class Bin:
    """How many examples have a length with ``low <= length <= high``."""

    low: int
    high: int
    count: int


@dataclass(frozen=True)
class Lengths:
    """The lengths of the examples of a file.

    Attributes:
        unit: ``tokens``, or ``characters`` where no tokenizer was at hand.
        mean_completion: mean length of what is learned when the prompt is masked.
        truncated: examples whose completion ``max_seq_length`` cuts short; None for characters.
        left_out: examples whose completion it cuts away entirely; None for characters.
    """

    unit: str
    mean: float
    mean_completion: float
    longest: int
    histogram: tuple[Bin, ...]
    truncated: int | None
    left_out: int | None


def measure(example: Example, tokenizer: Tokenizer | None, prompt_format: PromptFormat) -> Length:
    """Return the length of an example in tokens, or in characters where there is no tokenizer.

    Raises:
        DataError: ``prompt_format`` cannot express it.
        ModelError: the tokenizer cannot be used with ``prompt_format``.
    """
    if tokenizer is not None:
        encoded = encode_example(example, tokenizer, prompt_format)
        return Length.of(encoded)
    if isinstance(example, Document):
        return Length(len(example.text), 0)
    if prompt_format == "farense":
        prompt = len(farense_prompt(example))
    else:
        prompt = sum(map(_characters, example.context)) + len(example.tools or "")
    return Length(prompt + _characters(example.answer), prompt)


def _characters(message: Message) -> int:
    calls = sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
    return len(message.content) + len(message.reasoning or "") + calls


def summarize(lengths: Sequence[Length], unit: str, max_seq_length: int) -> Lengths:
    """Return the figures over at least one example."""
    start = [length.completion_start for length in lengths]
    whole = [length.whole for length in lengths]
    in_tokens = unit == "tokens"
    left_out = sum(s >= max_seq_length for s in start)
    truncated = sum(s < max_seq_length < w for s, w in zip(start, whole, strict=True))
    return Lengths(
        unit=unit,
        mean=sum(whole) / len(whole),
        mean_completion=sum(length.learned for length in lengths) / len(whole),
        longest=max(whole),
        histogram=_histogram(whole),
        truncated=truncated if in_tokens else None,
        left_out=left_out if in_tokens else None,
    )


def _histogram(lengths: Sequence[int]) -> tuple[Bin, ...]:
    low, high = min(lengths), max(lengths)
    fitting = (width for width in BIN_WIDTHS if high // width - low // width < MAX_BINS)
    width = next(fitting, -(-(high + 1) // MAX_BINS))
    counts = [0] * (high // width - low // width + 1)
    for length in lengths:
        counts[length // width - low // width] += 1
    first = low // width * width
    return tuple(
        Bin(first + i * width, first + (i + 1) * width - 1, count) for i, count in enumerate(counts)
    )
