"""Chat templates written in the manner of real families of models, and models that have them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

from jobs.model_store.tiny import SENTENCES


@dataclass(frozen=True)
class Family:
    """How the models of a family write a conversation.

    Attributes:
        template: Jinja; a dictionary where there are several by name.
        tokens: the special tokens it writes, with those that are no special ones but tokens.
        eos: the tokenizer's EOS.
        ends: what config.json lists as EOS; nothing where it lists none.
        adds_bos: whether the tokenizer adds its BOS to what it encodes.
        settings: that a job needs to use it, beside ``prompt_format: chat``.
        in_prompt: how the prompt of ``thinking: off`` ends.
        learned: what is learned of the answer "Em Faro.".
    """

    template: str | dict[str, str]
    tokens: tuple[str, ...]
    eos: str
    in_prompt: str
    learned: str
    ends: tuple[str, ...] = ()
    adds_bos: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


def _chatml(opening: str = "", answer: str = "{{ m['content'] }}") -> str:
    return (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{% if m['role'] == 'assistant' %}" + answer + "{% else %}{{ m['content'] }}{% endif %}"
        "<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n" + opening + "{% endif %}"
    )


CHATML = ("<|im_start|>", "<|im_end|>")
THINK = ("<think>", "</think>")
EMPTY = "<think>\n\n</think>\n\n"
LAST_ANSWER = (
    "{% set parts = m['content'].split('</think>') %}"
    "{% set thought = parts[0].split('<think>')[-1].strip('\\n') if parts | length > 1 else '' %}"
    "{% if loop.last or thought %}<think>\n{{ thought }}\n</think>\n\n"
    "{{ parts[-1].lstrip('\\n') }}{% else %}{{ parts[-1].lstrip('\\n') }}{% endif %}"
)
OFF = "enable_thinking is defined and enable_thinking is false"

FAMILIES: dict[str, Family] = {
    "chatml": Family(
        _chatml(), CHATML, "<|im_end|>", "<|im_start|>assistant\n", "Em Faro.<|im_end|>"
    ),
    "llama3": Family(
        "{{ bos_token }}{% set day = strftime_now('%d %b %Y') %}"
        "<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ day }}\n\n<|eot_id|>"
        "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
        "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}"
        "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"),
        "<|end_of_text|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "Em Faro.<|eot_id|>",
        ends=("<|end_of_text|>", "<|eot_id|>"),
        adds_bos=True,
    ),
    "mistral": Family(
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
        "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% elif m['role'] == 'assistant' %}"
        "{{ ' ' + m['content'] + eos_token }}"
        "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}"
        "{% endfor %}",
        (),
        "</s>",
        " [/INST]",
        " Em Faro.</s>",
        adds_bos=True,
    ),
    # The system message stands in the last question, which is no longer the last with an answer.
    "mistral-system": Family(
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
        "{% set system = messages[0]['content'] + '\n\n' %}{% set turns = messages[1:] %}"
        "{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
        "{% for m in turns %}{% if m['role'] == 'user' %}"
        "[INST] {% if loop.last %}{{ system }}{% endif %}{{ m['content'] }}[/INST]"
        "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}",
        (),
        "</s>",
        "[/INST]",
        " Em Faro.</s>",
        adds_bos=True,
    ),
    "gemma": Family(
        "{{ bos_token }}{% for m in messages %}"
        "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
        "<start_of_turn>{{ role }}\n{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        ("<start_of_turn>", "<end_of_turn>"),
        "</s>",
        "<start_of_turn>model\n",
        "Em Faro.<end_of_turn>",
        ends=("</s>", "<end_of_turn>"),
        adds_bos=True,
    ),
    "phi": Family(
        "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
        ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"),
        "<|endoftext|>",
        "<|assistant|>\n",
        "Em Faro.<|end|>",
        ends=("<|endoftext|>", "<|end|>"),
    ),
    "qwen3": Family(
        _chatml("{% if " + OFF + " %}" + EMPTY + "{% endif %}", LAST_ANSWER),
        (*CHATML, *THINK),
        "<|im_end|>",
        "<|im_start|>assistant\n" + EMPTY,
        "Em Faro.<|im_end|>",
    ),
    "qwen3.5": Family(
        _chatml("{% if " + OFF + " %}" + EMPTY + "{% else %}<think>\n{% endif %}", LAST_ANSWER),
        (*CHATML, *THINK),
        "<|im_end|>",
        "<|im_start|>assistant\n" + EMPTY,
        "Em Faro.<|im_end|>",
    ),
    # No switch: the prompt always opens a block, and what went before is written without one.
    "qwq": Family(
        _chatml("<think>\n", "{{ m['content'].split('</think>')[-1].lstrip('\\n') }}"),
        (*CHATML, *THINK),
        "<|im_end|>",
        "<|im_start|>assistant\n<think>\n",
        "\n</think>\n\nEm Faro.<|im_end|>",
    ),
    "deepseek-v3.1": Family(
        "{% if not thinking is defined %}{% set thinking = false %}{% endif %}{{ bos_token }}"
        "{% for m in messages %}{% if m['role'] == 'user' %}<|User|>{{ m['content'] }}"
        "{% elif m['role'] == 'system' %}{{ m['content'] }}"
        "{% else %}<|Assistant|></think>{{ m['content'].split('</think>')[-1] }}{{ eos_token }}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}<|Assistant|>"
        "{% if thinking %}<think>{% else %}</think>{% endif %}{% endif %}",
        ("<|User|>", "<|Assistant|>", *THINK),
        "</s>",
        "<|Assistant|></think>",
        "Em Faro.</s>",
        adds_bos=True,
    ),
    # Ends no turn: the next one begins, at whose mark generation stops.
    "glm": Family(
        "[gMASK]{% for m in messages %}<|{{ m['role'] }}|>\n{% if m['role'] == 'assistant' %}"
        "{% set parts = m['content'].split('</think>') %}"
        "{% if parts | length > 1 %}{{ parts[0] + '</think>' }}{% else %}<think></think>{% endif %}"
        "{{ '\n' + parts[-1].strip() }}{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n"
        "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
        "{% endif %}",
        ("[gMASK]", "<|system|>", "<|user|>", "<|assistant|>", *THINK, "<|endoftext|>"),
        "<|endoftext|>",
        "<|assistant|>\n<think></think>",
        "\nEm Faro.<|endoftext|>",
        ends=("<|endoftext|>", "<|user|>"),
    ),
    # A channel of its own for reasoning, one for the answer; how much to reason stands in a word.
    "gpt-oss": Family(
        "{% macro system() %}{% if reasoning_effort is not defined %}"
        "{% set reasoning_effort = 'medium' %}{% endif %}"
        "Date: {{ strftime_now('%Y-%m-%d') }}\nReasoning: {{ reasoning_effort }}\n{% endmacro %}"
        "<|start|>system<|message|>{{ system() }}<|end|>"
        "{% for m in messages %}{% if m['role'] == 'assistant' %}"
        "{% if '<|channel|>' in m['content'] %}{{ raise_exception('a channel') }}{% endif %}"
        "{% if loop.last and not add_generation_prompt and 'thinking' in m %}"
        "<|start|>assistant<|channel|>analysis<|message|>{{ m['thinking'] }}<|end|>{% endif %}"
        "<|start|>assistant<|channel|>final<|message|>{{ m['content'] }}"
        "{% if loop.last and not add_generation_prompt %}<|return|>{% else %}<|end|>{% endif %}"
        "{% else %}<|start|>{{ m['role'] }}<|message|>{{ m['content'] }}<|end|>{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}",
        (
            *("<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>", "<|call|>"),
            "<|endoftext|>",
        ),
        "<|return|>",
        "<|start|>assistant",
        "<|channel|>final<|message|>Em Faro.<|return|>",
        ends=("<|return|>", "<|endoftext|>", "<|call|>"),
    ),
    "named": Family(
        {"rag": "{{ raise_exception('no documents') }}", "plain": _chatml()},
        CHATML,
        "<|im_end|>",
        "<|im_start|>assistant\n",
        "Em Faro.<|im_end|>",
        settings={"chat_template": "plain"},
    ),
}


def make_family(name: str, source: Path, folder: Path, family: Family | None = None) -> Path:
    """Write a copy of the tiny model with the tokenizer and template of a family; return it.

    Args:
        name: of one in :data:`FAMILIES`, where ``family`` is not given.
    """
    family = family or FAMILIES[name]
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text())
    special = ["<s>", "</s>", "<pad>", *family.tokens]
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.train_from_iterator(
        SENTENCES,
        BpeTrainer(
            vocab_size=config["vocab_size"],
            special_tokens=special,
            initial_alphabet=ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    if family.adds_bos:
        tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    template = family.template
    if isinstance(template, dict):
        listed = [{"name": key, "template": text} for key, text in template.items()]
    settings |= {
        "bos_token": "<s>",
        "eos_token": family.eos,
        "pad_token": "<pad>",
        "chat_template": listed if isinstance(template, dict) else template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    ends = [tokenizer.token_to_id(end) for end in family.ends]
    config["eos_token_id"] = ends or tokenizer.token_to_id(family.eos)
    (folder / "config.json").write_text(json.dumps(config))
    return folder
