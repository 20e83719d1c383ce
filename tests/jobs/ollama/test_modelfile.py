"""Modelfiles: what is written is what Ollama reads."""

from __future__ import annotations

import pytest

from jobs.errors import InvalidInput
from jobs.ollama.modelfile import Modelfile, check_model_name, read_modelfile, readable

# The example of Ollama's documentation, with all its instructions.
DOCUMENTED = '''
FROM llama3.2
# sets the temperature to 1 [higher is more creative, lower is more coherent]
PARAMETER temperature 1
parameter stop "AI assistant:"
# a template of several lines
TEMPLATE """{{ if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
SYSTEM You are Mario from super mario bros, acting as an assistant.
ADAPTER ./ollama-lora.gguf
LICENSE """
my license
"""
MESSAGE user Is Toronto in Canada?
MESSAGE assistant yes
REQUIRES 0.14.0
'''


def test_what_the_documentation_shows_is_read() -> None:
    assert list(read_modelfile(DOCUMENTED)) == [
        ("from", "llama3.2"),
        ("temperature", "1"),
        ("stop", "AI assistant:"),
        (
            "template",
            "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n"
            "{{ end }}<|im_start|>assistant\n",
        ),
        ("system", "You are Mario from super mario bros, acting as an assistant."),
        ("adapter", "./ollama-lora.gguf"),
        ("license", "\nmy license\n"),
        ("message", "user: Is Toronto in Canada?"),
        ("message", "assistant: yes"),
        ("requires", "0.14.0"),
    ]


def test_what_is_written_is_read_back() -> None:
    made = Modelfile(
        "../x-fused",
        '\n  "{{ .Content }}"\n\t"',
        "../x/adapter.gguf",
        'És "o" arquivo.\n\nResponde: sim """ ou "não"',
        (("stop", "<|im_end|>"), ("stop", '"fim'), ("temperature", "0")),
        ("For people.",),
    )
    text = made.text()
    assert text.startswith("# For people.\nFROM ../x-fused\nADAPTER ../x/adapter.gguf\n")
    assert list(read_modelfile(text)) == made.commands


@pytest.mark.parametrize("system", ['a """\nb', "a\u00a0b", "família \U0001f468\u200d\U0001f469"])
def test_a_text_that_ollama_would_read_otherwise_is_not_written(system: str) -> None:
    assert not readable(system)
    with pytest.raises(InvalidInput):
        Modelfile("x", "", system=system).text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SYSTEM a\n", "no FROM"),
        ("FROM a\nTEMPLAT x\n", "Line 2 of the Modelfile: 'TEMPLAT' is no instruction"),
        ('FROM a\nSYSTEM """a\nb\n', "Line 2 of the Modelfile: the end of a text"),
        ("FROM a\nMESSAGE nobody x\n", "'nobody' is no role"),
        ("FROM\n", "Line 1"),
    ],
)
def test_what_is_no_modelfile_is_refused_by_its_line(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        list(read_modelfile(text))


@pytest.mark.parametrize(
    "name", ["farense", "ana/farense-v2:q8_0", "host:5000/ana/farense.v2", "_x"]
)
def test_names_that_ollama_takes(name: str) -> None:
    assert check_model_name(name) == name


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b.c/d/e", "são", "a:b:c", "x" * 81])
def test_names_that_it_does_not_take(name: str) -> None:
    with pytest.raises(InvalidInput, match="name of a model"):
        check_model_name(name)
