"""The chat template of a model, asked for a conversation: its tokens and text, and its refusals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from jinja2 import TemplateError

from jobs.data.examples import Dialogue, Message, located
from jobs.data.tokenizer import Tokenizer
from jobs.errors import DataError, ModelError

Answer = TypeVar("Answer")

# What a template, a small program of strangers, may raise: jinja's errors, and those of Python for
# `"a" + none` and the like.
TEMPLATE_ERRORS = (TemplateError, TypeError, ValueError, LookupError, AttributeError)


def templated(
    messages: Sequence[Message], row: Dialogue, tokenizer: Tokenizer, *, answer_next: bool
) -> tuple[int, ...]:
    """Return the tokens of a conversation.

    Args:
        row: whose line is named where the template refuses it.
        answer_next: it ends where the assistant's answer begins.

    Raises:
        DataError: the template refuses it.
        ModelError: there is no template, or none that can be used.
    """
    return tuple(
        _asked(messages, row, tokenizer, partial(tokenizer.templated, answer_next=answer_next))
    )


def templated_text(
    messages: Sequence[Message], row: Dialogue, tokenizer: Tokenizer, *, answer_next: bool
) -> str:
    """Return the text of a conversation, as :func:`templated` returns its tokens."""
    return _asked(
        messages, row, tokenizer, partial(tokenizer.templated_text, answer_next=answer_next)
    )


def marked(
    messages: Sequence[Message], row: Dialogue, tokenizer: Tokenizer
) -> list[tuple[int, bool]] | None:
    """Return :meth:`jobs.data.tokenizer.Tokenizer.marked` of a conversation; raises as above."""
    return _asked(messages, row, tokenizer, tokenizer.marked)


def _asked(
    messages: Sequence[Message],
    row: Dialogue,
    tokenizer: Tokenizer,
    ask: Callable[[list[dict[str, str]]], Answer],
) -> Answer:
    turns = turns_of(messages, tokenizer)
    try:
        return ask(turns)
    except TEMPLATE_ERRORS as error:
        raise refused(row, error) from error


def turns_of(messages: Sequence[Message], tokenizer: Tokenizer) -> list[dict[str, str]]:
    """Return messages as templates take them.

    Raises:
        ModelError: there is no template, or none that can be parsed.
    """
    if not tokenizer.has_chat_template:
        raise ModelError(
            "The model's tokenizer has no chat template, and prompt_format: chat needs one.",
            "Use prompt_format: farense, or an instruction-tuned model.",
        )
    return [{"role": message.role, "content": message.content} for message in messages]


def refused(row: Dialogue, error: Exception) -> DataError:
    """Return the error of a conversation that a template refuses, with what the template said."""
    reason = str(error) or type(error).__name__
    return DataError(located(row, f"the model's chat template refuses the conversation: {reason}"))


def eos_of(tokenizer: Tokenizer) -> int:
    """Return the token that ends a text.

    Raises:
        ModelError: there is none.
    """
    if tokenizer.eos_token_id is None:
        raise ModelError("The model's tokenizer names no EOS token, so no answer could end.")
    return tokenizer.eos_token_id


def stops_of(tokenizer: Tokenizer) -> set[int]:
    """Return the tokens at which generation stops; raises as :func:`eos_of`."""
    return tokenizer.eos_token_ids | {eos_of(tokenizer)}
