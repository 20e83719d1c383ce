"""Every answer of a conversation is learned, and nothing else, with templates of many families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.data.examples import Dialogue, Origin
from jobs.data.messages import Message
from jobs.data.tokenize import EncodedExample, cut, encode_example
from jobs.data.tokenizer import TemplateSettings, Tokenizer
from jobs.errors import DataError
from jobs.model.load import load_tokenizer
from tests.helpers.byte_tokenizer import byte_tokenizer
from tests.helpers.families import FAMILIES, make_family

ASK, ANSWER, AGAIN = "Onde joga?", "Em Faro.", "E quando?"
LAST = "Hoje."
TALK = (Message("user", ASK), Message("assistant", ANSWER), Message("user", AGAIN))
ROW = Dialogue(TALK, LAST, Origin(Path("talk.jsonl"), 7))
WITH_SYSTEM = Dialogue((Message("system", "Sê breve."), *TALK), LAST, ROW.origin)
# Three answers, the first two of them alike.
LONG = Dialogue((*TALK[:2], *TALK), LAST, ROW.origin)

EVERY = TemplateSettings(date="2026-11-27", all_answers=True)
# As every family writes an answer that is followed by a question, up to where generation stops.
LEARNED = {
    "chatml": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "mistral": "</s>",
    "gemma": "<end_of_turn>",
    "phi": "<|end|>",
    "deepseek-v3.1": "</s>",
    "glm": "<|user|>",
    "gpt-oss": "",  # <|end|>, at which nothing stops
}
BEFORE = {"mistral": " ", "glm": "\n", "gpt-oss": "<|channel|>final<|message|>"}
# These write an answer otherwise once the conversation goes on.
REWRITE = {
    "mistral-system": (WITH_SYSTEM, r"Before the answer in message 3, token \d+ is"),
    "qwen3": (ROW, r"Before the answer in message 2, token \d+ is '<think>'"),
    "qwen3.5": (ROW, r"Before the answer in message 2, token \d+ is '<think>'"),
    "qwq": (ROW, r"Before the answer in message 2, token \d+ is '<think>'"),
}
MARKING = (
    "{% for m in messages %}<|turn|>{{ m['role'] }}:"
    "{% if m['role'] == 'assistant' %}{%- generation -%}{{ m['content'] }}INSIDE"
    "{%- endgeneration -%}OUTSIDE{% else %}{{ m['content'] }}<|end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant:{% endif %}"
)


def family(name: str, tiny_model: Path, tmp_path: Path) -> Tokenizer:
    return load_tokenizer(make_family(name, tiny_model, tmp_path / name), EVERY)


def marking(inside: str, outside: str) -> Tokenizer:
    template = MARKING.replace("INSIDE", inside).replace("OUTSIDE", outside)
    return byte_tokenizer(template, eos_token="<|end|>", settings=EVERY)  # noqa: S106


def learned(found: EncodedExample, tokenizer: Tokenizer) -> list[str]:
    """Return the texts that are learned."""
    starts = [found.completion_start, *(end for _, end in found.gaps)]
    ends = [*(start for start, _ in found.gaps), len(found.tokens)]
    return [tokenizer.decode(found.tokens[a:b]) for a, b in zip(starts, ends, strict=True)]


@pytest.mark.parametrize("name", LEARNED)
def test_every_answer_is_learned_with_its_end_and_nothing_else(
    name: str, tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = family(name, tiny_model, tmp_path)
    earlier = f"{BEFORE.get(name, '')}{ANSWER}{LEARNED[name]}"
    last = FAMILIES[name].learned.replace(ANSWER, LAST)
    rows = [ROW, LONG] + ([WITH_SYSTEM] if name != "mistral" else [])
    for row in rows:
        found = encode_example(row, tokenizer, "chat")
        answers = sum(message.role == "assistant" for message in row.context)
        assert learned(found, tokenizer) == [earlier] * answers + [last]
        # The same tokens as where the last answer alone is learned.
        tokenizer.settings = TemplateSettings(date=EVERY.date)
        alone = encode_example(row, tokenizer, "chat")
        tokenizer.settings = EVERY
        assert (alone.tokens, alone.completion_start) == (found.tokens, found.last_answer_start)
        assert found.learned == sum(
            len(tokenizer.encode(text, add_special_tokens=False))
            for text in learned(found, tokenizer)
        )


@pytest.mark.parametrize("name", REWRITE)
def test_a_template_that_rewrites_an_answer_is_told_of(
    name: str, tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = family(name, tiny_model, tmp_path)
    row, expected = REWRITE[name]
    with pytest.raises(
        DataError, match=rf"talk.jsonl, line 7: loss_on: all_answers.*{expected}"
    ) as e:
        encode_example(row, tokenizer, "chat")
    assert "loss_on: last_answer" in str(e.value.hint)
    # A conversation of one answer is none of it.
    one = Dialogue(TALK[:1], LAST)
    last = FAMILIES[name].learned.replace(ANSWER, LAST)
    assert learned(encode_example(one, tokenizer, "chat"), tokenizer) == [last]


@pytest.mark.parametrize(
    ("inside", "outside"), [("<|end|>", ""), ("", "<|end|>"), ("<|end|>\n", ""), ("<|end|> ", "")]
)
def test_the_marks_of_a_template_are_taken(inside: str, outside: str) -> None:
    tokenizer = marking(inside, outside)
    for row, answers in ((ROW, 1), (LONG, 2), (WITH_SYSTEM, 1)):
        found = encode_example(row, tokenizer, "chat")
        assert learned(found, tokenizer) == [f"{ANSWER}<|end|>"] * answers + [f"{LAST}<|end|>"]


def test_a_mark_around_the_header_of_a_turn_teaches_no_header() -> None:
    template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{%- generation -%}"
        "<|turn|>assistant:{{ m['content'] }}<|end|>{%- endgeneration -%}{% else %}"
        "<|turn|>{{ m['role'] }}:{{ m['content'] }}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|turn|>assistant:{% endif %}"
    )
    tokenizer = byte_tokenizer(template, eos_token="<|end|>", settings=EVERY)  # noqa: S106
    found = encode_example(LONG, tokenizer, "chat")
    assert learned(found, tokenizer) == [f"{ANSWER}<|end|>"] * 2 + [f"{LAST}<|end|>"]


def test_marks_do_not_hide_that_an_answer_is_written_otherwise_later() -> None:
    template = MARKING.replace("INSIDE", "<|end|>").replace("OUTSIDE", "")
    template = template.replace(
        "{{ m['content'] }}<|end|>{%- endgen",
        "{{ m['content'] if loop.last else m['content'][:2] }}<|end|>{%- endgen",
    )
    tokenizer = byte_tokenizer(template, eos_token="<|end|>", settings=EVERY)  # noqa: S106
    with pytest.raises(
        DataError, match=r"line 7: loss_on: all_answers.*In the answer in message 2"
    ):
        encode_example(ROW, tokenizer, "chat")


def test_marks_that_leave_an_answer_out_are_told_of() -> None:
    template = MARKING.replace("INSIDE", "<|end|>").replace("OUTSIDE", "")
    template = template.replace("== 'assistant'", "== 'assistant' and loop.last")
    tokenizer = byte_tokenizer(template, eos_token="<|end|>", settings=EVERY)  # noqa: S106
    with pytest.raises(
        DataError, match=r"line 7: the chat template marks 0 answers .*there are 1, or others"
    ):
        encode_example(ROW, tokenizer, "chat")


def test_the_farense_format_and_a_text_have_one_answer() -> None:
    tokenizer = byte_tokenizer(settings=EVERY)
    found = encode_example(Dialogue(TALK[:1], LAST), tokenizer, "farense")
    assert learned(found, tokenizer) == [f"{LAST}</s>"]


def test_a_cut_conversation_ends_with_an_answer() -> None:
    found = EncodedExample(tuple(range(20)), 3, ((6, 10), (14, 17)))

    def kept(longest: int) -> tuple[Any, ...]:
        (example,) = cut([found], mask_prompt=True, max_seq_length=longest).examples
        return len(example.tokens), example.gaps, example.target_count

    assert kept(20) == (20, ((6, 10), (14, 17)), 10)
    assert kept(18) == (18, ((6, 10), (14, 17)), 8)
    assert kept(17) == kept(16) == kept(14) == (14, ((6, 10),), 7)
    assert kept(12) == (12, ((6, 10),), 5)
    assert kept(10) == kept(6) == (6, (), 3)
    assert kept(4) == (4, (), 1)
    assert cut([found], mask_prompt=True, max_seq_length=3).left_out == 1
