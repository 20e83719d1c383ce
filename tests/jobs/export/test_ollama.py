"""`farense export --ollama`: a Modelfile beside the weights, and a command that nobody runs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from jobs.data.examples import Dialogue
from jobs.data.messages import SYSTEM, USER, Message
from jobs.data.prompts import farense_prompt
from jobs.errors import InvalidInput, ModelError
from jobs.export.ollama import prompts_of
from jobs.model_store.folder import fingerprint
from jobs.ollama.modelfile import read_modelfile
from jobs.paths import Workspace
from jobs.spec import read_spec
from jobs.storage.files import read_json, write_json
from tests.cli.conftest import Run, command_home, invoke
from tests.helpers.exports import exported
from tests.helpers.go_templates import rendered
from tests.helpers.past_runs import FIRST

__all__ = ["command_home", "invoke"]
NAME = "tiny-farense-qlora-tiny"
TOLD, ASKED = Message(SYSTEM, "Sê breve."), Message(USER, "Quem marcou?")


def chat_job(past: Workspace, template: str, system: str | None = None) -> None:
    """Make of the first job one that was asked by a chat template, of a system message perhaps."""
    job = past.run(FIRST).job
    spec = read_json(job)
    spec["config"]["prompt_format"] = "chat"
    settings = past.models / "tiny/tokenizer_config.json"
    settings.write_text(json.dumps(read_json(settings) | {"chat_template": template}))
    spec["model_fingerprint"] = fingerprint(past.models / "tiny")
    write_json(job, spec)
    for row_file in ({spec["train"]["path"], spec["valid"]["path"]}) if system else ():
        rows = [json.loads(line) for line in (past.root / row_file).read_text().splitlines()]
        told = [{"role": "system", "content": system}]
        lines = [
            {
                "messages": [
                    *told,
                    {"role": "user", "content": row["prompt"]},
                    {"role": "assistant", "content": row["completion"]},
                ]
            }
            for row in rows
        ]
        (past.root / row_file).chmod(0o644)
        (past.root / row_file).write_text("\n".join(map(json.dumps, lines)) + "\n")


def test_the_modelfile_asks_as_the_job_was_asked(past: Workspace) -> None:
    found = exported(past, FIRST, fuse=True, ollama="ana/farense:v2")["ollama"]
    folder = Path(found.folder)
    assert folder.name == f"{NAME}-ollama"
    said = dict(read_modelfile((folder / "Modelfile").read_text()))
    assert (folder / said["from"]).resolve() == (past.output / f"{NAME}-fused").resolve()
    assert (said["stop"], said["temperature"], said["num_ctx"]) == ("</s>", "0", "1024")
    assert "system" not in said
    cases = [(said["template"], (ASKED,)), (said["template"], (TOLD, ASKED))]
    assert rendered(cases) == [farense_prompt(Dialogue(case[1], "")) for case in cases]
    card = (folder / "README.md").read_text()
    assert f"ollama create ana/farense:v2 -f output/{NAME}-ollama/Modelfile" in card
    assert str(past.root) not in card
    assert read_json(folder / "farense_export.json")["ollama"] == "ana/farense:v2"


def test_a_gguf_goes_before_a_folder_and_an_adapter_stands_beside_its_base(
    past: Workspace, tmp_path: Path
) -> None:
    def said() -> dict[str, str]:
        folder = past.output / f"{NAME}-ollama"
        found = dict(read_modelfile((folder / "Modelfile").read_text()))
        for name in {"from", "adapter"} & set(found):
            assert ".gguf" not in found[name] or (folder / found[name]).is_file()
        return found

    exported(past, FIRST, fuse=True, gguf=("q8_0",), ollama="x")
    assert said()["from"] == f"../{NAME}-gguf-q8_0/{NAME}-q8_0.gguf"
    exported(past, FIRST, gguf_lora=True, ollama="x", ollama_base="ana/tiny:4bit")
    assert said()["from"] == "ana/tiny:4bit"
    assert said()["adapter"] == f"../{NAME}-gguf-lora/{NAME}-lora.gguf"
    base = tmp_path / "my base.gguf"
    base.touch()
    exported(past, FIRST, gguf_lora=True, ollama="x", ollama_base=str(base))
    assert said()["from"] == str(base)


@pytest.mark.parametrize("system", ["Sê breve.", "Sê\u00a0breve."])
def test_a_common_system_message_goes_with_it(past: Workspace, system: str) -> None:
    chat_job(
        past,
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}<assistant>",
        system,
    )
    exported(past, FIRST, fuse=True, ollama="x")
    said = dict(read_modelfile((past.output / f"{NAME}-ollama/Modelfile").read_text()))
    plain = system.isprintable()
    # What a Modelfile cannot say stands in the template.
    assert said.get("system") == (system if plain else None)
    told = (Message(SYSTEM, system), ASKED)
    text = f"<system>{system}</s><user>{ASKED.content}</s><assistant>"
    assert rendered([(said["template"], told if plain else (ASKED,))]) == [text]
    assert prompts_of(past, read_spec(past.run(FIRST))).system == system


def test_a_template_that_ollama_cannot_have_is_refused_before_anything_is_written(
    past: Workspace,
) -> None:
    chat_job(past, "{% for m in messages %}{{ loop.length }} {{ m['content'] }}{% endfor %}")
    with pytest.raises(ModelError, match="more than fixed text"):
        exported(past, FIRST, fuse=True, ollama="x")
    assert not past.output.exists()


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"ollama": "a b", "fuse": True}, "cannot be the name of a model in Ollama"),
        ({"ollama": "x"}, "neither an adapter of mlx-lm nor weights that MLX quantized"),
        ({"ollama": "x", "fuse": True, "requantize": True}, "neither an adapter of mlx-lm"),
        ({"ollama": "x", "gguf_lora": True}, "neither an adapter of mlx-lm"),
        (
            {"ollama": "x", "ollama_base": "smollm2"},
            "what Ollama adds the adapter of --gguf-lora to",
        ),
        (
            {"ollama": "x", "gguf_lora": True, "ollama_base": "a b.gguf"},
            "name of a model in Ollama",
        ),
    ],
)
def test_what_ollama_does_not_take_is_refused(
    past: Workspace, wanted: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        exported(past, FIRST, **wanted)
    assert not past.output.exists()


def test_the_command_is_told_and_not_run(past: Workspace, invoke: Run, tmp_path: Path) -> None:
    command = f"ollama create assistant -f output/{NAME}-ollama/Modelfile"
    done = invoke("export", FIRST, "--fuse", "--ollama", "assistant", PATH="/nowhere")
    assert done.code == 0, done.err
    assert f"There is no ollama on the PATH here; where there is: {command}" in done.err
    program, ran = tmp_path / "bin/ollama", tmp_path / "ran"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    assert shutil.which("ollama", path=path) is not None
    done = invoke("export", FIRST, "--fuse", "--ollama", "assistant", PATH=path)
    assert done.code == 0, done.err
    assert f"To have it in Ollama: {command}" in done.err
    assert not ran.exists()
