"""From examples to token ids: what the model reads, and which of it it learns to predict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from jobs.caches import tokens_input
from jobs.data.chat.answer import following, templated_completion, without_final
from jobs.data.chat.templating import (
    check_written,
    eos_of,
    templated,
    templated_text,
)
from jobs.data.chat.turns import earlier_answers
from jobs.data.examples import Dialogue, Document, Example, located
from jobs.data.prompts import PromptFormat, farense_prompt
from jobs.data.reasoning import Frame
from jobs.data.tokenizer import Tokenizer
from jobs.errors import DataError

PLAIN_ANSWER = "Em Faro."


# Indices of a first token and of the one behind the last, in order.
Gaps = tuple[tuple[int, int], ...]


def _width(gaps: Gaps) -> int:
    return sum(end - start for start, end in gaps)


@dataclass(frozen=True)
class EncodedExample:
    """An example as token ids, at its full length.

    Attributes:
        tokens: with BOS (where the tokenizer adds one) and EOS.
        completion_start: index of the first token of the first answer that is learned; 1 for a text
            without a prompt.
        gaps: stretches after it, from one index to before another, that are no answer: what stands
            between the answers of a conversation.
    """

    tokens: tuple[int, ...]
    completion_start: int
    gaps: Gaps = ()

    @property
    def last_answer_start(self) -> int:
        """Index of the first token of the last answer."""
        return self.gaps[-1][1] if self.gaps else self.completion_start

    @property
    def learned(self) -> int:
        """Number of tokens in answers."""
        return len(self.tokens) - self.completion_start - _width(self.gaps)


@dataclass(frozen=True)
class TokenizedExample:
    """An example as it is trained on.

    Attributes:
        tokens: at most ``max_seq_length`` token ids, with BOS and (unless cut) EOS.
        prompt_length: number of leading tokens that are not targets; at least 1, since nothing
            predicts the first token, and less than ``len(tokens)``.
        gaps: stretches behind those that are no targets either; none of them ends the example.
    """

    tokens: tuple[int, ...]
    prompt_length: int
    gaps: Gaps = ()

    @property
    def target_count(self) -> int:
        """Number of tokens that are targets."""
        return len(self.tokens) - max(self.prompt_length, 1) - _width(self.gaps)


@dataclass(frozen=True)
class TokenizedData:
    """The examples of one file, ready for batching.

    Attributes:
        truncated: examples whose completion lost its end to ``max_seq_length``.
        left_out: examples whose whole completion would have been cut away; not in ``examples``.
    """

    examples: tuple[TokenizedExample, ...]
    truncated: int
    left_out: int


def tokenize(
    rows: Iterable[Example],
    tokenizer: Tokenizer,
    *,
    prompt_format: PromptFormat,
    mask_prompt: bool,
    max_seq_length: int,
) -> TokenizedData:
    """Return ``rows`` as token ids, cut to ``max_seq_length`` tokens.

    Args:
        mask_prompt: only answers are learned; else every token but the first.

    Raises:
        DataError: a row that ``prompt_format`` cannot express, naming its file and line.
        ModelError: the tokenizer has no EOS token, or no template for ``chat``.
    """
    encoded = [encode_example(row, tokenizer, prompt_format) for row in rows]
    return cut(encoded, mask_prompt=mask_prompt, max_seq_length=max_seq_length)


def cut(
    encoded: Sequence[EncodedExample], *, mask_prompt: bool, max_seq_length: int
) -> TokenizedData:
    """Cut encoded examples to ``max_seq_length`` tokens; those left without completion go."""
    kept = [example for example in encoded if example.completion_start < max_seq_length]
    examples = tuple(
        _cut(example, max_seq_length)
        if mask_prompt
        else TokenizedExample(example.tokens[:max_seq_length], 1)
        for example in kept
    )
    truncated = sum(len(example.tokens) > max_seq_length for example in kept)
    return TokenizedData(examples, truncated, left_out=len(encoded) - len(kept))


def _cut(example: EncodedExample, longest: int) -> TokenizedExample:
    """Return an example of so many tokens; a gap at its end goes: nothing is learned there."""
    whole = tuple(gap for gap in example.gaps if gap[1] < longest)
    torn = next((start for start, end in example.gaps if start < longest <= end), longest)
    return TokenizedExample(example.tokens[:torn], example.completion_start, whole)


def encode_example(
    row: Example, tokenizer: Tokenizer, prompt_format: PromptFormat
) -> EncodedExample:
    """Return one example as token ids at its full length.

    The prompt is encoded by itself, so that generation, which has only the prompt, starts from
    exactly the tokens that training saw. The completion is encoded as what follows it. The answers
    before it are learned, too, where the tokenizer's settings say so.

    Raises:
        DataError, ModelError: as :func:`tokenize`.
    """
    eos = eos_of(tokenizer)
    if isinstance(row, Document):
        return EncodedExample((*_document(row.text, tokenizer), eos), completion_start=1)
    prompt = prompt_tokens(row, tokenizer, prompt_format)
    row = replace(row, completion=without_end(row.completion, tokenizer))
    if not row.completion.strip() and not row.tool_calls:
        raise DataError(located(row, "the completion is the end of a turn and nothing else"))
    if prompt_format == "chat":
        check_written(row, tokenizer)
        completion = templated_completion(row, tokenizer, prompt)
    else:
        before = farense_prompt(row)
        completion = [*following(before, prompt, row.completion, tokenizer, whole_text=True), eos]
    start = max(len(prompt), 1)
    if not tokenizer.settings.all_answers:
        return EncodedExample((*prompt, *completion), start)
    earlier = earlier_answers(row, tokenizer, prompt)
    starts = [*(first for first, _ in earlier), start]
    gaps = tuple(zip((end for _, end in earlier), starts[1:], strict=True))
    return EncodedExample((*prompt, *completion), starts[0], gaps)


def prompt_tokens(
    row: Dialogue, tokenizer: Tokenizer, prompt_format: PromptFormat
) -> tuple[int, ...]:
    """Return the tokens up to where the answer starts: what generation is given.

    Raises:
        DataError, ModelError: as :func:`tokenize`.
    """
    if prompt_format == "chat":
        return templated(row.context, row, tokenizer, answer_next=True)
    tokens = tokenizer.encode(farense_prompt(row), add_special_tokens=True)
    return tuple(without_final(eos_of(tokenizer), tokens))


def without_end(completion: str, tokenizer: Tokenizer) -> str:
    """Return a completion without the text of end tokens after it: it gets its end anyway."""
    text = completion
    while end := next((e for e in tokenizer.end_texts if text.rstrip().endswith(e)), None):
        text = text.rstrip().removesuffix(end).rstrip()
    return text


def reference_text(row: Dialogue, tokenizer: Tokenizer, frame: Frame) -> str:
    """Return what an answer is compared with: a completion without reasoning and end tokens.

    That of an answer that calls tools is what the template writes for the calls.

    Args:
        frame: of the answers to such prompts.
    """
    if row.tool_calls:
        found = encode_example(row, tokenizer, "chat")
        return frame.parts(tokenizer.decode(found.tokens[found.last_answer_start : -1]))[1]
    text = without_end(row.completion, tokenizer)
    return text if tokenizer.marks is None else tokenizer.marks.split(text)[1]


def frame_of(row: Dialogue, tokenizer: Tokenizer, prompt_format: PromptFormat) -> Frame:
    """Return what is generated around an answer to the question of ``row``.

    Templates put the same around every answer; a plain one shows what.

    Raises:
        DataError, ModelError: as :func:`tokenize`.
    """
    if prompt_format != "chat":
        return Frame(tokenizer.marks, closed=True)
    asked = replace(row, completion=PLAIN_ANSWER, reasoning=None, tool_calls=())
    prompt = templated_text(row.context, row, tokenizer, answer_next=True)
    found = encode_example(asked, tokenizer, prompt_format)
    learned = tokenizer.decode(found.tokens[found.last_answer_start : -1])
    frame = Frame.around(PLAIN_ANSWER, prompt=prompt, learned=learned, marks=tokenizer.marks)
    # An end at which nothing stops is not learned, and the base model may still write it.
    idle = "".join(tokenizer.decode([token]) for token in list(tokenizer.idle_ends)[:1])
    return frame if frame.tail else replace(frame, tail=idle.strip())


def _document(text: str, tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of a text with one BOS, where there is any, and no EOS."""
    eos, bos = eos_of(tokenizer), tokenizer.bos_token_id
    tokens = tokenizer.encode(text, add_special_tokens=True)
    while tokens[-1:] == [eos]:
        tokens = tokens[:-1]
    # The text may begin with the BOS that the tokenizer adds.
    while bos is not None and tokens[:2] == [bos, bos]:
        tokens = tokens[1:]
    return tokens


def examples_input(files: Sequence[Sequence[TokenizedExample]]) -> bytes:
    """Return a digest of what is measured: the token ids of each file, and which are targets."""
    parts = []
    for examples in files:
        parts.append(tokens_input([example.tokens for example in examples]))
        parts.append(tokens_input([[example.prompt_length for example in examples]]))
        parts.append(tokens_input([sum(example.gaps, ()) for example in examples]))
    return b"".join(parts)
