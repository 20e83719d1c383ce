"""A model folder that is not whole, or that asks for code, is found out from its headers."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import ModelError
from jobs.model_store.folder import INDEX, check_model, check_unchanged, fingerprint, same_model
from jobs.model_store.listing import list_models
from jobs.paths import Workspace


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may break."""
    return shutil.copytree(tiny_model, tmp_path / "models" / "tiny")


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def weights(model: Path) -> Path:
    return model / "model.safetensors"


def test_a_whole_model_passes(model: Path) -> None:
    check_model(model)


def test_the_real_model_passes(smollm2: Path) -> None:
    check_model(smollm2)


def test_a_missing_folder_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no model folder") as caught:
        check_model(tmp_path / "mistral-7b-4bit")
    assert caught.value.hint == (
        "Get it: farense model pull mlx-community/Mistral-7B-Instruct-v0.3-4bit "
        "--as mistral-7b-4bit"
    )
    with pytest.raises(ModelError) as caught:
        check_model(tmp_path / "my-own")
    assert "farense model list" in str(caught.value.hint)
    (tmp_path / "models" / "my-own").mkdir(parents=True)
    with pytest.raises(ModelError) as caught:
        check_model(tmp_path / "my-own")
    assert caught.value.hint == "Did you mean models/my-own?"


def no_config(model: Path) -> None:
    (model / "config.json").unlink()


def torn_config(model: Path) -> None:
    (model / "config.json").write_text('{"model_type": ')


def config_is_a_list(model: Path) -> None:
    (model / "config.json").write_text("[]")


def no_model_type(model: Path) -> None:
    edit_json(model / "config.json", model_type=None)


def auto_map(model: Path) -> None:
    edit_json(model / "config.json", auto_map={"AutoModel": "modeling_x.X"})


def model_file(model: Path) -> None:
    edit_json(model / "config.json", model_file="evil.py")


def tokenizer_auto_map(model: Path) -> None:
    edit_json(model / "tokenizer_config.json", auto_map={"AutoTokenizer": ["x.X", None]})


def no_weights(model: Path) -> None:
    weights(model).unlink()


def only_a_pickle(model: Path) -> None:
    weights(model).rename(model / "pytorch_model.bin")


def a_file_without_tensors(model: Path) -> None:
    weights(model).write_bytes(struct.pack("<Q", 2) + b"{}")


def empty_weights(model: Path) -> None:
    weights(model).write_bytes(b"")


def cut_within_the_header(model: Path) -> None:
    weights(model).write_bytes(weights(model).read_bytes()[:100])


def cut_within_the_data(model: Path) -> None:
    weights(model).write_bytes(weights(model).read_bytes()[:-1])


def too_long(model: Path) -> None:
    weights(model).write_bytes(weights(model).read_bytes() + b"\0")


def header_is_no_json(model: Path) -> None:
    weights(model).write_bytes(struct.pack("<Q", 8) + b"notjson!")


def header_of_another_shape(model: Path) -> None:
    header = b'{"a": {"dtype": "F32"}}'
    weights(model).write_bytes(struct.pack("<Q", len(header)) + header)


def header_of_petabytes(model: Path) -> None:
    weights(model).write_bytes(struct.pack("<Q", 2**50) + b"{}")


