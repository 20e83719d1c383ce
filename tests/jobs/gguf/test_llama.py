"""llama.cpp itself, by llama-cpp-python, beside MLX: logits, tokens, losses, adapters, answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from jobs.backend.mlx import tree_unflatten
from jobs.errors import ConfigError, ModelError
from jobs.export.fuse import base_model
from jobs.gguf.adapter_file import write_adapter
from jobs.gguf.ask_llama import GGUF_PYTHON, LlamaAnswer, LlamaQuestion, ask_llama
from jobs.gguf.precision import Array
from jobs.model.load import apply_lora
from jobs.model.lora import DropoutNoise
from jobs.model_store.gguf_splittings import SPLITTINGS
from tests.helpers.gguf_models import (
    FAMILIES,
    change_config,
    dense,
    gguf_of,
    llama_cpp,
    logits_of,
    made,
)
from tests.helpers.tokenizers import byte_level, sentencepiece
from tests.jobs.gguf.test_adapters import LORA, arrays
from tests.jobs.gguf.test_rope import LLAMA3 as LLAMA3_ROPE

TOKENS = list(range(5, 80, 3))
NOTHING = LlamaQuestion(examples=(), prompts=(), questions=(), limit=0, ends=(), texts=())
CLOSE = 1e-2
TEXTS = (
    "O Farense venceu por 2-1 em 1995/96, no Estádio de São Luís.",
    "  dois espaços,\n\numa linha vazia e\tum tabulador  ",
    "Don't SHOUT: it's 12345 + 67,89 € (isn't it?)",
    "日本語 e emojis 👍🏽, ¿qué?",
    "</s><s> a meio <pad>",
)


def apart(theirs: Array, ours: Array) -> float:
    """Return the widest gap as a share of the largest of ours."""
    return float(np.abs(theirs - ours).max() / np.abs(ours).max())


def ask(path: Path, adapter: Path | None = None, **asked: Any) -> LlamaAnswer:
    """Return what llama.cpp answers."""
    llama_cpp()
    return ask_llama(path, adapter, LlamaQuestion(**{**vars(NOTHING), **asked}))


ROPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama3": ("llama", {"rope_scaling": LLAMA3_ROPE}),
    "linear": ("qwen2", {"rope_scaling": {"type": "linear", "factor": 4.0}}),
    "yarn": (
        "qwen3",
        {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}},
    ),
    "longrope": (
        "phi3:partial_rotary_factor=1.0",
        {
            "original_max_position_embeddings": 256,
            "rope_scaling": {
                "type": "longrope",
                "long_factor": [1.0 + number / 4 for number in range(8)],
                "short_factor": [1.0] * 8,
            },
        },
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_architecture_computes_the_same_there(name: str, tmp_path: Path) -> None:
    folder = made(tmp_path / "model", name)
    path = gguf_of(folder, tmp_path / "model.gguf")
    found = ask(path, prompts=[TOKENS[:9], TOKENS])
    ours = logits_of(dense(folder)[0], TOKENS)
    assert apart(found.logits, ours[[8, -1]]) < CLOSE


@pytest.mark.parametrize("scaling", ROPES)
def test_every_scaled_rotary_embedding_computes_the_same_there(
    scaling: str, tmp_path: Path
) -> None:
    name, changes = ROPES[scaling]
    folder = made(tmp_path / "model", name)
    plain = logits_of(dense(folder)[0], TOKENS)
    change_config(folder, **changes)
    found = ask(gguf_of(folder, tmp_path / "model.gguf"), prompts=[TOKENS])
    ours = logits_of(dense(folder)[0], TOKENS)
    assert apart(found.logits, ours[[-1]]) < CLOSE
    # The scaling counts.
    assert apart(plain[[-1]], ours[[-1]]) > 2 * CLOSE


def test_losses_are_those_of_the_tokens_that_count(tmp_path: Path) -> None:
    folder = made(tmp_path / "model", "llama")
    found = ask(gguf_of(folder, tmp_path / "model.gguf"), examples=[(TOKENS, [3, 7, 24])])
    logits = logits_of(dense(folder)[0], TOKENS).astype(np.float64)
    losses = [np.log(np.exp(logits[i - 1]).sum()) - logits[i - 1][TOKENS[i]] for i in (3, 7, 24)]
    assert found.loss == pytest.approx(np.mean(losses), rel=2e-3)


def test_greedy_answers_are_those_of_mlx(tmp_path: Path) -> None:
    folder = made(tmp_path / "model", "llama")
    module, _ = dense(folder)
    expected = list(TOKENS)
    for _ in range(6):
        expected.append(int(logits_of(module, expected)[-1].argmax()))
    answer = expected[len(TOKENS) :]
    path = gguf_of(folder, tmp_path / "model.gguf")
    assert ask(path, questions=[TOKENS], limit=6).answers == [answer]
    end = answer[4]
    shorter = answer[: answer.index(end)]
    assert ask(path, questions=[TOKENS], limit=6, ends=[end]).answers == [shorter]


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_an_adapter_beside_its_base_computes_as_in_mlx(name: str, tmp_path: Path) -> None:
    folder = made(tmp_path / "model", name)
    path, adapter = gguf_of(folder, tmp_path / "model.gguf"), tmp_path / "adapter.gguf"
    given = {name: array * 0.2 for name, array in arrays().items()}
    write_adapter(adapter, given, LORA, base_model(folder).settings, ("x", "y"))
    module, _ = dense(folder)
    bare = logits_of(module, TOKENS)[[-1]]
    apply_lora(module, LORA, 0, DropoutNoise(0.0))
    module.update(tree_unflatten(list(given.items())))
    module.eval()
    ours = logits_of(module, TOKENS)[[-1]]
    found = ask(path, adapter, prompts=[TOKENS])
    assert apart(found.logits, ours) < CLOSE
    assert apart(bare, ours) > 5 * CLOSE


@pytest.mark.parametrize("kind", [*SPLITTINGS, "spm", "gemma"])
def test_every_tokenizer_splits_texts_into_the_same_tokens_there(kind: str, tmp_path: Path) -> None:
    folder = made(tmp_path / "model", "llama")
    if kind in ("spm", "gemma"):
        sentencepiece(folder, space_first=kind == "spm")
    else:
        splitting = SPLITTINGS[kind]
        byte_level(folder, splitting.pattern, ignore_merges=splitting.whole)
    ours = Tokenizer.from_file(str(folder / "tokenizer.json"))
    expected = [ours.encode(text, add_special_tokens=False).ids for text in TEXTS]
    found = ask(gguf_of(folder, tmp_path / "model.gguf"), texts=list(TEXTS))
    assert found.tokens == expected


def test_a_file_that_llama_cpp_does_not_load_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelError, match=r"llama\.cpp does not load"):
        ask(path, prompts=[TOKENS])


def test_a_python_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(GGUF_PYTHON, str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="cannot be started"):
        ask_llama(tmp_path / "x", None, NOTHING)
