"""From examples to token ids: what the model reads, and which of it it learns to predict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jinja2 import TemplateError

from jobs.errors import DataError, ModelError
from jobs.examples import Dialogue, Document, Example, Message, located
from jobs.prompts import PromptFormat, farense_prompt


class Tokenizer(Protocol):
    """What is used of mlx-lm's ``TokenizerWrapper``."""

    has_chat_template: bool

    @property
    def eos_token_id(self) -> int | None:
        """The token that ends a text."""

    @property
    def eos_token_ids(self) -> set[int]:
        """All tokens at which generation stops."""

    def encode(self, text: str, add_special_tokens: bool = ...) -> list[int]:
        """Return the token ids of ``text``."""

    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> list[int]:
        """Return the token ids of a templated conversation."""


@dataclass(frozen=True)
class EncodedExample:
    """An example as token ids, at its full length.

    Attributes:
        tokens: with BOS (where the tokenizer adds one) and EOS.
        completion_start: index of the first token of the completion; 1 for a text without a prompt.
    """

    tokens: tuple[int, ...]
    completion_start: int


@dataclass(frozen=True)
class TokenizedExample:
    """An example as it is trained on.

    Attributes:
        tokens: at most ``max_seq_length`` token ids, with BOS and (unless cut) EOS.
        prompt_length: number of leading tokens that are not targets; at least 1, since nothing
            predicts the first token, and less than ``len(tokens)``.
    """

    tokens: tuple[int, ...]
    prompt_length: int


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
        mask_prompt: only the completion is learned; else every token but the first.

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
        TokenizedExample(
            example.tokens[:max_seq_length], example.completion_start if mask_prompt else 1
        )
        for example in kept
    )
    truncated = sum(len(example.tokens) > max_seq_length for example in kept)
    return TokenizedData(examples, truncated, left_out=len(encoded) - len(kept))


def encode_example(
    row: Example, tokenizer: Tokenizer, prompt_format: PromptFormat
) -> EncodedExample:
    """Return one example as token ids at its full length.

    The prompt is encoded by itself, so that generation, which has only the prompt, starts from
    exactly the tokens that training saw.

    Raises:
        DataError, ModelError: as :func:`tokenize`.
    """
    eos = _eos(tokenizer)
    if isinstance(row, Document):
        tokens = _without_final(eos, tokenizer.encode(row.text, add_special_tokens=True))
        return EncodedExample((*tokens, eos), completion_start=1)
    prompt = prompt_tokens(row, tokenizer, prompt_format)
    completion = None
    if prompt_format == "chat":
        completion = _templated_completion(row, tokenizer, prompt)
    if completion is None:
        completion = [*tokenizer.encode(row.completion, add_special_tokens=False), eos]
    return EncodedExample((*prompt, *completion), completion_start=max(len(prompt), 1))


def prompt_tokens(
    row: Dialogue, tokenizer: Tokenizer, prompt_format: PromptFormat
) -> tuple[int, ...]:
    """Return the tokens up to where the answer starts: what generation is given.

    Raises:
        DataError, ModelError: as :func:`tokenize`.
    """
    if prompt_format == "chat":
        return _template(row.context, row, tokenizer, add_generation_prompt=True)
    tokens = tokenizer.encode(farense_prompt(row), add_special_tokens=True)
    return tuple(_without_final(_eos(tokenizer), tokens))


def _templated_completion(
    row: Dialogue, tokenizer: Tokenizer, prompt: tuple[int, ...]
) -> list[int] | None:
    """Return what the template adds for the answer, or None where it rewrites the prompt."""
    conversation = (*row.context, Message("assistant", row.completion))
    whole = _template(conversation, row, tokenizer, add_generation_prompt=False)
    if whole[: len(prompt)] != prompt:
        return None
    completion = list(whole[len(prompt) :])
    # Templates often put a newline after the end of a turn: nothing generates that far.
    ends = tokenizer.eos_token_ids | {_eos(tokenizer)}
    end = max((i for i, token in enumerate(completion) if token in ends), default=None)
    if end is None:
        return [*completion, _eos(tokenizer)]
    return completion[: end + 1]


def _template(
    messages: Sequence[Message], row: Dialogue, tokenizer: Tokenizer, *, add_generation_prompt: bool
) -> tuple[int, ...]:
    if not tokenizer.has_chat_template:
        raise ModelError(
            "The model's tokenizer has no chat template, which prompt_format: chat needs.",
            "Use prompt_format: farense, or an instruction-tuned model.",
        )
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        return tuple(
            tokenizer.apply_chat_template(turns, add_generation_prompt=add_generation_prompt)
        )
    except TemplateError as error:
        message = f"the model's chat template refuses the conversation: {error}"
        raise DataError(located(row, message)) from error


def _without_final(eos: int, tokens: list[int]) -> list[int]:
    """Drop the EOS that some tokenizers add to everything they encode."""
    return tokens[:-1] if tokens[-1:] == [eos] else tokens


def _eos(tokenizer: Tokenizer) -> int:
    if tokenizer.eos_token_id is None:
        raise ModelError("The model's tokenizer names no EOS token, so no answer could end.")
    return tokenizer.eos_token_id
