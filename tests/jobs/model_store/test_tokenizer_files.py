"""A tokenizer needs nothing of config.json, and loads where transformers cannot read that."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jobs.errors import ModelError
from jobs.model.load import load_tokenizer
from jobs.model_store.tokenizer_files import without_settings

TEXT = "Quem marcou os golos do Farense? Em que ano?"


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "model"
    shutil.copytree(tiny_model, copy)
    return copy


def configure(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "exaone4", "sliding_window_pattern": "LG"},
        {"model_type": "gemma2", "query_pre_attn_scalar": 16.0},
        {"layer_types": ["conv_mixer"] * 4, "model_type": "gear"},
        {"num_hidden_layers": "4"},
    ],
)
def test_the_same_ids_whatever_config_json_holds(
    folder: Path, tiny_model: Path, changes: dict[str, object]
) -> None:
    expected = load_tokenizer(tiny_model)
    configure(folder, **changes)
    tokenizer = load_tokenizer(folder)
    assert tokenizer.encode(TEXT) == expected.encode(TEXT)
    assert tokenizer.template == expected.template
    assert tokenizer.eos_token_ids == expected.eos_token_ids


def test_a_tokenizer_that_is_damaged_is_said_to_be(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=rf"The tokenizer in {folder} cannot be loaded"):
        load_tokenizer(folder)


def test_the_copy_is_small_and_goes_away(folder: Path) -> None:
    with without_settings(folder) as copy:
        assert not list(copy.glob("*.safetensors"))
        assert json.loads((copy / "config.json").read_text()) == {
            "model_type": "mistral",
            "architectures": ["MistralForCausalLM"],
        }
        assert (copy / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert not copy.exists()
