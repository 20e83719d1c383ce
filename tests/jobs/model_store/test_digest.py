"""What is in weight files: told by content, remembered, and never remembered wrongly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobs.model_store.digest import weights_digest
from jobs.storage.files import read_json, write_json


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"model-{number}.safetensors").write_bytes(bytes([number]) * 5_000_000)
    return folder


def test_any_changed_byte_changes_it(model: Path, tmp_path: Path) -> None:
    memory = tmp_path / "private" / "memory.json"
    before = weights_digest(model, memory)
    with (model / "model-2.safetensors").open("rb+") as file:
        file.seek(2_500_000)
        file.write(b"x")
    after = weights_digest(model, memory)
    assert after != before
    assert weights_digest(model, tmp_path / "no_memory.json") == after


def test_a_file_is_not_read_again_while_it_is_unchanged(model: Path, tmp_path: Path) -> None:
    memory = tmp_path / "memory.json"
    before = weights_digest(model, memory)
    known = read_json(memory)
    for entry in known.values():
        entry["sha256"] = "remembered"
    write_json(memory, known)
    assert weights_digest(model, memory) != before
    os.utime(model / "model-1.safetensors")
    weights_digest(model, memory)
    kept = [entry["sha256"] for entry in read_json(memory).values()]
    assert sorted(kept, key=len)[0] == "remembered"
    assert len(sorted(kept, key=len)[1]) == 64


def test_a_copy_is_the_same_model_and_other_files_do_not_count(model: Path, tmp_path: Path) -> None:
    memory = tmp_path / "memory.json"
    before = weights_digest(model, memory)
    copy = model.rename(tmp_path / "moved")
    (copy / "README.md").write_text("new")
    assert weights_digest(copy, memory) == before
    (copy / "model-1.safetensors").rename(copy / "model-3.safetensors")
    assert weights_digest(copy, memory) != before


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b'{"/x": 3}', b"\xff"])
def test_a_damaged_memory_is_no_memory(model: Path, tmp_path: Path, content: bytes) -> None:
    memory = tmp_path / "memory.json"
    before = weights_digest(model, memory)
    memory.write_bytes(content)
    assert weights_digest(model, memory) == before
    memory.unlink()
    assert weights_digest(model, memory) == before


def test_an_entry_of_another_kind_is_read_over(model: Path, tmp_path: Path) -> None:
    memory = tmp_path / "memory.json"
    before = weights_digest(model, memory)
    write_json(memory, {name: ["no", "entry"] for name in read_json(memory)})
    assert weights_digest(model, memory) == before
