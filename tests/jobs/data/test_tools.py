"""Tools and reasoning: as each family's template writes them, and what of it is learned.

The expectations are marked by hand: what is learned stands between « and ».
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.data.examples import Dialogue, read_examples
from jobs.data.reasoning import Frame
from jobs.data.tokenize import cut, encode_example, reference_text
from jobs.data.tokenizer import TemplateSettings, Thinking, Tokenizer
from jobs.errors import DataError
from jobs.model.load import load_tokenizer
from tests.helpers.byte_tokenizer import byte_tokenizer
from tests.helpers.engines import NO_DROPOUT, Rig, plain_loss
from tests.helpers.families import make_family
from tests.helpers.tool_families import TOOL_FAMILIES

GOALS = {"type": "function", "function": {"name": "golos", "parameters": {"type": "object"}}}
GOALS_TEXT = json.dumps(GOALS)
ARGUMENTS = {"jogo": "Olhão", "n": 2}
ARGUMENTS_TEXT = '{"jogo": "Olhão", "n": 2}'
CALL = {
    "id": "a1b2c3d4e",
    "type": "function",
    "function": {"name": "golos", "arguments": ARGUMENTS},
}
TALK: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Sê breve."},
        {"role": "user", "content": "Onde joga?"},
        {"role": "assistant", "content": "Em Faro."},
        {"role": "user", "content": "E quando?"},
        {"role": "assistant", "content": "Hoje."},
    ]
}
TOOLS: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "Golos?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "name": "golos", "tool_call_id": "a1b2c3d4e", "content": "3"},
        {"role": "assistant", "content": "Três."},
    ],
    "tools": [GOALS],
}
THOUGHT: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "Onde joga?"},
        {"role": "assistant", "content": "Em Faro.", "reasoning_content": "No Algarve."},
    ]
}
# The last turn of such an agent: it thinks before the call, and again after the answer.
THOUGHT_TOOLS: dict[str, Any] = {
    "messages": [
        TOOLS["messages"][0],
        {**TOOLS["messages"][1], "reasoning_content": "Procuro."},
        TOOLS["messages"][2],
        {**TOOLS["messages"][3], "reasoning_content": "São três."},
    ],
    "tools": [GOALS],
}

CHATML_CALL = f'<tool_call>\n{{"name": "golos", "arguments": {ARGUMENTS_TEXT}}}\n</tool_call>'
CHATML_TOOLS = f"<|im_start|>system\n# Tools\n<tools>\n{GOALS_TEXT}\n</tools><|im_end|>\n"
CHATML_TALK = (
    "<|im_start|>system\nSê breve.<|im_end|>\n<|im_start|>user\nOnde joga?<|im_end|>\n"
    "<|im_start|>assistant\n«Em Faro.<|im_end|>»\n<|im_start|>user\nE quando?<|im_end|>\n"
    "<|im_start|>assistant\n«Hoje.<|im_end|>»"
)
CHATML_CALLED = (
    f"{CHATML_TOOLS}<|im_start|>user\nGolos?<|im_end|>\n"
    f"<|im_start|>assistant\n«{CHATML_CALL}<|im_end|>»\n"
    "<|im_start|>user\n<tool_response>\n3\n</tool_response><|im_end|>\n"
    "<|im_start|>assistant\n«Três.<|im_end|>»"
)
LLAMA_HEAD = "<s><|start_header_id|>system<|end_header_id|>\n\n"
LLAMA_USER = "<|start_header_id|>user<|end_header_id|>\n\n"
LLAMA_ANSWER = "<|start_header_id|>assistant<|end_header_id|>\n\n"

EXPECTED: dict[tuple[str, str], str] = {
    ("chatml", "talk"): CHATML_TALK,
    ("chatml", "tools"): CHATML_CALLED,
    ("marked", "talk"): CHATML_TALK,
    ("marked", "tools"): CHATML_CALLED,
    ("marked", "thought"): (
        "<|im_start|>user\nOnde joga?<|im_end|>\n<|im_start|>assistant\n"
        "«<think>\nNo Algarve.\n</think>\nEm Faro.<|im_end|>»"
    ),
    ("llama3", "talk"): (
        f"{LLAMA_HEAD}Sê breve.<|eot_id|>{LLAMA_USER}Onde joga?<|eot_id|>"
        f"{LLAMA_ANSWER}«Em Faro.<|eot_id|>»{LLAMA_USER}E quando?<|eot_id|>"
        f"{LLAMA_ANSWER}«Hoje.<|eot_id|>»"
    ),
    ("llama3", "tools"): (
        f"{LLAMA_HEAD}Environment: ipython\n<|eot_id|>{LLAMA_USER}{GOALS_TEXT}\n\nGolos?<|eot_id|>"
        f'{LLAMA_ANSWER}«{{"name": "golos", "parameters": {ARGUMENTS_TEXT}}}<|eot_id|>»'
        '<|start_header_id|>ipython<|end_header_id|>\n\n"3"<|eot_id|>'
        f"{LLAMA_ANSWER}«Três.<|eot_id|>»"
    ),
    ("mistral", "talk"): (
        "<s>[INST]Sê breve.\n\nOnde joga?[/INST]« Em Faro.</s>»[INST]E quando?[/INST]« Hoje.</s>»"
    ),
    ("mistral", "tools"): (
        f"<s>[AVAILABLE_TOOLS][{GOALS_TEXT}][/AVAILABLE_TOOLS][INST]Golos?[/INST]"
        f'«[TOOL_CALLS][{{"name": "golos", "arguments": {ARGUMENTS_TEXT}, "id": "a1b2c3d4e"}}]'
        '</s>»[TOOL_RESULTS]{"content": 3, "call_id": "a1b2c3d4e"}[/TOOL_RESULTS]« Três.</s>»'
    ),
    ("gemma", "talk"): (
        "<s><start_of_turn>developer\nSê breve.<end_of_turn>\n"
        "<start_of_turn>user\nOnde joga?<end_of_turn>\n"
        "<start_of_turn>model\n«Em Faro.<end_of_turn>»\n"
        "<start_of_turn>user\nE quando?<end_of_turn>\n"
        "<start_of_turn>model\n«Hoje.<end_of_turn>»"
    ),
    ("gemma", "tools"): (
        "<s><start_of_turn>developer\n<start_function_declaration>declaration:golos"
        "<end_function_declaration><end_of_turn>\n"
        "<start_of_turn>user\nGolos?<end_of_turn>\n<start_of_turn>model\n"
        "«<start_function_call>call:golos{jogo:Olhão,n:2}<end_function_call>"
        "<start_function_response>»response:golos{value:3}<end_function_response>"
        "«Três.<end_of_turn>»"
    ),
    # Of such a talk the template drops what stood before the earlier answer: the last alone.
    ("qwen3", "talk"): (
        "<|im_start|>system\nSê breve.<|im_end|>\n<|im_start|>user\nOnde joga?<|im_end|>\n"
        "<|im_start|>assistant\nEm Faro.<|im_end|>\n<|im_start|>user\nE quando?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n«Hoje.<|im_end|>»"
    ),
    ("qwen3", "thought"): (
        "<|im_start|>user\nOnde joga?<|im_end|>\n<|im_start|>assistant\n"
        "«<think>\nNo Algarve.\n</think>\n\nEm Faro.<|im_end|>»"
    ),
    ("qwen3", "thought tools"): (
        f"{CHATML_TOOLS}<|im_start|>user\nGolos?<|im_end|>\n<|im_start|>assistant\n"
        f"«<think>\nProcuro.\n</think>\n\n{CHATML_CALL}<|im_end|>»\n"
        "<|im_start|>user\n<tool_response>\n3\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n«<think>\nSão três.\n</think>\n\nTrês.<|im_end|>»"
    ),
}
ROWS = {"talk": TALK, "tools": TOOLS, "thought": THOUGHT, "thought tools": THOUGHT_TOOLS}
# These have no place for what was thought.
THOUGHTLESS = ("chatml", "llama3", "mistral", "gemma")


def family(
    name: str, tiny_model: Path, tmp_path: Path, *, thinking: Thinking = "off", every: bool = True
) -> Tokenizer:
    folder = make_family(name, tiny_model, tmp_path / name, TOOL_FAMILIES[name])
    return load_tokenizer(folder, TemplateSettings(thinking, all_answers=every))


def row_of(values: dict[str, Any], tmp_path: Path) -> Dialogue:
    file = tmp_path / "talk.jsonl"
    file.write_text(json.dumps(values) + "\n")
    (row,) = read_examples(file)
    assert isinstance(row, Dialogue)
    return row


def marked_by_hand(tokens: tuple[int, ...], expected: str, tokenizer: Tokenizer) -> list[int]:
    """Return which tokens the hand has marked, after a look whether the text is that."""
    assert tokenizer.decode(tokens) == expected.replace("«", "").replace("»", "")
    inside, learned, place = False, [], 0
    spans: list[bool] = []
    for character in expected:
        if character in "«»":
            inside = character == "«"
        else:
            spans.append(inside)
    for index in range(len(tokens)):
        # A token that is a part of a character only adds nothing to the text.
        text = tokenizer.decode(tokens[: index + 1]).rstrip("\ufffd")
        if spans[min(place, len(spans) - 1)]:
            learned.append(index)
        place = len(text)
    return learned


@pytest.mark.parametrize(("name", "talk"), EXPECTED)
def test_what_is_learned_is_what_the_hand_has_marked(
    name: str, talk: str, tiny_model: Path, tmp_path: Path
) -> None:
    thinking: Thinking = "on" if "thought" in talk else "off"
    every = (name, talk) != ("qwen3", "talk")
    tokenizer = family(name, tiny_model, tmp_path, thinking=thinking, every=every)
    row = row_of(ROWS[talk], tmp_path)
    encoded = encode_example(row, tokenizer, "chat")
    learned = marked_by_hand(encoded.tokens, EXPECTED[name, talk], tokenizer)
    (example,) = cut([encoded], mask_prompt=True, max_seq_length=4096).examples
    between = {index for start, end in example.gaps for index in range(start, end)}
    positions = sorted({*range(example.prompt_length, len(example.tokens))} - between)
    assert positions == learned

    rig = Rig(tmp_path / name, (example,), lora=NO_DROPOUT)
    rig.move_adapter()
    (piece,) = rig.all()
    losses = rig.losses(piece)
    assert len(losses) == len(learned)
    assert losses.mean() == pytest.approx(plain_loss(rig.module, (example,)), rel=1e-5)


def test_a_template_that_drops_earlier_thoughts_is_told_of(
    tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = family("qwen3", tiny_model, tmp_path)
    with pytest.raises(
        DataError, match=r"talk.jsonl, line 1: loss_on: all_answers.*message 3, token \d+ is '<th"
    ):
        encode_example(row_of(TALK, tmp_path), tokenizer, "chat")


@pytest.mark.parametrize("name", THOUGHTLESS)
def test_a_template_without_a_place_for_thoughts_is_told_of(
    name: str, tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = family(name, tiny_model, tmp_path)
    with pytest.raises(DataError, match=r"talk.jsonl, line 1: .* no place for an answer's reason"):
        encode_example(row_of(THOUGHT, tmp_path), tokenizer, "chat")


def test_thoughts_are_not_learned_behind_a_prompt_that_has_none(
    tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = family("qwen3", tiny_model, tmp_path, thinking="off")
    with pytest.raises(DataError, match=r"line 1: the answer holds reasoning") as caught:
        encode_example(row_of(THOUGHT, tmp_path), tokenizer, "chat")
    assert "Set thinking: on" in str(caught.value.hint)


@pytest.mark.parametrize("key", ["reasoning", "thinking"])
def test_reasoning_has_three_names(key: str, tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = family("qwen3", tiny_model, tmp_path, thinking="on")
    answer = THOUGHT["messages"][1]
    renamed = {"role": "assistant", "content": answer["content"], key: "No Algarve."}
    other = {"messages": [THOUGHT["messages"][0], renamed]}
    rows = row_of(THOUGHT, tmp_path), row_of(other, tmp_path)
    assert rows[0] == rows[1]
    assert encode_example(rows[1], tokenizer, "chat").learned > 10


@pytest.mark.parametrize("name", ["chatml", "llama3", "gemma"])
def test_arguments_as_text_and_a_bare_tool_are_the_same(
    name: str, tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = family(name, tiny_model, tmp_path)
    question, call, *rest = TOOLS["messages"]
    as_text = {"name": "golos", "arguments": json.dumps(ARGUMENTS), "id": "a1b2c3d4e"}
    row = {
        "messages": [question, {**call, "tool_calls": [as_text]}, *rest],
        "tools": json.dumps([GOALS["function"]]),
    }
    found = [encode_example(row_of(r, tmp_path), tokenizer, "chat") for r in (TOOLS, row)]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "call",
    [
        # As in Mistral's: an object would make HTML's entities of the quotes before it.
        "{% set a = c.function.arguments %}{% if a is not string %}"
        "{% set a = a | tojson | safe %}{% endif %}"
        "{{ '[' + c.function.name + '' + a + ']' + '\"' | replace('\"', '') }}",
        "{{ '[' + c.function.name + c.function.arguments + ']' }}",
        "[{{ c.function.name }}{{ c.function.arguments }}]",
    ],
)
def test_a_template_that_wants_arguments_as_text_gets_text(call: str, tmp_path: Path) -> None:
    template = (
        "{% if tools %}{{ tools[0].function.name }}{% endif %}"
        "{% for m in messages %}<|turn|>{{ m.role }}:{{ m.content }}"
        "{% for c in m.tool_calls or [] %}" + call + "{% endfor %}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|turn|>assistant:{% endif %}"
    )
    tokenizer = byte_tokenizer(template, eos_token="<|end|>")  # noqa: S106
    row = row_of({**TOOLS, "messages": TOOLS["messages"][:2]}, tmp_path)
    found = encode_example(row, tokenizer, "chat")
    learned = tokenizer.decode(found.tokens[found.completion_start :])
    assert learned == f"[golos{ARGUMENTS_TEXT}]<|end|>"


UNWRITTEN = "<|turn|>{{ m.role }}:{{ m.content }}<|end|>"
PLAIN = (
    "{% for m in messages %}WRITES{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant:{% endif %}"
)
WRITES_CALLS = UNWRITTEN.replace(
    "<|end|>", "{% for c in m.tool_calls or [] %}{{ c.function.arguments.get('jogo', 0) }}"
    "{{ c.function | tojson }}{% endfor %}<|end|>"
)  # fmt: skip
FIRST_CALL = UNWRITTEN.replace(
    "<|end|>", "{% if m.tool_calls %}{{ m.tool_calls[0] | tojson }}{% endif %}<|end|>"
)
NO_SYSTEM = "{% if m.role != 'system' %}" + UNWRITTEN + "{% endif %}"
CALLS_ALONE = (
    "<|turn|>{{ m.role }}:{% if m.tool_calls %}{{ m.tool_calls | tojson }}"
    "{% else %}{{ m.content }}{% endif %}<|end|>"
)


@pytest.mark.parametrize(
    ("writes", "values", "missing"),
    [
        (UNWRITTEN, TOOLS, "tool call 1 of message 2"),
        (WRITES_CALLS, TOOLS, 'tool 1 of "tools"'),
        (
            FIRST_CALL,
            {
                "messages": [
                    TOOLS["messages"][0],
                    {**TOOLS["messages"][1], "tool_calls": [CALL, CALL]},
                ]
            },
            "tool call 2 of message 2",
        ),
        (NO_SYSTEM, TALK, r"the words of message 1 \(system\)"),
        (
            CALLS_ALONE,
            {
                "messages": [
                    TOOLS["messages"][0],
                    {**TOOLS["messages"][1], "content": "Procuro."},
                ]
            },
            r"the words of message 2 \(assistant\)",
        ),
    ],
)
def test_what_a_template_passes_over_is_told_of(
    writes: str, values: dict[str, Any], missing: str, tmp_path: Path
) -> None:
    tokenizer = byte_tokenizer(PLAIN.replace("WRITES", writes), eos_token="<|end|>")  # noqa: S106
    with pytest.raises(DataError, match=f"line 1: .* does not write {missing}: .* without it"):
        encode_example(row_of(values, tmp_path), tokenizer, "chat")


def test_a_developer_is_a_system_where_the_template_knows_none(tmp_path: Path) -> None:
    knows = PLAIN.replace("WRITES", UNWRITTEN)
    rest = TALK["messages"][1:]
    row = row_of({"messages": [{"role": "developer", "content": "Sê breve."}, *rest]}, tmp_path)
    for template, role in (
        (knows, "developer"),
        (
            PLAIN.replace("WRITES", "{% if m.role != 'developer' %}" + UNWRITTEN + "{% endif %}"),
            "system",
        ),
    ):
        tokenizer = byte_tokenizer(template, eos_token="<|end|>")  # noqa: S106
        text = tokenizer.decode(encode_example(row, tokenizer, "chat").tokens)
        assert text.startswith(f"<|turn|>{role}:Sê breve.<|end|>")


def test_what_a_template_says_of_a_call_is_told_with_the_line(
    tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = family("mistral", tiny_model, tmp_path)
    question, call, *_ = TOOLS["messages"]
    row = {"messages": [question, {**call, "tool_calls": [{**CALL, "id": "1"}]}], "tools": [GOALS]}
    with pytest.raises(DataError, match=r"line 1: .* refuses the conv.*: Tool call IDs should be"):
        encode_example(row_of(row, tmp_path), tokenizer, "chat")


def test_the_farense_format_has_no_tools(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 1: tools and reasoning are written by a chat") as e:
        encode_example(row_of(TOOLS, tmp_path), byte_tokenizer(), "farense")
    assert "prompt_format: chat" in str(e.value.hint)


def test_an_answer_of_weight_0_is_not_learned(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = family("chatml", tiny_model, tmp_path)
    messages = [dict(message) for message in TALK["messages"]]
    messages[2]["weight"] = 0
    found = encode_example(row_of({"messages": messages}, tmp_path), tokenizer, "chat")
    assert tokenizer.decode(found.tokens[found.completion_start :]) == "Hoje.<|im_end|>"
    assert found.gaps == ()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chatml", CHATML_CALL),
        ("llama3", f'{{"name": "golos", "parameters": {ARGUMENTS_TEXT}}}'),
        ("qwen3", CHATML_CALL),
    ],
)
def test_an_answer_that_calls_is_compared_as_the_template_writes_it(
    name: str, expected: str, tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = family(name, tiny_model, tmp_path, thinking="on" if name == "qwen3" else "off")
    row = row_of({**TOOLS, "messages": TOOLS["messages"][:2]}, tmp_path)
    assert reference_text(row, tokenizer, Frame(tokenizer.marks)) == expected


def test_a_call_is_learned_where_the_template_takes_back_the_block_it_opens(
    tmp_path: Path,
) -> None:
    """As QwQ's and DeepSeek-R1's do: the prompt opens a block, the conversation has none."""
    writes = WRITES_CALLS.replace("{{ c.function.arguments.get('jogo', 0) }}", "")
    template = PLAIN.replace("WRITES", writes).replace(
        "assistant:{% endif", "assistant:<think>\n{% endif"
    )
    tokenizer = byte_tokenizer(template, eos_token="<|end|>")  # noqa: S106
    row = row_of({"messages": TOOLS["messages"][:2]}, tmp_path)
    found = encode_example(row, tokenizer, "chat")
    learned = tokenizer.decode(found.tokens[found.completion_start :])
    assert learned == f'\n</think>\n\n{{"name": "golos", "arguments": {ARGUMENTS_TEXT}}}<|end|>'


THINKS = (
    "{% for m in messages %}<|turn|>{{ m.role }}:ANSWER<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant:{% endif %}{# <think> #}"
)


@pytest.mark.parametrize(
    "answer",
    [
        "{{ m.content.split('</think>')[-1] }}",
        "{% if m.role == 'assistant' %}<think></think>{% endif %}{{ m.content }}",
        "{% if m.role == 'assistant' %}[answer]{% endif %}{{ m.content }}",
    ],
)
def test_reasoning_that_is_not_where_the_model_thinks_is_told_of(
    answer: str, tmp_path: Path
) -> None:
    on = TemplateSettings("on")
    tokenizer = byte_tokenizer(THINKS.replace("ANSWER", answer), eos_token="<|end|>", settings=on)  # noqa: S106
    typed = [THOUGHT["messages"][0], {"role": "assistant", "content": "<think>Sul.</think>Faro."}]
    for row in (THOUGHT, {"messages": typed}):
        with pytest.raises(DataError, match=r"line 1: .* does not write the reasoning of the ans"):
            encode_example(row_of(row, tmp_path), tokenizer, "chat")
    plain = byte_tokenizer(
        THINKS.replace("ANSWER", "{{ m.content }}"),
        eos_token="<|end|>",  # noqa: S106
        settings=on,
    )
    found = encode_example(row_of(THOUGHT, tmp_path), plain, "chat")
    learned = plain.decode(found.tokens[found.completion_start :])
    assert learned == "<think>\nNo Algarve.\n</think>\n\nEm Faro.<|end|>"