def missing_shard(model: Path) -> None:
    index = {"weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
    (model / INDEX).write_text(json.dumps(index))


def missing_tensor(model: Path) -> None:
    index = {"weight_map": {"model.layers.9.x": "model.safetensors"}}
    (model / INDEX).write_text(json.dumps(index))


def torn_index(model: Path) -> None:
    (model / INDEX).write_text("{}")


def no_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").unlink()


def torn_tokenizer(model: Path) -> None:
    content = (model / "tokenizer.json").read_bytes()
    (model / "tokenizer.json").write_bytes(content[: len(content) // 2])


BROKEN = [
    (no_config, "has no config.json"),
    (torn_config, "config.json does not hold valid JSON"),
    (config_is_a_list, "config.json does not hold a JSON object"),
    (no_model_type, "names no model_type"),
    (auto_map, r"config.json asks for Python code of its own to be run \(auto_map\)"),
    (model_file, r"config.json asks for Python code of its own to be run \(model_file\)"),
    (tokenizer_auto_map, r"tokenizer_config.json asks for Python code of its own"),
    (no_weights, r"has no weights: expected files named model\*\.safetensors"),
    (only_a_pickle, "has no weights"),
    (a_file_without_tensors, "has no weights"),
    (empty_weights, "not a safetensors file, or is damaged"),
    (cut_within_the_header, "ends within its header"),
    (cut_within_the_data, r"it has \d+ bytes, its header says \d+"),
    (too_long, r"it has \d+ bytes, its header says \d+"),
    (header_is_no_json, "its header is not valid"),
    (header_of_another_shape, "its header is not valid"),
    (header_of_petabytes, "not a safetensors file, or is damaged"),
    (missing_shard, "no file model-00002-of-00002.safetensors"),
    (missing_tensor, r"no tensor model.layers.9.x in model.safetensors"),
    (torn_index, "has no weight_map"),
    (no_tokenizer, "has no tokenizer.json"),
    (torn_tokenizer, "tokenizer.json does not hold valid JSON"),
]


@pytest.mark.parametrize(("damage", "message"), BROKEN)
def test_a_broken_folder_is_refused(
    damage: Callable[[Path], None], message: str, model: Path
) -> None:
    damage(model)
    with pytest.raises(ModelError, match=message):
        check_model(model)


def test_checking_and_fingerprinting_do_not_load_mlx(model: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from jobs.model_store.store import check_model, fingerprint\n"
        "check_model(Path(sys.argv[1])); fingerprint(Path(sys.argv[1]))\n"
        "assert not {'mlx', 'huggingface_hub', 'pydantic', 'tokenizers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(model)], check=True)


def test_the_fingerprint_is_that_of_the_content(model: Path, tiny_model: Path) -> None:
    assert fingerprint(model) == fingerprint(tiny_model)
    (model / "README.md").write_text("a note changes nothing")
    assert fingerprint(model) == fingerprint(tiny_model)


def flip_last_byte(model: Path) -> None:
    content = bytearray(weights(model).read_bytes())
    content[-1] ^= 1
    weights(model).write_bytes(content)


def rename_weights(model: Path) -> None:
    weights(model).rename(model / "model-00001-of-00001.safetensors")


def change_the_template(model: Path) -> None:
    edit_json(model / "tokenizer_config.json", chat_template="{{ 'other' }}")


def change_the_config(model: Path) -> None:
    edit_json(model / "config.json", rope_theta=1e6)


def writing(name: str) -> Callable[[Path], None]:
    def write(model: Path) -> None:
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text('{"eos_token_id": [1, 2]}')

    return write


MORE = [
    *("generation_config.json", "hf_quant_config.json", "additional_chat_templates/rag.jinja"),
    *("tokenizer.model", "qwen.tiktoken", "vocab.txt", "vocab.json", "merges.txt"),
]


@pytest.mark.parametrize(
    "change",
    [
        *(flip_last_byte, rename_weights, change_the_template, change_the_config),
        *(pytest.param(writing(name), id=name) for name in MORE),
    ],
)
def test_another_model_has_another_fingerprint(
    change: Callable[[Path], None], model: Path, tiny_model: Path
) -> None:
    change(model)
    assert fingerprint(model) != fingerprint(tiny_model)


def test_a_job_of_an_older_version_has_its_model_still(model: Path) -> None:
    # As it was written before there was a second part.
    older = fingerprint(model).partition("-")[0]
    assert re.fullmatch("[0-9a-f]{64}", older)
    writing("generation_config.json")(model)
    check_unchanged(model, older)
    check_unchanged(model, fingerprint(model))
    newer = fingerprint(model)
    (model / "generation_config.json").write_text("{}")
    with pytest.raises(ModelError, match="has changed since"):
        check_unchanged(model, newer)
    change_the_config(model)
    with pytest.raises(ModelError, match="has changed since"):
        check_unchanged(model, older)
    assert not same_model(older, fingerprint(model))


def test_a_missing_folder_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no model folder"):
        fingerprint(tmp_path / "nothing")


def test_the_list_says_what_each_model_is(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, model.with_name("broken"))
    no_tokenizer(model.with_name("broken"))
    model.with_name(".tiny.partial").mkdir()
    broken, whole = list_models(Workspace(tmp_path))
    assert broken.name == "broken"
    assert broken.problem is not None
    assert "tokenizer.json" in broken.problem
    assert whole.problem is None
    assert (whole.name, whole.path) == ("tiny", model)
    assert (whole.architecture, whole.layers, whole.bits) == ("mistral", 4, 4)
    embeddings = 2 * 512 * 64
    block = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128 + 2 * 64
    assert whole.parameters == embeddings + 4 * block + 64
    assert whole.size_bytes == sum(file.stat().st_size for file in model.iterdir())


def test_no_models_folder_is_an_empty_list(tmp_path: Path) -> None:
    assert list_models(Workspace(tmp_path)) == []
