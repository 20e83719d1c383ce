"""GGUFs of other people: each kind of tensor that MLX reads, each architecture, each tokenizer."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGUFWriter, TokenType
from gguf import GGMLQuantizationType as Kind
from gguf.quants import dequantize

from jobs.backend.mlx import mx
from jobs.errors import ModelError
from jobs.model.load import load_module
from jobs.model_store.folder import check_model
from jobs.model_store.gguf import convert_gguf
from jobs.model_store.gguf_splittings import SPLITTINGS
from jobs.model_store.gguf_tokenizer import write_tokenizer
from tests.helpers.architectures import make_model
from tests.helpers.written_gguf import tokens_of, write_gguf

TOKEN_IDS = [1, 70, 71, 200, 5, 33, 260, 90, 91, 2, 17, 300]
# The widest gap between logits, as a share of the largest: 8 bits and 4 hold that much.
ROUNDING = {
    Kind.F32: 1e-5, Kind.BF16: 0.02, Kind.F16: 2e-3, Kind.Q8_0: 0.03, Kind.Q4_1: 0.4,
    Kind.Q4_0: 0.4,
}  # fmt: skip


def converted(path: Path, folder: Path) -> Path:
    folder.mkdir()
    convert_gguf(path, folder)
    check_model(folder)
    return folder


def logits(folder: Path) -> Any:
    found = load_module(folder)(mx.array([TOKEN_IDS]))[0]
    return np.array(found.astype(mx.float32))


def apart(one: Any, other: Any) -> float:
    return float(np.abs(one - other).max() / np.abs(one).max())


def layers_of(folder: Path) -> dict[str, Any]:
    found = mx.load(str(folder / "model.safetensors"))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("kind", ROUNDING, ids=lambda kind: kind.name)
def test_each_kind_computes_as_its_source(kind: Kind, tmp_path: Path) -> None:
    source = make_model(tmp_path / "source", "llama", tie_word_embeddings=False)
    path = write_gguf(source, tmp_path / "some.gguf", lambda _: kind)
    folder = converted(path, tmp_path / "mine")
    assert apart(logits(source), logits(folder)) < ROUNDING[kind]
    weights = layers_of(folder)
    assert ("lm_head.scales" in weights) == (kind in (Kind.Q8_0, Kind.Q4_0, Kind.Q4_1))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3"])
def test_each_architecture_computes_as_its_source(
    model_type: str, tied: bool, tmp_path: Path
) -> None:
    # Heads that are wider than the hidden size, where the architecture can.
    wide = {} if model_type == "qwen2" else {"head_dim": 32}
    source = make_model(tmp_path / "source", model_type, tie_word_embeddings=tied, **wide)
    path = write_gguf(source, tmp_path / "some.gguf", lambda _: Kind.F32)
    folder = converted(path, tmp_path / "mine")
    assert apart(logits(source), logits(folder)) < 1e-5
    config = json.loads((folder / "config.json").read_text())
    assert (config["model_type"], config["tie_word_embeddings"]) == (model_type, tied)
    assert "quantization" not in config
    assert ("lm_head.weight" in layers_of(folder)) != tied


def test_kinds_may_be_mixed(tmp_path: Path) -> None:
    source = make_model(tmp_path / "source", "llama", tie_word_embeddings=False)

    def kinds(name: str) -> Kind:
        if name == "token_embd.weight":
            return Kind.F16
        return Kind.Q8_0 if "attn_v" in name or name == "output.weight" else Kind.Q4_1

    folder = converted(write_gguf(source, tmp_path / "mixed.gguf", kinds), tmp_path / "mine")
    config = json.loads((folder / "config.json").read_text())
    quantization = config["quantization"]
    assert (quantization["bits"], quantization["group_size"]) == (4, 32)
    assert {path: found["bits"] for path, found in quantization.items() if "." in path} == {
        f"model.layers.{layer}.self_attn.v_proj": 8 for layer in range(4)
    }
    assert quantization["lm_head"] == {"group_size": 32, "bits": 8}
    weights = layers_of(folder)
    assert "model.embed_tokens.scales" not in weights
    assert apart(logits(source), logits(folder)) < ROUNDING[Kind.Q4_1]


@pytest.mark.parametrize("kind", [Kind.Q2_K, Kind.Q4_K, Kind.Q6_K], ids=lambda kind: kind.name)
def test_the_k_kinds_become_float16(kind: Kind, tmp_path: Path) -> None:
    source = make_model(
        tmp_path / "source", "llama", hidden_size=256, intermediate_size=256, num_hidden_layers=1
    )
    # Blocks as they may be: scales that are small numbers, and any bits beside them.
    block, size = GGML_QUANT_SIZES[kind]
    rng = np.random.default_rng(1)
    blocks = rng.integers(0, 256, (256, 256 // block * size), np.uint8)
    for place in {Kind.Q2_K: (80, 82), Kind.Q4_K: (0, 2), Kind.Q6_K: (208,)}[kind]:
        scale = np.frombuffer(np.float16(0.002).tobytes(), np.uint8)
        blocks[:, place : place + 2] = scale
    name = "blk.0.ffn_down.weight"
    path = write_gguf(
        source,
        tmp_path / "some.gguf",
        lambda matrix: kind if matrix == name else Kind.F16,
        blocks={name: blocks},
    )
    folder = converted(path, tmp_path / "mine")
    found = layers_of(folder)["model.layers.0.mlp.down_proj.weight"]
    assert found.dtype == mx.float16
    expected = dequantize(blocks, kind)
    assert np.allclose(np.array(found.astype(mx.float32)), expected, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("kind", [Kind.Q5_0, Kind.Q5_1], ids=lambda kind: kind.name)
def test_a_kind_that_mlx_cannot_read_is_named_before_anything_is_written(
    kind: Kind, tmp_path: Path
) -> None:
    source = make_model(tmp_path / "source", "llama")
    path = write_gguf(
        source, tmp_path / "some.gguf", lambda name: kind if "blk.1.attn_v" in name else Kind.Q8_0
    )
    (tmp_path / "mine").mkdir()
    with pytest.raises(ModelError, match=rf"blk\.1\.attn_v\.weight .* of the kind {kind.name}: "):
        convert_gguf(path, tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize(
    ("scaling", "written"),
    [
        ({"rope_type": "linear", "factor": 4.0}, {"type": "linear", "factor": 4.0}),
        (
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256},
            {"type": "yarn", "factor": 4.0, "original": 256},
        ),
    ],
)
def test_a_scaled_rotary_embedding_is_kept(
    scaling: dict[str, Any], written: dict[str, Any], tmp_path: Path
) -> None:
    source = make_model(tmp_path / "source", "llama", rope_scaling=scaling)
    plain = make_model(tmp_path / "plain", "llama")
    path = write_gguf(source, tmp_path / "some.gguf", lambda _: Kind.F32, scaling=written)
    found = logits(converted(path, tmp_path / "mine"))
    assert apart(logits(source), found) < 1e-5
    assert apart(logits(plain), found) > 1e-3


def test_llama_3s_table_is_known_and_no_other(tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    source = make_model(
        tmp_path / "source", "llama", rope_scaling=scaling, rope_theta=500000.0, head_dim=64
    )
    rope = load_module(source).layers[0].self_attn.rope
    plain = 500000.0 ** (np.arange(0, 64, 2) / 64)
    table = np.array(rope._freqs.astype(mx.float32)) / plain
    path = write_gguf(source, tmp_path / "some.gguf", lambda _: Kind.F32, table=table)
    folder = converted(path, tmp_path / "mine")
    assert json.loads((folder / "config.json").read_text())["rope_scaling"] == scaling
    assert apart(logits(source), logits(folder)) < 1e-4
    path = write_gguf(source, tmp_path / "other.gguf", lambda _: Kind.F32, table=table[::-1])
    with pytest.raises(ModelError, match="by a table that is not Llama 3's"):
        converted(path, tmp_path / "other")


# How each pattern splits one text, as the tokenizers of its models do.
TEXT = "Far 1234 en's!\n\n  é"
PIECES = {
    "gpt-2": ["Far", "Ġ1234", "Ġen", "'s", "!", "ĊĊĠ", "ĠÃ©"],
    "smollm": ["Far", "Ġ", "1", "2", "3", "4", "Ġen", "'s", "!", "ĊĊĠ", "ĠÃ©"],
    "llama-bpe": ["Far", "Ġ", "123", "4", "Ġen", "'s", "!ĊĊ", "Ġ", "ĠÃ©"],
    "qwen2": ["Far", "Ġ", "1", "2", "3", "4", "Ġen", "'s", "!ĊĊ", "Ġ", "ĠÃ©"],
    "tekken": ["Far", "Ġ", "1", "2", "3", "4", "Ġen", "'s", "!ĊĊ", "Ġ", "ĠÃ©"],
    "dbrx": ["Far", "Ġ", "123", "4", "Ġen", "'s", "!ĊĊ", "Ġ", "ĠÃ©"],
    "qwen35": ["Far", "Ġ", "1", "2", "3", "4", "Ġen", "'s", "!ĊĊ", "Ġ", "ĠÃ©"],
    "gpt-4o": ["Far", "Ġ", "123", "4", "Ġen's", "!ĊĊ", "Ġ", "ĠÃ©"],
}


@pytest.mark.parametrize("pre", SPLITTINGS)
def test_a_byte_level_tokenizer_splits_by_its_pattern(pre: str, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    source = make_model(tmp_path / "source", "llama")
    path = write_gguf(source, tmp_path / "some.gguf", lambda _: Kind.F32, pre=pre)
    folder = converted(path, tmp_path / "mine")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    pieces = [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(TEXT)]
    assert pieces == PIECES[pre]
    tokens = tokens_of(512)
    begins = [0] if SPLITTINGS[pre].begins else []
    ids = tokenizer.encode("Far en</s><|end|>").ids
    assert ids == [*begins, tokens.index("Far"), tokens.index("Ġen"), 1, 2]
    assert tokenizer.decode(tokenizer.encode(TEXT).ids) == TEXT


def test_sentencepiece_joins_by_the_best_score(tmp_path: Path) -> None:
    """By the rule itself: of all neighbours, those are joined whose whole has the best score."""
    words = ["▁", "F", "a", "r", "e", "n", "s", "o", "▁F", "Fa", "Far", "▁Far", "en", "ens", "ar"]
    words += ["ense", "▁o", "so", "arr", "▁e", "Fare"]
    rng = np.random.default_rng(3)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256)), *words]
    kinds = [TokenType.UNKNOWN, *[TokenType.CONTROL] * 2, *[TokenType.BYTE] * 256]
    kinds += [TokenType.NORMAL] * len(words)
    scores = dict.fromkeys(tokens, -1000.0)
    scores |= dict(zip(words, (-rng.permutation(len(words))).astype(float).tolist(), strict=True))
    path = tmp_path / "some.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([scores[token] for token in tokens])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_tensor("output_norm.weight", np.zeros(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    loaded: Any = mx.load(str(path), return_metadata=True)
    write_tokenizer(loaded[1], tmp_path, context=128)

    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in ("Farense Farense", "o Far e ens", "arrense", "Fareno  so", "é F\n"):
        found = tokenizer.encode(text)
        assert found.tokens == ["<s>", *joined(text, scores)]
        assert tokenizer.decode(found.ids) == text
    assert tokenizer.encode("Far</s>").ids[-1] == 2


def joined(text: str, scores: dict[str, float]) -> list[str]:
    parts = []
    for letter in "▁" + text.replace(" ", "▁"):
        known = letter in scores
        parts += [letter] if known else [f"<0x{byte:02X}>" for byte in letter.encode()]
    while True:
        pairs = [
            (scores[one + other], -place)
            for place, (one, other) in enumerate(itertools.pairwise(parts))
            if one + other in scores
        ]
        if not pairs:
            return parts
        place = -max(pairs)[1]
        parts[place : place + 2] = ["".join(parts[place : place + 2])]
