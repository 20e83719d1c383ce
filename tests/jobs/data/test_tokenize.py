"""Tokenizing: what the model reads, which of it is learned, what max_seq_length cuts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from jobs.data.examples import Dialogue, Document, Example, Origin
from jobs.data.messages import Message
from jobs.data.tokenize import TokenizedExample, encode_example, prompt_tokens, tokenize
from jobs.errors import DataError, ModelError
from tests.helpers.byte_tokenizer import BOS, EOS, byte_tokenizer

QUESTION = Dialogue((Message("user", "Quem?"),), "Nós.")
FARENSE_PROMPT = "### Pergunta:\nQuem?\n\n### Resposta:\n"

TURN_TEMPLATE = (
    "{% for m in messages %}<|turn|>{{ m['role'] + ':' + m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant:{% endif %}"
)
NO_EOS_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] + ':' + m['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
# Rewrites what came before once there is an answer, as templates of thinking models do.
REWRITING_TEMPLATE = (
    "{% if messages[-1]['role'] == 'assistant' %}[done]{% endif %}"
    "{% for m in messages %}{{ m['content'] }}{% endfor %}"
)
REFUSING_TEMPLATE = "{{ raise_exception('roles must alternate') }}"


def one(row: Example, tokenizer: Any, prompt_format: Any, mask: bool = True) -> TokenizedExample:
    data = tokenize(
        [row], tokenizer, prompt_format=prompt_format, mask_prompt=mask, max_seq_length=512
    )
    assert (data.truncated, data.left_out) == (0, 0)
    return data.examples[0]


def split(tokenizer: Any, example: TokenizedExample) -> tuple[str, str]:
    """Return the text that is given and the text that is learned, special tokens included."""
    given, learned = (
        tokenizer.decode(list(part))
        for part in (
            example.tokens[: example.prompt_length],
            example.tokens[example.prompt_length :],
        )
    )
    return given, learned


def test_farense_format_learns_the_answer_and_its_end() -> None:
    tokenizer = byte_tokenizer()
    example = one(QUESTION, tokenizer, "farense")
    assert split(tokenizer, example) == (f"<s>{FARENSE_PROMPT}", "Nós.</s>")
    assert example.tokens[0] == BOS
    assert example.tokens[-1] == EOS
    assert example.tokens.count(BOS) == example.tokens.count(EOS) == 1


def test_a_system_message_opens_the_prompt() -> None:
    tokenizer = byte_tokenizer()
    row = Dialogue((Message("system", "Sê breve."), Message("user", "Quem?")), "Nós.")
    given, _ = split(tokenizer, one(row, tokenizer, "farense"))
    assert given == "<s>### Pergunta:\nSê breve.\n\nQuem?\n\n### Resposta:\n"


@pytest.mark.parametrize("adds", ["$A", "<s> $A", "<s> $A </s>", "$A </s>"])
def test_every_text_ends_once_whatever_the_tokenizer_adds(adds: str) -> None:
    tokenizer = byte_tokenizer(adds=adds)
    for row in (QUESTION, Document("Somos nós.")):
        example = one(row, tokenizer, "farense")
        assert example.tokens[-1] == EOS
        assert example.tokens.count(EOS) == 1
        assert (example.tokens[0] == BOS) == adds.startswith("<s>")


def test_chat_format_learns_the_answer_up_to_its_end() -> None:
    tokenizer = byte_tokenizer(TURN_TEMPLATE, eos_token="<|end|>")  # noqa: S106
    example = one(QUESTION, tokenizer, "chat")
    given, learned = split(tokenizer, example)
    assert given == "<|turn|>user:Quem?<|end|>\n<|turn|>assistant:"
    assert learned == "Nós.<|end|>"  # without the template's newline


def test_chat_format_ends_at_a_stop_token_that_is_not_the_eos() -> None:
    tokenizer = byte_tokenizer(TURN_TEMPLATE, stops_at=(3,))
    assert split(tokenizer, one(QUESTION, tokenizer, "chat"))[1] == "Nós.<|end|>"


def test_chat_format_appends_the_end_that_a_template_lacks() -> None:
    tokenizer = byte_tokenizer(NO_EOS_TEMPLATE)
    assert split(tokenizer, one(QUESTION, tokenizer, "chat"))[1] == "Nós.\n</s>"


def test_chat_format_with_a_template_that_rewrites_the_prompt() -> None:
    tokenizer = byte_tokenizer(REWRITING_TEMPLATE)
    assert split(tokenizer, one(QUESTION, tokenizer, "chat")) == ("Quem?", "Nós.</s>")


def test_only_the_last_answer_of_a_conversation_is_learned() -> None:
    tokenizer = byte_tokenizer(TURN_TEMPLATE, eos_token="<|end|>")  # noqa: S106
    context = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    given, learned = split(tokenizer, one(Dialogue(context, "d"), tokenizer, "chat"))
    assert learned == "d<|end|>"
    assert given.count("<|turn|>") == 4


@pytest.mark.parametrize("prompt_format", ["farense", "chat"])
def test_generation_starts_from_exactly_the_trained_prompt(prompt_format: Any) -> None:
    tokenizer = byte_tokenizer(TURN_TEMPLATE)
    example = one(QUESTION, tokenizer, prompt_format)
    prompt = prompt_tokens(QUESTION, tokenizer, prompt_format)
    assert prompt == example.tokens[: example.prompt_length]


def test_without_masking_all_but_the_first_token_is_learned() -> None:
    tokenizer = byte_tokenizer()
    masked = one(QUESTION, tokenizer, "farense")
    unmasked = one(QUESTION, tokenizer, "farense", mask=False)
    assert unmasked == TokenizedExample(masked.tokens, prompt_length=1)


def test_a_text_is_learned_whole() -> None:
    tokenizer = byte_tokenizer()
    example = one(Document("Golo!"), tokenizer, "farense")
    assert split(tokenizer, example) == ("<s>", "Golo!</s>")


@pytest.mark.parametrize("mask", [True, False])
def test_max_seq_length_cuts_answers_and_leaves_out_those_with_none_left(mask: bool) -> None:
    tokenizer = byte_tokenizer()
    prompt = len(prompt_tokens(QUESTION, tokenizer, "farense"))
    rows = [
        Dialogue(QUESTION.context, "abc"),  # 3 bytes and EOS: fits
        Dialogue(QUESTION.context, "abcd"),  # loses its EOS
        Dialogue((Message("user", "Quem foi?"),), "abc"),  # 4 bytes longer: no answer left
    ]
    data = tokenize(
        rows, tokenizer, prompt_format="farense", mask_prompt=mask, max_seq_length=prompt + 4
    )
    assert (data.truncated, data.left_out) == (1, 1)
    assert [len(example.tokens) for example in data.examples] == [prompt + 4, prompt + 4]
    assert [example.tokens[-1] == EOS for example in data.examples] == [True, False]
    assert all(example.prompt_length < len(example.tokens) for example in data.examples)


def test_several_turns_are_refused_in_the_farense_format() -> None:
    context = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    row = Dialogue(context, "d", Origin(Path("dados.jsonl"), 7))
    with pytest.raises(DataError, match=r"dados\.jsonl, line 7: .*prompt_format: chat"):
        encode_example(row, byte_tokenizer(), "farense")


def test_a_template_that_refuses_a_conversation_is_a_data_error() -> None:
    row = Dialogue(QUESTION.context, "d", Origin(Path("dados.jsonl"), 7))
    with pytest.raises(DataError, match=r"line 7: .*roles must alternate"):
        encode_example(row, byte_tokenizer(REFUSING_TEMPLATE), "chat")


def test_a_tokenizer_that_cannot_do_it_is_a_model_error() -> None:
    with pytest.raises(ModelError, match="no chat template") as caught:
        encode_example(QUESTION, byte_tokenizer(), "chat")
    assert caught.value.hint is not None
    with pytest.raises(ModelError, match="no EOS token"):
        encode_example(QUESTION, byte_tokenizer(eos_token=None), "farense")


@pytest.mark.parametrize("prompt_format", ["farense", "chat"])
def test_with_the_tokenizer_of_a_model_folder(tiny_model: Path, prompt_format: Any) -> None:
    from jobs.model.load import load_tokenizer

    tokenizer = load_tokenizer(tiny_model)
    rows = [
        Dialogue((Message("user", f"Quem marcou o golo número {n}?"),), "O Farense.")
        for n in range(600)
    ]
    begun = time.perf_counter()
    data = tokenize(
        rows, tokenizer, prompt_format=prompt_format, mask_prompt=True, max_seq_length=512
    )
    assert time.perf_counter() - begun < 3  # a third of a second on two idle cores
    assert len(data.examples) == 600
    for example in data.examples:
        assert split(tokenizer, example)[1] == "O Farense.</s>"
