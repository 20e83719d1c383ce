"""Messages and tools as others write them: read as what they mean, or refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.data.messages import Message, RowError, ToolCall, read_messages, read_tools

USER = {"role": "user", "content": "Golos?"}
CALL = {"id": "1", "type": "function", "function": {"name": "golos", "arguments": {"n": 2}}}
CALLS = {"role": "assistant", "tool_calls": [CALL]}
TOOL = {"role": "tool", "tool_call_id": "1", "name": "golos", "content": ""}
ANSWER = {"role": "assistant", "content": "Três."}


def calling(**changes: Any) -> list[dict[str, Any]]:
    return [USER, {"role": "assistant", "tool_calls": [{**CALL, **changes}]}]


def test_a_conversation_with_tools_is_read() -> None:
    developer = {"role": "developer", "content": "Sê breve."}
    found = read_messages([developer, USER, CALLS, TOOL, TOOL, ANSWER, USER, CALLS])
    call = Message("assistant", "", tool_calls=(ToolCall("golos", '{"n":2}', "1"),))
    tool = Message("tool", "", name="golos", tool_call_id="1")
    assert found[:5] == [
        Message("developer", "Sê breve."), Message("user", "Golos?"), call, tool, tool
    ]  # fmt: skip
    assert found[7] == call


@pytest.mark.parametrize("arguments", [{"n": 2}, '{"n": 2}', '{"n":2}'])
def test_arguments_are_text_or_an_object(arguments: object) -> None:
    (*_, found) = read_messages(calling(function={"name": "golos", "arguments": arguments}))
    assert found.tool_calls == (ToolCall("golos", '{"n":2}', "1"),)


@pytest.mark.parametrize("arguments", [None, {}, "{}"])
def test_a_call_may_have_no_arguments(arguments: object) -> None:
    (*_, found) = read_messages(calling(function={"name": "golos", "arguments": arguments}))
    assert found.tool_calls == (ToolCall("golos", "{}", "1"),)


@pytest.mark.parametrize("weight", [0, False, 0.0])
def test_an_earlier_answer_may_be_left_out(weight: object) -> None:
    found = read_messages([USER, {**ANSWER, "weight": weight}, USER, {**ANSWER, "weight": 1}])
    assert [message.learned for message in found] == [True, False, True, True]


REFUSED: list[tuple[list[dict[str, Any]], str]] = [
    ([USER, TOOL, ANSWER], "a tool answers the tool_calls of an assistant; found"),
    ([USER, ANSWER, TOOL, ANSWER], "a tool answers the tool_calls"),
    ([USER, CALLS, TOOL], "ending with assistant; a tool answers"),
    ([USER, CALLS, TOOL, USER, ANSWER], "expected user and assistant in turns"),
    ([USER, {**USER, "role": "developer"}, ANSWER], "expected user and assistant in turns"),
    ([USER, {"role": "function", "content": "3"}, ANSWER], 'found "user", "function"'),
    ([{**USER, "tool_calls": [CALL]}, ANSWER], 'message 1: "tool_calls" is not supported: only an'),
    ([{**USER, "thinking": "hm"}, ANSWER], "only an assistant's message may have it"),
    ([USER, {**ANSWER, "function_call": {"name": "f"}}], 'write it as "tool_calls"'),
    ([USER, {**ANSWER, "reasoning": "a", "thinking": "b"}], "differ; they mean the same"),
    ([USER, {**ANSWER, "reasoning": ["a"]}], '"reasoning": expected text, found a list'),
    ([USER, {"role": "assistant", "content": None}], '"content" is null, and there are no "tool'),
    ([USER, {"role": "assistant", "content": [{"type": "text"}]}], "joins parts that are text"),
    ([USER, {"role": "assistant", "reasoning": "a", "content": ""}], '"content" is empty'),
    ([USER, CALLS, {**TOOL, "content": {"golos": 3}}, ANSWER], 'message 3: "content": expected'),
    ([USER, CALLS, {**TOOL, "name": 3}, ANSWER], 'message 3: "name": expected text'),
    ([USER, {**ANSWER, "tool_calls": CALL}], '"tool_calls": expected a list, found an object'),
    ([USER, {**ANSWER, "tool_calls": ["f"]}], "message 2: tool call 1: expected an object"),
    (calling(function="golos"), 'tool call 1: "function": expected an object, found a string'),
    (calling(function={}), 'tool call 1: "name" is missing'),
    (calling(function={"name": "f", "arguments": "n=2"}), '"arguments": expected a JSON object, '),
    (calling(function={"name": "f", "arguments": [2]}), '"arguments": expected an object, found a'),
    (calling(id=7), '"id": expected text, found a number'),
    ([USER, {**ANSWER, "weight": 0.5}, USER, ANSWER], "an answer is learned or not"),
    ([USER, {**ANSWER, "weight": 0}], 'message 2: "weight" is not supported'),
]


@pytest.mark.parametrize(("messages", "reason"), REFUSED)
def test_what_is_no_conversation_is_refused_with_the_reason(
    messages: list[dict[str, Any]], reason: str
) -> None:
    with pytest.raises(RowError) as caught:
        read_messages(messages)
    assert reason in str(caught.value)


def test_tools_are_a_list_or_its_text_with_or_without_a_wrapping() -> None:
    bare = {"name": "golos", "parameters": {}}
    whole = '[{"type":"function","function":{"name":"golos","parameters":{}}}]'
    assert read_tools([bare]) == read_tools([{"type": "function", "function": bare}]) == whole
    assert read_tools(whole) == whole
    nothing: tuple[object, ...] = (None, "", [], "[]")
    assert [read_tools(value) for value in nothing] == [None] * 4


@pytest.mark.parametrize(
    ("tools", "reason"),
    [
        ("golos", '"tools": expected a list of tools, found text that is no JSON'),
        ({"name": "golos"}, '"tools": expected a list, found an object'),
        (["golos"], '"tools": tool 1: expected an object, found a string'),
        ([{"type": "function", "function": "f"}], 'tool 1: "function": expected an object'),
        ([{"type": "web_search"}], '"tools": tool 1: "name" is missing'),
    ],
)
def test_what_are_no_tools_is_refused_with_the_reason(tools: object, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        read_tools(tools)
    assert reason in str(caught.value)
