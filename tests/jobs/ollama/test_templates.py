"""A job's prompts in Go's form: what Ollama renders is what the chat template renders."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.config.config import config_from
from jobs.data.chat.templating import templated_text
from jobs.data.examples import Dialogue
from jobs.data.messages import ASSISTANT, SYSTEM, USER, Message
from jobs.data.prompts import farense_prompt
from jobs.data.tokenizer import TemplateSettings, Tokenizer
from jobs.errors import ModelError
from jobs.model.load import load_tokenizer
from jobs.ollama.go_template import farense_template, layout_template, literal
from jobs.ollama.layout import layout_of
from jobs.ollama.recipe import Prompts, modelfile
from tests.helpers.families import CHATML, FAMILIES, Family, make_family
from tests.helpers.go_templates import rendered
from tests.helpers.runs import SETTINGS

DAY = "2026-11-27"
ASKED = Message(USER, "Onde joga o Farense?")
ANSWERED = Message(ASSISTANT, 'No "São Luís",\nem Faro.')
AGAIN = Message(USER, "E desde {{ quando }}?")
TOLD = Message(SYSTEM, "Sê breve.\n\nE exato.")
CONVERSATIONS = (
    (ASKED,),
    (ASKED, ANSWERED, AGAIN),
    (ASKED, ANSWERED, AGAIN, ANSWERED, ASKED),
    (TOLD, ASKED),
    (TOLD, ASKED, ANSWERED, AGAIN),
)
# Of no family that is served: a special token whose text no keyboard has, quotes, and braces.
ODD = Family(
    "{% for m in messages %}<｜{{ m['role'] }}｜>\u200b\"\"\"{{ '{{ ' }}\n{{ m['content'] }}"
    "\u00a0<|im_end|>\r\n{% endfor %}{% if add_generation_prompt %}<｜assistant｜>\\n\t{% endif %}",
    CHATML,
    "<|im_end|>",
    "",
    "",
)
GRANITE = Family(
    "{% if messages[0]['role'] != 'system' %}<|start_of_role|>system<|end_of_role|>"
    "Today's Date: {{ strftime_now('%B %d, %Y') }}.\nYou are Granite.<|end_of_text|>\n{% endif %}"
    "{% for m in messages %}<|start_of_role|>{{ m['role'] }}<|end_of_role|>{{ m['content'] }}"
    "<|end_of_text|>\n{% endfor %}{% if add_generation_prompt %}"
    "<|start_of_role|>assistant<|end_of_role|>{% endif %}",
    ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
    "<|end_of_text|>",
    "",
    "",
)
LLAMA2 = Family(
    "{% if messages[0]['role'] == 'system' %}{% set told = '<<SYS>>\n' + messages[0]['content'] + "
    "'\n<</SYS>>\n\n' %}{% set turns = messages[1:] %}{% else %}{% set told = '' %}"
    "{% set turns = messages %}{% endif %}{% for m in turns %}{% if m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (told if loop.first else '') + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}",
    (),
    "</s>",
    "",
    "",
    adds_bos=True,
)
ZEPHYR = Family(
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
    (),
    "</s>",
    "",
    "",
    adds_bos=True,
)
GEMMA_SYSTEM = Family(
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{% set told = messages[0]['content'] + '\n\n' %}{% set turns = messages[1:] %}"
    "{% else %}{% set told = '' %}{% set turns = messages %}{% endif %}{% for m in turns %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else 'user' }}\n"
    "{{ (told if loop.first else '') + m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    ("<start_of_turn>", "<end_of_turn>"),
    "</s>",
    "",
    "",
    adds_bos=True,
)
KNOWN = FAMILIES | {
    "odd": ODD,
    "granite": GRANITE,
    "llama2": LLAMA2,
    "zephyr": ZEPHYR,
    "gemma-system": GEMMA_SYSTEM,
}


def tokenizer_of(name: str, tiny_model: Path, folder: Path) -> Tokenizer:
    family = KNOWN[name]
    made = make_family(name, tiny_model, folder / name, family)
    values = {**SETTINGS, "data": {"train": "t.jsonl"}, "prompt_format": "chat"}
    config = config_from(values | family.settings, "test")
    return load_tokenizer(made, TemplateSettings.of(config, DAY))


def prompts(tokenizer: Tokenizer) -> list[tuple[tuple[Message, ...], str]]:
    """Return conversations with what the chat template makes of them, but a BOS that is added."""
    bos = "<s>" if tokenizer.encode("A")[:1] == [tokenizer.bos_token_id] else ""
    system = layout_of(tokenizer).system is not None
    said = [c for c in CONVERSATIONS if system or c[0].role != SYSTEM]
    return [
        (c, templated_text(c, Dialogue(c, ""), tokenizer, answer_next=True).removeprefix(bos))
        for c in said
    ]


@pytest.mark.parametrize("name", KNOWN)
def test_a_layout_writes_what_the_chat_template_writes(
    name: str, tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = tokenizer_of(name, tiny_model, tmp_path)
    layout = layout_of(tokenizer)
    for conversation, text in prompts(tokenizer):
        assert layout.write(conversation) == text
    refuses_system = name == "mistral"
    assert (layout.system is None) == refuses_system


def test_go_renders_every_family_as_its_chat_template_does(
    tiny_model: Path, tmp_path: Path
) -> None:
    cases, texts = [], []
    for name in KNOWN:
        tokenizer = tokenizer_of(name, tiny_model, tmp_path)
        made = modelfile(Prompts(tokenizer, "chat"), "x")
        for conversation, text in prompts(tokenizer):
            cases.append((made.template, conversation))
            texts.append((name, text))
    assert list(zip([name for name, _ in texts], rendered(cases), strict=True)) == texts


def test_the_template_of_chatml_can_be_read(tiny_model: Path, tmp_path: Path) -> None:
    """What Go makes of it stands in the test above; this is for machines without Go."""
    layout = layout_of(tokenizer_of("chatml", tiny_model, tmp_path))
    assert layout_template(layout) == (
        "{{ if $.System }}<|im_start|>system\n{{ $.System }}<|im_end|>\n<|im_start|>user\n"
        "{{ else }}<|im_start|>user\n{{ end }}"
        "{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}"
        '{{ if eq .Role "user" }}{{ .Content }}'
        "{{ if $last }}<|im_end|>\n<|im_start|>assistant\n{{ end }}"
        '{{ else if eq .Role "assistant" }}<|im_end|>\n<|im_start|>assistant\n{{ .Content }}'
        "{{ if not $last }}<|im_end|>\n<|im_start|>user\n{{ end }}{{ end }}{{ end }}"
    )


def test_an_answer_that_was_begun_is_gone_on_with(tiny_model: Path, tmp_path: Path) -> None:
    template = layout_template(layout_of(tokenizer_of("chatml", tiny_model, tmp_path)))
    begun = (ASKED, Message(ASSISTANT, "No "))
    asked = f"<|im_start|>user\n{ASKED.content}<|im_end|>\n<|im_start|>assistant\nNo "
    question = f"### Pergunta:\n{ASKED.content}\n\n### Resposta:\nNo "
    assert rendered([(template, begun), (farense_template(), begun)]) == [asked, question]


def test_farense_s_own_format_asks_the_last_question_alone() -> None:
    prompt = farense_prompt(Dialogue((ASKED,), ""))
    told = farense_prompt(Dialogue((TOLD, ASKED), ""))
    plain, default = farense_template(), farense_template(system=TOLD.content)
    cases = [(plain, (ASKED,)), (plain, (TOLD, AGAIN, ANSWERED, ASKED)), (default, (ASKED,))]
    assert rendered(cases) == [prompt, told, told]


def test_text_of_any_kind_passes_go_as_it_is() -> None:
    text = '{{ """ \\ \u00a0\u200d \U000e0001 "{{ .X }}" }} `\t\r\n｜▁'
    assert rendered([(literal(text), ())]) == [text]


def test_a_template_that_writes_more_than_fixed_text_is_refused(
    tiny_model: Path, tmp_path: Path
) -> None:
    template = (
        "{% for m in messages %}<{{ m['role'] }} {{ m['content'] | length }}>{{ m['content'] }}"
        "{% endfor %}<assistant>"
    )
    made = make_family(
        "x", tiny_model, tmp_path / "x", Family(template, CHATML, "<|im_end|>", "", "")
    )
    with pytest.raises(ModelError, match="more than fixed text") as refused:
        layout_of(load_tokenizer(made))
    assert refused.value.hint is not None
    assert "llama.cpp" in refused.value.hint
