"""The token cache: the same tokens as without it, no tokenizer when warm, no damage believed."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from jobs.data import token_cache
from jobs.data.examples import read_examples
from jobs.data.prompts import PromptFormat
from jobs.data.token_cache import KEPT_FILES, encoded
from jobs.data.tokenize import EncodedExample, encode_example
from jobs.errors import DataError
from jobs.model.load import load_tokenizer
from jobs.storage.files import sha256_of
from tests.helpers.runs import questions, write_rows


class Asked:
    """A data file, a model of its own and a cache; counts how often the tokenizer was loaded."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.model = shutil.copytree(model, folder / "model")
        self.data = write_rows(folder / "train.jsonl", questions(12))
        self.cache = folder / ".farense" / "tokens"
        self.loads = 0

    def load(self) -> Any:
        self.loads += 1
        return load_tokenizer(self.model)

    def encoded(self, prompt_format: PromptFormat = "farense") -> list[EncodedExample]:
        digest = sha256_of(self.data)
        return encoded(self.data, digest, self.model, prompt_format, self.load, self.cache)

    def plainly(self, prompt_format: PromptFormat = "farense") -> list[EncodedExample]:
        tokenizer = load_tokenizer(self.model)
        return [encode_example(row, tokenizer, prompt_format) for row in read_examples(self.data)]

    @property
    def file(self) -> Path:
        (only,) = self.cache.glob("*.npz")
        return only


@pytest.fixture
def asked(tmp_path: Path, tiny_model: Path) -> Asked:
    return Asked(tmp_path, tiny_model)


@pytest.mark.parametrize("prompt_format", ["farense", "chat"])
def test_cold_and_warm_give_what_encoding_gives(asked: Asked, prompt_format: PromptFormat) -> None:
    cold, warm = asked.encoded(prompt_format), asked.encoded(prompt_format)
    assert cold == warm == asked.plainly(prompt_format)
    assert asked.loads == 1
    assert asked.cache.parent.stat().st_mode & 0o077 == 0


def test_formats_do_not_share_their_tokens(asked: Asked) -> None:
    assert asked.encoded("chat") != asked.encoded("farense")
    assert asked.loads == 2


def test_another_tokenizer_is_another_file(asked: Asked) -> None:
    before = asked.encoded("chat")
    config = asked.model / "tokenizer_config.json"
    values = json.loads(config.read_text())
    values["chat_template"] = "{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}"
    config.write_text(json.dumps(values))
    assert asked.encoded("chat") == asked.plainly("chat") != before
    assert asked.loads == 2


def test_other_code_or_packages_encode_anew(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    asked.encoded()
    monkeypatch.setattr(token_cache, "LAYOUT", 99)
    asked.encoded()
    monkeypatch.setattr(token_cache, "CODE", (token_cache,))
    asked.encoded()
    assert asked.loads == 3


def test_a_damaged_file_is_made_anew(asked: Asked) -> None:
    whole = asked.encoded()
    content = asked.file.read_bytes()
    dice = random.Random(3)  # noqa: S311 - no secret
    for _ in range(150):
        torn = bytearray(content)
        torn[dice.randrange(len(torn))] ^= 1 << dice.randrange(8)
        asked.file.write_bytes(torn)
        assert asked.encoded() == whole
    for length in range(0, len(content), 97):
        asked.file.write_bytes(content[:length])
        assert asked.encoded() == whole
    assert asked.file.read_bytes() == content


def test_a_foreign_file_is_not_believed(asked: Asked) -> None:
    farense = asked.encoded("farense")
    ours = asked.file
    asked.encoded("chat")
    (other,) = set(asked.cache.glob("*.npz")) - {ours}
    shutil.copyfile(other, ours)
    assert asked.encoded("farense") == farense == asked.plainly("farense")
    assert asked.loads == 3


def test_bad_lines_are_named_and_nothing_is_kept(asked: Asked) -> None:
    with asked.data.open("a") as file:
        file.write('{"prompt": "Quem?"}\n')
    with pytest.raises(DataError, match=r"line 13: .*completion"):
        asked.encoded()
    assert not asked.cache.exists()


def test_a_conversation_the_format_cannot_express_is_named(asked: Asked) -> None:
    turns = [{"role": role, "content": "Olá"} for role in ("user", "assistant") * 2]
    asked.data.write_text(json.dumps({"messages": turns}) + "\n")
    with pytest.raises(DataError, match=r"train\.jsonl, line 1: .*several turns"):
        asked.encoded("farense")


@pytest.mark.parametrize("warm", [False, True])
def test_data_that_changed_is_refused(asked: Asked, warm: bool) -> None:
    digest = sha256_of(asked.data)
    if warm:
        asked.encoded()
    write_rows(asked.data, questions(13))
    with pytest.raises(DataError, match="has changed since"):
        encoded(asked.data, digest, asked.model, "farense", asked.load, asked.cache)
    asked.data.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        encoded(asked.data, digest, asked.model, "farense", asked.load, asked.cache)


def test_the_most_recently_used_files_stay(asked: Asked) -> None:
    asked.encoded()
    first = asked.file
    long_ago = first.stat().st_mtime - 1000
    for age in range(KEPT_FILES + 3):
        # Files of other data, and what a killed writer left.
        other = asked.cache / (f"{age:064}.npz" if age % 2 else f".{age:064}.npz.abcd")
        other.write_bytes(b"")
        os.utime(other, (long_ago + age, long_ago + age))
    os.utime(first, (0, 0))
    asked.encoded()  # first is the oldest no more
    asked.encoded("chat")
    left = set(asked.cache.iterdir())
    assert len(left) == KEPT_FILES
    assert first in left
    assert not left & {asked.cache / f".{0:064}.npz.abcd", asked.cache / f"{1:064}.npz"}


def test_without_a_place_to_write_it_still_encodes(asked: Asked) -> None:
    asked.cache.parent.mkdir()
    asked.cache.write_text("a file where the folder should be")
    assert asked.encoded() == asked.plainly()
