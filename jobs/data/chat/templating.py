"""The chat template of a model, asked for a conversation: its tokens and text, and its refusals."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import orjson
from jinja2 import TemplateError

from jobs.data.examples import Dialogue, located
from jobs.data.messages import ASSISTANT, DEVELOPER, SYSTEM, TOOL, Message, ToolCall
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
        row: whose tools it has, and whose line is named where the template refuses it.
        answer_next: it ends where the assistant's answer begins.

    Raises:
        DataError: the template refuses it, or has no way to write it.
        ModelError: there is no template, or none that can be used.
    """

    def ask(turns: list[dict[str, Any]], tools: list[Any] | None) -> list[int]:
        return tokenizer.templated(turns, tools, answer_next=answer_next)

    return tuple(_asked(messages, row, tokenizer, ask))


def templated_text(
    messages: Sequence[Message], row: Dialogue, tokenizer: Tokenizer, *, answer_next: bool
) -> str:
    """Return the text of a conversation, as :func:`templated` returns its tokens."""

    def ask(turns: list[dict[str, Any]], tools: list[Any] | None) -> str:
        return tokenizer.templated_text(turns, tools, answer_next=answer_next)

    return _asked(messages, row, tokenizer, ask)


def marked(
    messages: Sequence[Message], row: Dialogue, tokenizer: Tokenizer
) -> list[tuple[int, bool]] | None:
    """Return :meth:`jobs.data.tokenizer.Tokenizer.marked` of a conversation; raises as above."""
    return _asked(messages, row, tokenizer, tokenizer.marked)


def check_written(row: Dialogue, tokenizer: Tokenizer) -> None:
    """Check that the template writes all parts of a conversation: many pass over what they do not
    know, and it would be learned without.

    Of earlier answers words may be missing, and thoughts of any: templates shorten them on purpose.
    Where the answer is words alone, they are learned behind the prompt in any case.

    Raises:
        DataError: a part is missing; naming file and line. Or the template refuses them.
        ModelError: there is no template, or none that can be used.
    """
    structure = tuple(map(_structure, row.conversation)), _tool_count(row)
    known = tokenizer.unwritten
    if structure not in known:
        known[structure] = _unwritten(row, tokenizer)
    if (missing := known[structure]) is not None:
        raise DataError(
            located(
                row,
                f"the model's chat template does not write {missing}: the conversation would be "
                "learned without it",
            ),
            "Take it out of the data, or use a model whose template knows it.",
        )


def _asked(
    messages: Sequence[Message],
    row: Dialogue,
    tokenizer: Tokenizer,
    ask: Callable[[list[dict[str, Any]], list[Any] | None], Answer],
) -> Answer:
    turns = turns_of(messages, row, tokenizer)
    try:
        return ask(turns, None if row.tools is None else orjson.loads(row.tools))
    except TEMPLATE_ERRORS as error:
        raise refused(row, error) from error


def turns_of(
    messages: Sequence[Message], row: Dialogue, tokenizer: Tokenizer
) -> list[dict[str, Any]]:
    """Return messages as the template takes them.

    Raises:
        DataError: it has no place for what was thought.
        ModelError: there is no template, or none that can be parsed.
    """
    if not tokenizer.has_chat_template:
        raise ModelError(
            "The model's tokenizer has no chat template, and prompt_format: chat needs one.",
            "Use prompt_format: farense, or an instruction-tuned model.",
        )
    return [_turn(message, row, tokenizer) for message in messages]


def _turn(message: Message, row: Dialogue, tokenizer: Tokenizer) -> dict[str, Any]:
    role = message.role
    if role == DEVELOPER and not tokenizer.template_takes.developer:
        role = SYSTEM  # of which it is the newer name
    turn: dict[str, Any] = {"role": role, "content": message.content}
    if role == TOOL:
        given = {"name": message.name, "tool_call_id": message.tool_call_id}
        return turn | {key: value for key, value in given.items() if value is not None}
    if message.tool_calls:
        turn["tool_calls"] = [_call(call, tokenizer) for call in message.tool_calls]
    if message.reasoning is not None:
        key, marks = reasoning_key(message, tokenizer), tokenizer.marks
        if key is not None:
            turn[key] = message.reasoning
        elif marks is not None:
            opened = f"{marks.start}\n"
            turn["content"] = opened + marks.closing(opened, message.reasoning) + message.content
        else:
            raise DataError(
                located(row, "the model's chat template has no place for an answer's reasoning"),
                "Take it out of the data, or use a model that reasons.",
            )
    return turn


def reasoning_key(message: Message, tokenizer: Tokenizer) -> str | None:
    """Return the key by which the template takes the reasoning of a message; None for none."""
    takes = tokenizer.template_takes
    return takes.reasoning_of_calls if message.tool_calls else takes.reasoning


def _call(call: ToolCall, tokenizer: Tokenizer) -> dict[str, Any]:
    arguments = orjson.loads(call.arguments)
    if tokenizer.template_takes.arguments_as_text:
        arguments = json.dumps(arguments, ensure_ascii=False)  # as templates write an object
    given = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    return given if call.id is None else {"id": call.id, **given}


def _structure(message: Message) -> tuple[Any, ...]:
    return (
        message.role,
        bool(message.content.strip()),
        message.reasoning is not None,
        len(message.tool_calls),
        message.name is None,
        message.tool_call_id is None,
    )


def _tool_count(row: Dialogue) -> int:
    return 0 if row.tools is None else len(orjson.loads(row.tools))


def _unwritten(row: Dialogue, tokenizer: Tokenizer) -> str | None:
    """Return the first part of a conversation that the template does not write; None for none.

    Each part is a word that stands nowhere else, in a conversation that is otherwise the same.
    """
    words: dict[str, str] = {}

    def word(what: str) -> str:
        made = f"parte{len(words)}fim"
        words[made] = what
        return made

    messages = []
    for number, message in enumerate(row.conversation, start=1):
        of = f"of message {number}"
        content = message.content
        calling = number > len(row.context) and bool(message.tool_calls)
        if content.strip() and (message.role != ASSISTANT or calling):
            content = word(f"the words {of} ({message.role})")
        calls = tuple(
            replace(call, arguments=orjson.dumps({"a": word(f"tool call {n} {of}")}).decode())
            for n, call in enumerate(message.tool_calls, start=1)
        )
        messages.append(replace(message, content=content, tool_calls=calls))
    tools = [] if row.tools is None else orjson.loads(row.tools)
    for number, tool in enumerate(tools, start=1):
        tool["function"] = {**tool["function"], "name": word(f'tool {number} of "tools"')}
    asked = replace(row, tools=None if row.tools is None else orjson.dumps(tools).decode())
    # What is learned is an answer behind a prompt, and some write a system message only there.
    text = templated_text(messages[:-1], asked, tokenizer, answer_next=True)
    text += templated_text(messages, asked, tokenizer, answer_next=False)
    return next((what for made, what in words.items() if made not in text), None)


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
