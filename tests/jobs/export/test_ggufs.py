"""Exports for llama.cpp: what is written, what is refused, and what llama.cpp makes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.backend.mlx import mx
from jobs.errors import ConfigError, InvalidInput, ModelError
from jobs.export.fuse import base_model
from jobs.export.kinds import MOVED, ExportRequest
from jobs.gguf.ask_llama import GGUF_PYTHON
from jobs.gguf.model_file import GgufModel
from jobs.gguf.precision import PRECISIONS
from jobs.model_store.packaged import SMOLLM2_135M, fetch_gguf
from jobs.paths import REPOSITORY, Workspace
from jobs.spec import read_spec
from jobs.storage.files import read_json
from tests.helpers.exports import exported
from tests.helpers.gguf_models import fields_of, gguf_of, llama_cpp, made, tensors_of
from tests.helpers.past_runs import FIRST
from tests.helpers.runs import make_run, run_child
from tests.helpers.specs import write_spec

NAME = "tiny-farense-qlora-tiny"


def left(workspace: Workspace) -> list[Path]:
    """Return what stands in ``output/``."""
    return list(workspace.output.iterdir()) if workspace.output.exists() else []


def sample_rows(name: str, count: int) -> list[dict[str, Any]]:
    """Return the first examples of a file of the sample."""
    lines = (REPOSITORY / f"data/sample/{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:count]]


def test_an_export_for_llama_cpp_is_a_folder_with_one_file_and_its_card(past: Workspace) -> None:
    written = exported(past, FIRST, gguf_lora=True, gguf=("q8_0", "f16", "q8_0"))
    assert list(written) == ["adapter", "gguf-lora", "gguf-q8_0", "gguf-f16"]
    for kind in ("lora", "q8_0", "f16"):
        folder = past.output / f"{NAME}-gguf-{kind}"
        names = {file.name for file in folder.iterdir()}
        assert names == {f"{NAME}-{kind}.gguf", "README.md", "farense_export.json"}
        marker = read_json(folder / "farense_export.json")
        assert (marker["kind"], marker["file"]) == (f"gguf-{kind}", f"{NAME}-{kind}.gguf")
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert "library_name: gguf" in card
        assert "in llama.cpp: not measured" in card
        assert f"output/{folder.name}/{NAME}-{kind}.gguf" in card
        assert fields_of(folder / marker["file"])["general.name"] == NAME


def test_the_other_exports_say_nothing_of_it(past: Workspace) -> None:
    written = exported(past, FIRST, peft=True, fuse=True, gguf_lora=True)
    for kind in ("adapter", "peft", "fused"):
        marker = read_json(Path(written[kind].folder) / "farense_export.json")
        assert not {"file", "verified"} & marker.keys()


def test_the_adapter_is_in_the_weights_and_alone_changes_nothing_else(past: Workspace) -> None:
    written = exported(past, FIRST, gguf=("f32",))["gguf-f32"]
    fused = tensors_of(Path(written.folder) / str(written.file))
    base = tensors_of(gguf_of(past.models / "tiny", past.root / "base.gguf"))
    changed = {name for name, array in fused.items() if (array != base[name]).any()}
    layers = read_spec(past.run(FIRST)).config["lora"]["keys"]
    assert layers == ["q_proj", "up_proj"]
    assert changed == {f"blk.{b}.{n}.weight" for b in (2, 3) for n in ("attn_q", "ffn_up")}


def test_what_llama_cpp_has_no_form_for_leaves_nothing_behind(past: Workspace) -> None:
    spec = read_spec(past.run(FIRST))
    tokenizer = past.models / "tiny" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"BPE"', '"Unigram"', 1))
    write_spec(past.run(FIRST), replace(spec, model_fingerprint=""))
    with pytest.raises(ModelError, match="tokenizer"):
        exported(past, FIRST, gguf=("q8_0",))
    assert left(past) == []


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"verify": True}, "--gguf q8_0"),
        ({"base_gguf": Path("x"), "gguf": ("q8_0",)}, "give all three"),
    ],
)
def test_options_that_mean_nothing_together_are_refused(wanted: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        ExportRequest(**wanted)


def test_a_base_that_is_no_gguf_is_refused(past: Workspace, tmp_path: Path) -> None:
    llama_cpp()
    base = tmp_path / "base.gguf"
    base.write_text("no model")
    with pytest.raises(InvalidInput, match=r"base\.gguf is no GGUF"):
        exported(past, FIRST, gguf_lora=True, verify=True, base_gguf=base)
    assert left(past) == []


def test_without_llama_cpp_nothing_is_written(
    past: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(GGUF_PYTHON, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="llama-cpp-python, which is not") as refused:
        exported(past, FIRST, gguf=("q8_0",), verify=True)
    assert "make gguf" in (refused.value.hint or "")
    assert left(past) == []


def test_llama_cpp_finds_the_same_losses_tokens_and_answers(past: Workspace) -> None:
    llama_cpp()
    written = exported(past, FIRST, gguf_lora=True, gguf=("f16", "q4_0"), verify=True)
    for kind in ("gguf-lora", "gguf-f16"):
        found = written[kind].verified
        assert found is not None
        assert abs(found.moved) < MOVED
        assert found.logits < 0.01
        assert (found.texts_apart, found.questions) == (0, 6)
        assert found.next_tokens == found.prompts == 6
        # The job was evaluated: its answers are compared, too.
        assert found.answers is not None
        assert found.answers >= 5
        assert found.token_f1 == pytest.approx(found.own_token_f1, abs=0.2)
    quantized = written["gguf-q4_0"]
    assert quantized.verified is not None
    card = (Path(quantized.folder) / "README.md").read_text(encoding="utf-8")
    assert f"validation loss {quantized.verified.loss:.4f}" in card
    assert "token F1" in card
    # The base model that was made to verify with is gone.
    assert [f.name for f in Path(written["gguf-lora"].folder).glob("*.gguf")] == [
        f"{NAME}-lora.gguf"
    ]


def test_what_llama_cpp_cannot_compute_stays_and_is_told(
    past: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no kernel for this >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv(GGUF_PYTHON, str(broken))
    warnings: list[str] = []
    written = exported(past, FIRST, warnings, gguf=("q8_0",), verify=True)["gguf-q8_0"]
    assert written.verified is None
    assert warnings == [
        f"{NAME}-q8_0.gguf was not verified: llama.cpp ended with 3: no kernel for this"
    ]
    assert (Path(written.folder) / str(written.file)).is_file()


def test_memory_holds_a_tensor_at_a_time(tmp_path: Path) -> None:
    folder = made(tmp_path / "model", "llama:num_hidden_layers=48,hidden_size=128")
    base = base_model(folder)
    largest = max(4 * array.size for array in base.weights.values())
    model = GgufModel(folder, base.settings, base.weights, PRECISIONS["f16"])
    del base
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    model.write(tmp_path / "model.gguf", "x")
    # What it is made of, what it is made into, and the same again as NumPy's copy is made.
    assert mx.get_peak_memory() - before < 6 * largest < model.bytes / 3


@pytest.mark.timeout(900)
def test_a_real_model_answers_there_as_here(smollm2: Path, workspace: Workspace) -> None:
    llama_cpp()
    job = "20261122-210000-real-aaaa"
    lora = {"rank": 4, "num_layers": 4, "keys": ["q_proj", "k_proj", "down_proj"]}
    train, valid = (sample_rows(name, 40) for name in ("train", "valid"))
    run = make_run(
        workspace, smollm2, job, train_rows=train, valid_rows=valid, lora=lora, learning_rate=2e-3
    )
    done = run_child(run)
    assert done.returncode == 0, done.stderr
    # What somebody has who never heard of MLX.
    base = fetch_gguf(SMOLLM2_135M, workspace.root)
    precisions = ("f16", "q8_0", "q4_0")
    written = exported(workspace, job, gguf_lora=True, gguf=precisions, verify=True, base_gguf=base)
    losses = {kind: found.verified for kind, found in written.items() if found.verified}
    # What llama.cpp multiplies with quantized weights it rounds to eight bits, too.
    allowed = {"gguf-lora": 0.05, "gguf-f16": MOVED, "gguf-q8_0": 0.05}
    for kind, most in allowed.items():
        assert abs(losses[kind].moved) < most, (kind, losses[kind])
        assert losses[kind].next_tokens >= losses[kind].prompts - 1
        assert losses[kind].texts_apart == 0
    assert losses["gguf-f16"].logits < losses["gguf-q8_0"].logits < losses["gguf-q4_0"].logits
