"""Data are tokenized before a job is queued: once, in another process, with an answer or a word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jobs.data_fit import check_fit
from jobs.errors import JobFailed, ModelError
from jobs.prompts import PromptFormat
from jobs.tokenizer import TemplateSettings
from tests.helpers.families import make_family

LINE = '{"prompt": "Onde?", "completion": "Em Faro."}\n'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "mine.jsonl"
    file.write_text(LINE)
    return file


def fit(data: Path, model: Path, style: PromptFormat = "farense") -> str | None:
    cache = data.parent / "private" / "tokens"
    return check_fit(data, model, style, 512, cache, TemplateSettings())


def test_what_was_tokenized_once_is_not_tokenized_again(
    data: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fit(data, tiny_model) is None
    monkeypatch.setattr(sys, "executable", "/no/such/program")
    assert fit(data, tiny_model) is None
    data.write_text(LINE * 2)
    with pytest.raises(
        JobFailed, match=r"mine\.jsonl could not be checked.*not be started: No such"
    ):
        fit(data, tiny_model)


def test_a_process_without_an_answer_is_told(
    data: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(JobFailed, match="it ended with code 1"):
        fit(data, tiny_model)

    def late(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("python", 1)

    monkeypatch.setattr(subprocess, "run", late)
    with pytest.raises(JobFailed, match="it had not ended after 1800 s"):
        fit(data, tiny_model)


def test_what_the_tokenizer_refuses_is_the_error_of_the_job(
    data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    model = tmp_path / "named"
    make_family("named", tiny_model, model)
    with pytest.raises(ModelError) as refused:
        fit(data, model, "chat")
    assert "plain, rag" in f"{refused.value.message} {refused.value.hint}"


def test_asking_loads_no_mlx() -> None:
    code = "import sys, jobs.data_fit; sys.exit(any(m.startswith('mlx') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
