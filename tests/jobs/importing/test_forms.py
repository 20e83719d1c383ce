"""What rows of other forms say in ours, and which form they have."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.data.messages import RowError
from jobs.importing.forms import forms_of, handed_on, kept_beside, without_form

ASK, ANSWER = (
    {"role": "user", "content": "Que horas são?"},
    {"role": "assistant", "content": "Dez."},
)
TOOL = {"name": "horas", "parameters": {"type": "object", "properties": {}}}
CALL = {
    "id": "call00001",
    "type": "function",
    "function": {"name": "horas", "arguments": '{"onde":"Faro"}'},
}


def ours(row: dict[str, Any]) -> dict[str, Any]:
    (form,) = forms_of(frozenset(row))
    return form.row(row)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"query": "a", "answer": "b"}, {"prompt": "a", "completion": "b"}),
        ({"prompt": "a", "output": "b"}, {"prompt": "a", "completion": "b"}),
        ({"instruction": "a", "input": "", "output": "b", "text": "a b"},
         {"prompt": "a", "completion": "b"}),
        ({"instruction": "a", "context": "c", "response": "b"},
         {"prompt": "a\n\nc", "completion": "b"}),
        ({"system_prompt": "S", "question": "a", "response": "b"},
         {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "a"},
                       {"role": "assistant", "content": "b"}]}),
        ({"system_prompt": "", "question": "a", "response": "b"},
         {"prompt": "a", "completion": "b"}),
        ({"instruction": "a", "output": "b", "system": "S", "history": [["c", "d"]]},
         {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "c"},
                       {"role": "assistant", "content": "d"}, {"role": "user", "content": "a"},
                       {"role": "assistant", "content": "b"}]}),
        ({"messages": json.dumps([ASK, ANSWER])}, {"messages": [ASK, ANSWER]}),
        ({"conversations": [ASK, {**ANSWER, "tool_calls": None}]}, {"messages": [ASK, ANSWER]}),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"},
                                                    {"type": "text", "text": "b"}]}, ANSWER]},
         {"messages": [{"role": "user", "content": "ab"}, ANSWER]}),
        ({"text": "a"}, {"text": "a"}),
    ],
)  # fmt: skip
def test_what_a_row_says(row: dict[str, Any], expected: dict[str, Any]) -> None:
    assert ours(row) == expected


def test_calls_of_sharegpt_are_those_of_openai() -> None:
    row = {
        "tools": json.dumps([TOOL]),
        "conversations": [
            {"from": "human", "value": "Que horas são?"},
            {"from": "function_call",
             "value": json.dumps({"name": "horas", "arguments": {"onde": "Faro"}})},
            {"from": "observation", "value": "10:00"},
            {"from": "gpt", "value": "Dez."},
        ],
    }  # fmt: skip
    assert ours(row) == {
        "messages": [
            ASK,
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "content": "10:00", "tool_call_id": "call00001"},
            ANSWER,
        ],
        "tools": [{"type": "function", "function": TOOL}],
    }


def test_calls_of_openai_go_through() -> None:
    turns = [
        ASK,
        {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "Pois."},
        {"role": "tool", "content": "10:00", "tool_call_id": "call00001", "name": "horas"},
        ANSWER,
    ]
    tools = [{"type": "function", "function": TOOL}]
    assert ours({"messages": turns, "tools": tools}) == {"messages": turns, "tools": tools}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "a", "answer": None}, '"answer" is empty'),
        ({"question": 7, "answer": "b"}, '"question": expected text, found 7'),
        ({"instruction": "a", "input": ["x"], "output": "b"}, '"input": expected text'),
        ({"instruction": "a", "output": "b", "history": [["x"]]}, "pairs of question and answer"),
        ({"messages": "não"}, "expected a list of messages"),
        ({"conversations": [{"from": "narrator", "value": "x"}]}, "nobody is called 'narrator'"),
        ({"conversations": [{"from": "function_call", "value": "x"}]}, "a call as JSON"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
         r"no text \(image_url\)"),
        ({"messages": [ASK, ANSWER], "tools": "x"}, '"tools": expected a list'),
        ({"messages": [ASK, ANSWER], "system": 7}, '"system": expected text'),
        ({"messages": [{"role": "system", "content": "S"}, ASK, ANSWER], "system": "T"},
         "another stands beside it"),
    ],
)  # fmt: skip
def test_a_row_that_is_refused_says_why(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        ours(row)


@pytest.mark.parametrize(
    "keys",
    [
        {"prompt", "completion", "response"},
        {"question", "query", "answer"},
        {"messages", "conversations"},
        {"messages", "prompt", "completion"},
        {"instruction", "output", "response"},
        {"instruction", "output", "prompt"},
    ],
)
def test_keys_that_fit_several_forms(keys: set[str]) -> None:
    assert len(forms_of(frozenset(keys))) > 1


@pytest.mark.parametrize("keys", [{"a"}, {"prompt"}, {"prompt", "chosen", "rejected"}, set[str]()])
def test_keys_of_no_form(keys: set[str]) -> None:
    assert forms_of(frozenset(keys)) == ()
    assert without_form(keys)


def test_what_changes_what_is_learned_goes_along() -> None:
    row = {"question": "a", "answer": "b", "weight": 0, "tools": [TOOL], "functions": [], "id": 1}
    (form,) = forms_of(frozenset(row))
    assert handed_on(row, form) == {"weight": 0, "tools": [TOOL]}
    assert kept_beside(row, form) == ({"id": 1}, [])


def test_metadata_as_text_and_labels_that_json_cannot_hold() -> None:
    row = {"text": "a", "metadata": '{"tipo": "x"}', "n": float("nan"), "m": 2**70, "b": b"x"}
    (form,) = forms_of(frozenset(row))
    assert kept_beside(row, form) == ({"tipo": "x"}, ["n", "m", "b"])
