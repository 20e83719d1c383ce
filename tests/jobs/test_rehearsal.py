"""A job's start is rehearsed before it is queued: once, in another process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from jobs.config.config import LoraConfig
from jobs.data.fit import check_fit
from jobs.data.lengths import Length
from jobs.data.prompt_check import prompt_warnings
from jobs.data.prompts import PromptFormat
from jobs.data.token_cache import encoded
from jobs.data.tokenizer import TemplateSettings
from jobs.errors import DataError, JobFailed, ModelError
from jobs.model.adapter_fit import fresh_adapter
from jobs.model.load import load_tokenizer
from jobs.paths import Workspace
from jobs.rehearsal import Part, Rehearsed, rehearse
from jobs.storage.files import sha256_of
from tests.helpers.families import make_family

LINE = '{"prompt": "Onde?", "completion": "Em Faro."}\n'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "mine.jsonl"
    file.write_text(LINE)
    return file


def part(data: Path, model: Path, style: PromptFormat = "farense", name: str | None = None) -> Part:
    return Part(model, style, TemplateSettings(name=name), ((data, sha256_of(data)),))


def rehearsed(data: Path, model: Path, style: PromptFormat = "farense") -> Rehearsed:
    return rehearse([part(data, model, style)], Workspace(data.parent / "ws"))[0]


def test_what_was_rehearsed_once_is_not_rehearsed_again(
    data: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = rehearsed(data, tiny_model)
    rows = encoded(
        data, sha256_of(data), tiny_model, "farense", lambda: load_tokenizer(tiny_model),
        data.parent / "other" / "tokens",
    )  # fmt: skip
    assert found.lengths == ([Length(len(row.tokens), row.completion_start) for row in rows],)
    monkeypatch.setattr(sys, "executable", "/no/such/program")
    assert rehearsed(data, tiny_model) == found
    data.write_text(LINE * 2)
    with pytest.raises(JobFailed, match=r"checks tiny and the data.*not be started: No such"):
        rehearsed(data, tiny_model)


def test_another_model_or_setting_is_another_rehearsal(
    data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "copy"
    shutil.copytree(tiny_model, model)
    first = rehearsed(data, model)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert rehearsed(data, model) == first
    with pytest.raises(JobFailed):
        rehearsed(data, model, "chat")
    (model / "generation_config.json").write_text("{}")
    with pytest.raises(JobFailed):
        rehearsed(data, model)
    (model / "generation_config.json").unlink()
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    with pytest.raises(JobFailed):
        rehearsed(data, model)


def test_what_was_kept_and_torn_is_found_anew(data: Path, tiny_model: Path) -> None:
    found = rehearsed(data, tiny_model)
    for file in Workspace(data.parent / "ws").rehearsals.iterdir():
        file.write_text("{")
    assert rehearsed(data, tiny_model) == found


def test_many_parts_take_one_process(
    data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    run = subprocess.run

    def counted(command: list[str], **options: object) -> object:
        started.append(command)
        return run(command, **options)  # type: ignore[call-overload]  # as it was called

    monkeypatch.setattr(subprocess, "run", counted)
    other = tmp_path / "other.jsonl"
    other.write_text(LINE * 3)
    family = make_family("qwq", tiny_model, tmp_path / "qwq")
    parts = [part(data, tiny_model), part(other, tiny_model), part(data, family, "chat")]
    found = rehearse(parts, Workspace(tmp_path / "ws"))
    assert [len(each.lengths[0]) for each in found] == [1, 3, 1]
    assert [command[1:] for command in started] == [["-P", "-m", "jobs.rehearsal"]]
    assert found[0].model.remarks == ()
    assert found[2].model.remarks == prompt_warnings(load_tokenizer(family), "chat") != ()


def test_a_process_without_an_answer_is_told(
    data: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(JobFailed, match="it ended with code 1"):
        rehearsed(data, tiny_model)

    def late(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("python", 1)

    monkeypatch.setattr(subprocess, "run", late)
    with pytest.raises(JobFailed, match="it had not ended after 1800 s"):
        rehearsed(data, tiny_model)


def test_what_the_tokenizer_refuses_is_the_error_of_the_job(
    data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    model = make_family("named", tiny_model, tmp_path / "named")
    with pytest.raises(ModelError) as refused:
        rehearsed(data, model, "chat")
    assert "plain, rag" in f"{refused.value.message} {refused.value.hint}"


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_the_layers_are_those_that_an_adapter_gets(
    data: Path, tiny_model: Path, kind: Literal["lora", "dora"]
) -> None:
    facts = rehearsed(data, tiny_model).model
    lora = LoraConfig(
        kind=kind, rank=3, scale=1.0, dropout=0.0, num_layers=4, keys=("q_proj", "down_proj")
    )
    shapes = {name: array.shape for name, array in fresh_adapter(tiny_model, lora).items()}
    layers = [
        layer
        for within in facts.layers.values()
        for path, layer in within.items()
        if path.rpartition(".")[2] in lora.keys
    ]
    expected: dict[str, tuple[int, ...]]
    expected = {f"{layer.name}.lora_a": (layer.inputs, 3) for layer in layers}
    expected |= {f"{layer.name}.lora_b": (3, layer.outputs) for layer in layers}
    if kind == "dora":
        expected |= {f"{layer.name}.m": (layer.outputs,) for layer in layers}
    assert shapes == expected
    told = {name: array.shape for each in layers for name, array in each.arrays(lora).items()}
    assert told == expected
    assert (facts.unbatched, facts.device.backend, facts.device.memory) == (None, "cpu", ())


def test_data_that_a_length_leaves_nothing_of_are_refused() -> None:
    lengths = [Length(40, 30), Length(20, 12)]
    assert check_fit("mine.jsonl", lengths, 40) is None
    said = check_fit("mine.jsonl", lengths, 25)
    assert said is not None
    assert said.startswith("mine.jsonl: of 2 examples max_seq_length=25 cuts 0 short and leaves")
    with pytest.raises(DataError, match=r"mine\.jsonl: no example is left") as refused:
        check_fit("mine.jsonl", lengths, 12)
    assert "--set max_seq_length=40" in str(refused.value.hint)


def test_asking_loads_no_mlx() -> None:
    code = (
        "import json, sys, jobs.rehearsal, daemon.submit.checks, daemon.submit.resources\n"
        "print(json.dumps([m for m in sys.modules if m.startswith('mlx')]))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True)
    assert json.loads(done.stdout) == []
