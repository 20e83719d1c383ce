"""What is said of prompts before a job is queued: of each family's template, and of a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.config.config import config_from
from jobs.data.check import check
from jobs.data.prompt_check import prompt_warnings
from jobs.data.tokenizer import TemplateSettings, Thinking
from jobs.model.load import load_tokenizer
from tests.helpers.byte_tokenizer import byte_tokenizer
from tests.helpers.families import FAMILIES, make_family
from tests.helpers.runs import SETTINGS, write_rows

CLOSED_AT_ONCE, DATED = "close it at once", "day's date"
CHANGES_NOTHING, EMPTY_BLOCK = "changes nothing", "an empty block"
SAID: dict[tuple[str, Thinking], str] = {
    ("qwq", "off"): CLOSED_AT_ONCE,
    ("llama3", "off"): DATED,
    ("chatml", "on"): CHANGES_NOTHING,
    ("mistral", "on"): CHANGES_NOTHING,
    ("qwen3", "on"): EMPTY_BLOCK,
    ("qwen3.5", "on"): EMPTY_BLOCK,
    ("qwq", "on"): EMPTY_BLOCK,
    ("deepseek-v3.1", "on"): EMPTY_BLOCK,
    ("glm", "on"): EMPTY_BLOCK,
    ("gpt-oss", "off"): "as little as it knows (reasoning_effort: low)",
    ("gpt-oss", "on"): "holds no reasoning, to answer at once is what is learned",
}


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_template_cannot_do_is_said(name: str, tiny_model: Path, tmp_path: Path) -> None:
    folder = make_family(name, tiny_model, tmp_path / name)
    values = {**SETTINGS, "data": {"train": "t.jsonl"}, "prompt_format": "chat"}
    config = config_from(values | FAMILIES[name].settings, "test")
    for thinking in ("off", "on"):
        settings = TemplateSettings(thinking, config.chat_template)
        said = prompt_warnings(load_tokenizer(folder, settings), "chat")
        if (expected := SAID.get((name, thinking))) is not None:
            others = [text for text in said if expected not in text]
            assert len(said) == len(others) + 1
            assert all(name == "gpt-oss" and DATED in text for text in others)
        elif thinking == "off":
            assert said == ()
    assert prompt_warnings(load_tokenizer(folder), "farense") == ()


def test_a_block_that_only_an_answer_gets_is_said(tiny_model: Path, tmp_path: Path) -> None:
    folder = make_family("qwen3", tiny_model, tmp_path / "model")
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text())
    without_switch = values["chat_template"].replace("enable_thinking", "never_set")
    path.write_text(json.dumps(values | {"chat_template": without_switch}))
    (said,) = prompt_warnings(load_tokenizer(folder), "chat")
    assert "is learned with the answer. It is not scored." in said


def test_an_end_at_which_nothing_stops_is_said(tiny_model: Path, tmp_path: Path) -> None:
    folder = make_family("chatml", tiny_model, tmp_path / "model")
    for name, key, value in (
        ("config.json", "eos_token_id", 1),
        ("tokenizer_config.json", "eos_token", "</s>"),
    ):
        values = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(values | {key: value}))
    (said,) = prompt_warnings(load_tokenizer(folder), "chat")
    assert "<|im_end|>, at which nothing stops" in said
    assert "Learned is </s>" in said


def test_marks_in_the_texts_of_a_file_are_told_by_line(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Quem?", "completion": "Nós."},
        {"prompt": "Onde?", "completion": "Em Faro.</s>"},
        {"prompt": "<|turn|>Onde?", "completion": "Em Faro."},
        {"prompt": "Quando?", "completion": "Hoje.<|im_end|>"},
        {"text": "<s>Em Faro.</s>"},
        {"prompt": "E?", "completion": "Em Faro.</s>"},
    ]
    path = write_rows(tmp_path / "d.jsonl", rows)
    report = check(path, None, byte_tokenizer())
    told = {remark.lines: remark.text for remark in report.train.remarks}
    assert report.usable
    assert set(told) == {(2, 6), (3,), (4,), (5,)}
    assert told[2, 6].startswith("the answer ends with </s>")
    assert told[3,].startswith("<|turn|> stand in the text")
    assert told[4,].startswith("the answer ends with <|im_end|>, no end of this model's")
    assert told[5,].startswith("the text begins with <s>")
    assert check(path, None, None).train.remarks == ()
