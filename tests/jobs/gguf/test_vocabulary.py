"""Tokenizers in a GGUF: kinds, splits, scores and special tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gguf import TokenType

from jobs.errors import ModelError
from jobs.gguf.vocabulary import read_vocabulary
from jobs.model_store.gguf_splittings import SPLITTINGS
from tests.helpers.tokenizers import byte_level, sentencepiece


@pytest.mark.parametrize("name", SPLITTINGS)
def test_the_way_text_is_split_has_a_name(name: str, tmp_path: Path) -> None:
    folder = byte_level(tmp_path, SPLITTINGS[name].pattern, ignore_merges=SPLITTINGS[name].whole)
    found = read_vocabulary(folder, 400)
    assert (found.model, found.pattern, found.scores) == ("gpt2", name, None)


def test_another_way_is_refused(tmp_path: Path) -> None:
    folder = byte_level(tmp_path, r"\w+|\s+")
    with pytest.raises(ModelError, match=r"no name of llama\.cpp"):
        read_vocabulary(folder, 400)


def test_sentencepiece_joins_by_scores_in_the_order_of_its_merges(tmp_path: Path) -> None:
    folder = sentencepiece(tmp_path)
    words = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    found = read_vocabulary(folder, 400)
    assert (found.model, found.pattern, found.space_first) == ("llama", "default", True)
    assert found.scores is not None
    first, second = ("".join(merge) for merge in words["merges"][:2])
    scores = {token: found.scores[index] for token, index in words["vocab"].items()}
    assert scores[first] > scores[second] > scores["<0x0A>"]
    kinds = {token: found.kinds[index] for token, index in words["vocab"].items()}
    assert kinds["<0x0A>"] is TokenType.BYTE
    assert kinds["<unk>"] is TokenType.UNKNOWN
    assert kinds["</s>"] is TokenType.CONTROL
    assert found.begins
    assert not found.ends


@pytest.mark.parametrize("kind", ["WordPiece", "Unigram"])
def test_what_is_no_bpe_is_refused(kind: str, tmp_path: Path) -> None:
    folder = byte_level(tmp_path, None)
    change(folder, lambda found: found["model"].update(type=kind))
    with pytest.raises(ModelError, match=f"a {kind} tokenizer"):
        read_vocabulary(folder, 400)


def test_a_model_smaller_than_its_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="and the model 100"):
        read_vocabulary(byte_level(tmp_path, None), 100)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read"):
        read_vocabulary(tmp_path, 400)


def change(folder: Path, how: Any) -> None:
    file = folder / "tokenizer.json"
    found = json.loads(file.read_text(encoding="utf-8"))
    how(found)
    file.write_text(json.dumps(found), encoding="utf-8")
