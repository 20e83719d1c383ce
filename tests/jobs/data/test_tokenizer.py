"""The tokenizer of a job: where generation stops, what a chat template is told, what is learned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from jobs.config.config import config_from
from jobs.data.examples import Dialogue, Document, Example
from jobs.data.messages import Message
from jobs.data.prompts import PromptFormat
from jobs.data.reasoning import Frame, Marks
from jobs.data.token_cache import encoded
from jobs.data.tokenize import encode_example, frame_of, prompt_tokens, reference_text
from jobs.data.tokenizer import TemplateSettings, Thinking, Tokenizer
from jobs.errors import DataError, ModelError
from jobs.model.load import load_tokenizer
from tests.helpers.byte_tokenizer import BOS, EOS, byte_tokenizer
from tests.helpers.families import EMPTY, FAMILIES, THINK, make_family
from tests.helpers.runs import SETTINGS, write_rows

ROW = Dialogue((Message("user", "Onde joga o Farense?"),), "Em Faro.")
SYSTEM = Message("system", "Sê breve.")
DAY = "2026-11-27"
OFF: Thinking = "off"
ON: Thinking = "on"
# Families whose prompt, without a switch, holds an open block.
OPEN = ("qwq",)


def tokenizer_of(name: str, tiny_model: Path, tmp_path: Path, **settings: Any) -> Tokenizer:
    folder = make_family(name, tiny_model, tmp_path / name)
    values = {**SETTINGS, "data": {"train": "t.jsonl"}, "prompt_format": "chat"}
    config = config_from(values | FAMILIES[name].settings | settings, "test")
    return load_tokenizer(folder, TemplateSettings.of(config, DAY))


def parts(row: Example, tokenizer: Tokenizer, style: PromptFormat = "chat") -> tuple[str, str]:
    """Return the texts that are given and learned, special tokens included."""
    found = encode_example(row, tokenizer, style)
    start = found.completion_start
    return tokenizer.decode(found.tokens[:start]), tokenizer.decode(found.tokens[start:])


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_learns_the_answer_after_its_own_prompt(
    name: str, tiny_model: Path, tmp_path: Path
) -> None:
    family, tokenizer = FAMILIES[name], tokenizer_of(name, tiny_model, tmp_path)
    given, learned = parts(ROW, tokenizer)
    assert given.endswith(family.in_prompt)
    assert learned == family.learned
    prompt = prompt_tokens(ROW, tokenizer, "chat")
    found = encode_example(ROW, tokenizer, "chat")
    assert found.tokens[: found.completion_start] == prompt
    # Generation stops at the last token that was learned, and at none before it.
    ends = [token in tokenizer.eos_token_ids for token in found.tokens[found.completion_start :]]
    assert ends == [False] * (len(ends) - 1) + [True]
    assert given.count("<s>") == (1 if "bos_token" in str(family.template) else 0)


@pytest.mark.parametrize("name", ["mistral-system", "chatml", "qwq"])
def test_a_system_message_is_in_the_prompt_and_the_answer_alone_is_learned(
    name: str, tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = tokenizer_of(name, tiny_model, tmp_path)
    given, learned = parts(Dialogue((SYSTEM, *ROW.context), ROW.completion), tokenizer)
    assert "Sê breve." in given
    assert learned == FAMILIES[name].learned


@pytest.mark.parametrize(
    ("name", "given_ends", "learned"),
    [
        ("qwen3", "assistant\n", "<think>\nÉ no Algarve.\n</think>\n\nEm Faro.<|im_end|>"),
        ("qwen3.5", "<think>\n", "É no Algarve.\n</think>\n\nEm Faro.<|im_end|>"),
        ("qwq", "<think>\n", "É no Algarve.\n</think>\n\nEm Faro.<|im_end|>"),
        ("deepseek-v3.1", "<think>", "É no Algarve.</think>Em Faro.</s>"),
    ],
)
def test_reasoning_in_the_data_is_learned_with_thinking_on(
    name: str, given_ends: str, learned: str, tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = tokenizer_of(name, tiny_model, tmp_path, thinking="on")
    row = Dialogue(ROW.context, "<think>\nÉ no Algarve.\n</think>\n\nEm Faro.")
    found = parts(row, tokenizer)
    assert found[0].endswith(given_ends)
    assert found[1] == learned
    assert reference_text(row, tokenizer, Frame(tokenizer.marks)) == "Em Faro."


@pytest.mark.parametrize("name", ["qwen3", "qwen3.5", "deepseek-v3.1", "glm"])
def test_reasoning_after_a_prompt_that_says_there_is_none_is_refused(
    name: str, tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = tokenizer_of(name, tiny_model, tmp_path)
    row = Dialogue(ROW.context, "<think>\nÉ no Algarve.\n</think>\n\nEm Faro.")
    with pytest.raises(DataError, match="thinking: off") as raised:
        encode_example(row, tokenizer, "chat")
    assert "thinking: on" in (raised.value.hint or "")


WRITES_ANY = (
    "{% if reasoning_effort is not defined %}medium{% else %}{{ reasoning_effort }}{% endif %}"
)
KNOWS_NONE = "{{ reasoning_effort if reasoning_effort in ['none', 'high'] else 'other' }}"
KNOWS_NO_THINK = "{{ {'no_think': 0, 'low': 1, 'high': 2}[reasoning_effort] }}"
HAS_A_DEFAULT = "{{ reasoning_effort | default('xhigh') }}"
HAS_A_SWITCH = "{{ enable_thinking }} {{ reasoning_effort | default('left') }}"


@pytest.mark.parametrize(
    ("template", "off", "on"),
    [
        (WRITES_ANY, "low", "medium"),
        (KNOWS_NONE, "none", "high"),
        (KNOWS_NO_THINK, "0", "2"),
        (HAS_A_DEFAULT, "low", "xhigh"),
        (HAS_A_SWITCH, "False left", "True left"),
    ],
)
def test_an_effort_is_named_in_the_words_of_the_template(
    template: str, off: str, on: str, tiny_model: Path, tmp_path: Path
) -> None:
    folder = make_family("chatml", tiny_model, tmp_path / "model")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    turns = [{"role": "user", "content": "Onde?"}]
    written = [
        load_tokenizer(folder, TemplateSettings(thinking)).templated_text(turns, answer_next=True)
        for thinking in (OFF, ON)
    ]
    assert written == [off, on]


def test_what_a_template_writes_around_an_answer_is_none_of_it(
    tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = tokenizer_of("gpt-oss", tiny_model, tmp_path)
    frame = frame_of(ROW, tokenizer, "chat")
    said = "<|channel|>final<|message|>Em Faro."
    assert (frame.head, frame.tail) == ("<|channel|>final<|message|>", "")
    assert frame.parts(said) == (None, "Em Faro.")
    thought = "<|channel|>analysis<|message|>No sul.<|end|>"
    assert frame.parts(f"{thought}<|start|>assistant{said}") == ("No sul.", "Em Faro.")
    assert frame.parts(thought) == ("No sul.", "")
    assert frame.may_reason
    # Where an answer is put between marks of its own, they are none of it either.
    folder = make_family("chatml", tiny_model, tmp_path / "model")
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text())
    marked = "<answer> {{ m['content'] }} </answer>"
    template = values["chat_template"].replace(
        "{% if m['role'] == 'assistant' %}{{ m['content'] }}",
        "{% if m['role'] == 'assistant' %}" + marked,
    )
    path.write_text(json.dumps(values | {"chat_template": template}))
    between = frame_of(ROW, load_tokenizer(folder), "chat")
    assert (between.head, between.tail) == ("<answer>", "</answer>")
    assert between.parts("<answer> Em Faro. </answer>") == (None, "Em Faro.")
    assert between.parts("Em Faro.") == (None, "Em Faro.")
    assert not between.may_reason


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("qwen3", Frame(Marks(*THINK), closed=True)),
        ("qwq", Frame(Marks(*THINK), opened=True)),
        ("deepseek-v3.1", Frame(Marks(*THINK), closed=True)),
        ("mistral", Frame()),
        ("named", Frame()),
    ],
)
def test_white_space_and_reasoning_are_no_marks_of_an_answer(
    name: str, frame: Frame, tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = tokenizer_of(name, tiny_model, tmp_path)
    assert frame_of(ROW, tokenizer, "chat") == frame


def test_an_open_block_is_closed_where_the_answer_has_no_reasoning(
    tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = tokenizer_of("qwen3.5", tiny_model, tmp_path, thinking="on")
    given, learned = parts(ROW, tokenizer)
    assert given.endswith("<think>\n")
    assert learned == "\n</think>\n\nEm Faro.<|im_end|>"


def test_the_ends_of_config_and_generation_config_stop_generation(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = make_family("gemma", tiny_model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    ends = set(config["eos_token_id"])
    assert len(ends) == 2
    assert load_tokenizer(folder).eos_token_ids == ends
    # What generation_config.json says goes before.
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 2]}))
    assert load_tokenizer(folder).eos_token_ids == {1, 2}
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    assert load_tokenizer(folder).eos_token_ids == {1, 2}  # with the tokenizer's own
    (folder / "generation_config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": None}))
    assert load_tokenizer(folder).eos_token_ids == {1}


def test_an_end_at_which_nothing_stops_is_replaced_by_the_eos(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = make_family("chatml", tiny_model, tmp_path / "model")
    for name, key, value in (
        ("config.json", "eos_token_id", 1),
        ("tokenizer_config.json", "eos_token", "</s>"),
    ):
        values = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(values | {key: value}))
    tokenizer = load_tokenizer(folder)
    assert parts(ROW, tokenizer)[1] == "Em Faro.</s>"
    row = Dialogue(ROW.context, "Em Faro.<|im_end|>")
    assert reference_text(row, tokenizer, Frame(tokenizer.marks)) == "Em Faro."


@pytest.mark.parametrize("style", ["farense", "chat"])
@pytest.mark.parametrize("written", ["<|im_end|>", "<|im_end|>\n", "\n<|im_end|>", "</s>"])
def test_an_end_that_the_file_has_already_is_learned_once(
    style: PromptFormat, written: str, tiny_model: Path, tmp_path: Path
) -> None:
    name = "mistral" if written == "</s>" else "chatml"
    tokenizer = tokenizer_of(name, tiny_model, tmp_path)
    row = Dialogue(ROW.context, f"Em Faro.{written}")
    assert encode_example(row, tokenizer, style) == encode_example(ROW, tokenizer, style)
    assert reference_text(row, tokenizer, Frame(tokenizer.marks)) == "Em Faro."


def test_a_completion_that_is_an_end_alone_is_refused() -> None:
    with pytest.raises(DataError, match="nothing else"):
        encode_example(Dialogue(ROW.context, "</s>"), byte_tokenizer(), "farense")


@pytest.mark.parametrize("adds", ["$A", "<s> $A", "<s> $A </s>"])
@pytest.mark.parametrize("text", ["[INST] Quem? [/INST] Nós.", "<s>[INST] Quem? [/INST] Nós.</s>"])
def test_a_text_begins_and_ends_once(adds: str, text: str) -> None:
    tokenizer = byte_tokenizer(adds=adds)
    tokens = encode_example(Document(text), tokenizer, "farense").tokens
    begins = adds.startswith("<s>") or text.startswith("<s>")
    assert (tokens.count(BOS), tokens.count(EOS)) == (int(begins), 1)
    assert tokens[-1] == EOS
    assert (tokens[0] == BOS) == begins


def sentencepiece(tiny_model: Path, folder: Path) -> Path:
    """Return a model whose tokenizer writes a space before a text, as that of Llama 2 does."""
    from tokenizers import Tokenizer as Fast
    from tokenizers import decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.processors import TemplateProcessing
    from tokenizers.trainers import BpeTrainer

    from jobs.model_store.tiny import SENTENCES

    shutil.copytree(tiny_model, folder)
    fast = Fast(BPE(unk_token="<unk>", fuse_unk=True))  # noqa: S106 - not a password
    fast.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    steps = [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    fast.decoder = decoders.Sequence(steps)
    special = ["<s>", "</s>", "<pad>", "<unk>"]
    trainer = BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    fast.train_from_iterator([*SENTENCES, "[INST] Onde joga? [/INST]\n\n"], trainer)
    fast.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("answer", ["Em Faro.", " Em Faro.", "\nEm Faro."])
@pytest.mark.parametrize("style", ["farense", "chat"])
def test_an_answer_gets_no_space_that_the_file_does_not_have(
    style: PromptFormat, answer: str, tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(sentencepiece(tiny_model, tmp_path / "model"))
    assert tokenizer.adds_space
    row = Dialogue(ROW.context, answer)
    found = encode_example(row, tokenizer, style)
    prompt = prompt_tokens(row, tokenizer, style)
    assert found.tokens[: found.completion_start] == prompt
    before = {
        "farense": "<s>### Pergunta:\nOnde joga o Farense?\n\n### Resposta:\n",
        "chat": "<s>[INST] Onde joga o Farense? [/INST] ",
    }[style]
    assert tokenizer.decode(found.tokens).replace("<s> ", "<s>") == f"{before}{answer}</s>"


@pytest.mark.parametrize("style", ["farense", "chat"])
def test_tokens_of_byte_level_tokenizers_stay_as_they_are_encoded_apart(
    style: PromptFormat, tiny_model: Path
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    assert not tokenizer.adds_space
    for answer in ("Em Faro.", " Em Faro.", "\n- Em Faro", "1990", "ção"):
        found = encode_example(Dialogue(ROW.context, answer), tokenizer, style)
        learned = found.tokens[found.completion_start :]
        assert list(learned) == [*tokenizer.encode(answer, add_special_tokens=False), 1]


def test_named_templates_without_a_default_want_a_choice(tiny_model: Path, tmp_path: Path) -> None:
    folder = make_family("named", tiny_model, tmp_path / "model")
    with pytest.raises(ModelError, match="plain, rag"):
        encode_example(ROW, load_tokenizer(folder), "chat")
    with pytest.raises(ModelError, match=r"'other'.* plain, rag"):
        encode_example(ROW, load_tokenizer(folder, TemplateSettings(name="other")), "chat")
    # The format that uses no template needs no choice.
    assert parts(ROW, load_tokenizer(folder), "farense")[1] == "Em Faro.<|im_end|>"
    with pytest.raises(ModelError, match="one, without a name"):
        encode_example(ROW, load_tokenizer(tiny_model, TemplateSettings(name="plain")), "chat")


def test_a_template_file_goes_before_the_settings_and_brings_names(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = make_family("chatml", tiny_model, tmp_path / "model")
    (folder / "chat_template.jinja").write_text(FAMILIES["mistral"].template)  # type: ignore[arg-type]
    assert parts(ROW, load_tokenizer(folder))[0].endswith(" [/INST]")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates/curto.jinja").write_text("{{ messages[0].content }}=")
    short = load_tokenizer(folder, TemplateSettings(name="curto"))
    assert parts(ROW, short)[0] == "Onde joga o Farense?="
    assert parts(ROW, load_tokenizer(folder))[0].endswith(" [/INST]")


def test_a_template_is_given_the_day_of_the_job(tiny_model: Path, tmp_path: Path) -> None:
    folder = make_family("llama3", tiny_model, tmp_path / "model")
    first, second = (
        load_tokenizer(folder, TemplateSettings(date=day)) for day in (DAY, "2027-01-02")
    )
    assert "Today Date: 27 Nov 2026" in parts(ROW, first)[0]
    assert "Today Date: 02 Jan 2027" in parts(ROW, second)[0]


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("qwen3", {"thinking": "on"}),
        ("qwen3", {"name": "default"}),
        ("llama3", {"date": "2027-01-02"}),
    ],
)
def test_kept_tokens_are_those_of_the_same_settings(
    name: str, changed: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    from jobs.storage.files import sha256_of

    folder = make_family(name, tiny_model, tmp_path / "model")
    data = write_rows(tmp_path / "d.jsonl", [{"prompt": "Quem?", "completion": "Nós."}])
    loads: list[TemplateSettings] = []

    def ask(settings: TemplateSettings) -> None:
        def load() -> Tokenizer:
            loads.append(settings)
            return load_tokenizer(folder, settings)

        encoded(data, sha256_of(data), folder, "chat", load, tmp_path / "cache", settings)

    usual = TemplateSettings(date=DAY)
    other = TemplateSettings(**{"date": DAY} | changed)
    for settings in (usual, usual, other, other, usual):
        ask(settings)
    assert loads == [usual, other]


def test_a_template_without_a_date_keeps_its_tokens_from_day_to_day(
    tiny_model: Path, tmp_path: Path
) -> None:
    from jobs.storage.files import sha256_of

    data = write_rows(tmp_path / "d.jsonl", [{"prompt": "Quem?", "completion": "Nós."}])
    loads: list[str] = []

    def load() -> Tokenizer:
        loads.append("loaded")
        return load_tokenizer(tiny_model)

    for day in (DAY, "2027-01-02"):
        settings = TemplateSettings(date=day)
        encoded(data, sha256_of(data), tiny_model, "chat", load, tmp_path / "cache", settings)
    assert loads == ["loaded"]


@pytest.mark.parametrize(
    ("text", "opened", "expected"),
    [
        ("Em Faro.", False, (None, "Em Faro.")),
        (f"{EMPTY}Em Faro.", False, ("", "Em Faro.")),
        ("<think>\nÉ no sul.\n</think>\n\nEm Faro.", False, ("É no sul.", "Em Faro.")),
        ("É no sul.\n</think>\n\nEm Faro.", True, ("É no sul.", "Em Faro.")),
        ("<think>\nÉ no sul", False, ("É no sul", "")),
        ("Em Faro.", True, ("Em Faro.", "")),
        ("A marca </think> não conta.", False, (None, "A marca </think> não conta.")),
    ],
)
def test_reasoning_is_told_from_the_answer(
    text: str, opened: bool, expected: tuple[str | None, str]
) -> None:
    assert Marks(*THINK).split(text, opened=opened) == expected
