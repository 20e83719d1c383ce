"""A GGUF becomes a model folder that computes the same."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jobs.errors import ModelError
from jobs.model_store.folder import check_model
from tests.helpers import tiny_gguf
from tests.helpers.tiny_gguf import (
    EPS,
    F16,
    F32,
    HEAD_SIZE,
    HEADS,
    HIDDEN,
    KV_HEADS,
    LAYERS,
    Q8_0,
    THETA,
    TOKENS,
    Array,
    TinyGguf,
)

KIND_NAMES = {F32: "F32", tiny_gguf.Q4_1: "Q4_1", Q8_0: "Q8_0"}
TOKEN_IDS = [1, 70, 71, 200, 5, 33, 260, 90, 91, 2]


def convert(model: TinyGguf, folder: Path) -> Path:
    from jobs.model_store.gguf import convert_gguf

    target = folder / "model"
    target.mkdir()
    convert_gguf(model.write(folder / "tiny.gguf"), target)
    return target


def test_the_folder_gives_the_logits_of_the_gguf(tmp_path: Path) -> None:
    model = tiny_gguf.tiny_gguf()
    folder = convert(model, tmp_path)
    check_model(folder)
    expected = llama_cpp_logits(model.dense, TOKEN_IDS)

    import mlx.core as mx
    import mlx_lm

    module = mlx_lm.load(str(folder))[0]
    logits = np.array(module(mx.array([TOKEN_IDS]))[0].astype(mx.float32))
    # Float16 holds every weight exactly and the norms are float32, so only the order of additions
    # differs; without the rotary order undone the difference is of the size of the logits.
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_tokenizer_splits_as_the_merges_say(tmp_path: Path) -> None:
    folder = convert(tiny_gguf.tiny_gguf(), tmp_path)
    import mlx_lm.tokenizer_utils

    tokenizer = mlx_lm.tokenizer_utils.load(folder)
    ids = tokenizer.encode("Far Far en19<|im_end|>")
    assert [TOKENS[index] for index in ids] == [
        "Far", "Ġ", "Far", "Ġen", "1", "9", "<|im_end|>"
    ]  # fmt: skip
    text = "Farense 2-1, época de 1990!\n  ação"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Far"}], tokenize=False)
    assert chat == "<|im_start|>user\nFar<|im_end|>"


def test_the_config_carries_the_numbers_of_the_metadata(tmp_path: Path) -> None:
    config = json.loads((convert(tiny_gguf.tiny_gguf(), tmp_path) / "config.json").read_text())
    assert config["num_hidden_layers"] == LAYERS
    assert config["rms_norm_eps"] == EPS
    assert config["rope_theta"] == THETA
    assert config["quantization"]["model.embed_tokens"]["bits"] == 8
    assert config["eos_token_id"] == 2


def without_a_tensor(model: TinyGguf) -> None:
    del model.tensors["blk.1.ffn_up.weight"]


def with_another_tensor(model: TinyGguf) -> None:
    model.add("cls.weight", Q8_0, (len(TOKENS), HIDDEN), np.random.default_rng(0))


def with_a_wide_projection(model: TinyGguf) -> None:
    model.add("blk.0.attn_v.weight", F16, (HIDDEN, HIDDEN), np.random.default_rng(0))


def with_a_narrow_8_bit_projection(model: TinyGguf) -> None:
    model.add("blk.0.attn_v.weight", Q8_0, (HEAD_SIZE, HIDDEN), np.random.default_rng(0))


def with_a_short_norm(model: TinyGguf) -> None:
    model.add("blk.1.ffn_norm.weight", F32, (HIDDEN // 2,), np.random.default_rng(0))


def of_another_architecture(model: TinyGguf) -> None:
    model.metadata["general.architecture"] = "gemma2"


def with_another_tokenizer(model: TinyGguf) -> None:
    model.metadata["tokenizer.ggml.pre"] = "viking"


def with_a_bad_merge(model: TinyGguf) -> None:
    model.metadata["tokenizer.ggml.merges"] = ["F", "a b c"]


def without_an_end(model: TinyGguf) -> None:
    del model.metadata["tokenizer.ggml.eos_token_id"]


def without_a_head_count(model: TinyGguf) -> None:
    del model.metadata["llama.attention.head_count"]


def with_heads_that_do_not_fit(model: TinyGguf) -> None:
    model.metadata["llama.attention.head_count"] = HEADS + 1


def with_scaled_rotary_embedding(model: TinyGguf) -> None:
    model.metadata["llama.rope.scaling.type"] = "longrope"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_a_tensor, r"no tensor blk\.1\.ffn_up\.weight"),
        (with_another_tensor, r"unexpected tensors: cls\."),
        (
            with_a_wide_projection,
            r"blk\.0\.attn_v\.weight has shape \(64, 64\), expected \(32, 64\)",
        ),
        (with_a_narrow_8_bit_projection, r"blk\.0\.attn_v\.weight has shape .*: 32 x 64"),
        (with_a_short_norm, r"blk\.1\.ffn_norm\.weight: expected shape \(64,\), found shape"),
        (of_another_architecture, "holds a 'gemma2' model, expected one of llama, qwen2, qwen3"),
        (with_another_tokenizer, "'gpt2' with pre-tokenizer 'viking', expected"),
        (with_a_bad_merge, "merge 'F' does not join"),
        (without_an_end, r"tokenizer is incomplete: 'tokenizer\.ggml\.eos_token_id'"),
        (without_a_head_count, r"metadata is incomplete: 'llama\.attention\.head_count'"),
        (with_heads_that_do_not_fit, "5 heads of size 16 do not make up its hidden size 64"),
        (with_scaled_rotary_embedding, "scales its rotary embedding by 'longrope'"),
    ],
)
def test_another_kind_of_gguf_is_refused(
    change: Callable[[TinyGguf], None], message: str, tmp_path: Path
) -> None:
    model = tiny_gguf.tiny_gguf()
    change(model)
    with pytest.raises(ModelError, match=message):
        convert(model, tmp_path)


@pytest.mark.parametrize(
    ("number", "kind"), [(39, "MXFP4"), (40, "NVFP4"), (34, "TQ1_0"), (77, "type 77")]
)
@pytest.mark.parametrize("place", ["blk.0.attn_v.weight", "blk.1.ffn_norm.weight"])
def test_a_kind_that_mlx_does_not_know_is_named(
    number: int, kind: str, place: str, tmp_path: Path
) -> None:
    """MLX says nothing: it gives the tensors before it, and none behind."""
    model = tiny_gguf.tiny_gguf()
    old = model.tensors[place]
    model.tensors[place] = tiny_gguf.Tensor(number, old.shape, old.content)
    message = f"MLX cannot read {place} of tiny.gguf, a tensor of the kind {kind}: it is so with 1 "
    with pytest.raises(ModelError, match=re.escape(message)):
        convert(model, tmp_path)


def test_bfloat16_stays_what_it_is(tmp_path: Path) -> None:
    """MLX makes float16 of it: 100,000 would be infinite, 1e-30 zero."""
    values = np.linspace(0.5, 1.5, HIDDEN, dtype=np.float32)
    values[:3] = 1e5, -3e38, 1e-30
    bits = (values.view(np.uint32) >> 16).astype("<u2")
    model = tiny_gguf.tiny_gguf()
    tensor = tiny_gguf.Tensor(30, (HIDDEN,), bits.tobytes())
    model.tensors["blk.1.ffn_norm.weight"] = tensor
    folder = convert(model, tmp_path)

    import mlx.core as mx

    found = mx.load(str(folder / "model.safetensors"))
    assert isinstance(found, dict)
    norm = found["model.layers.1.post_attention_layernorm.weight"]
    assert norm.dtype == mx.bfloat16
    expected = (bits.astype(np.uint32) << 16).view(np.float32)
    assert (np.array(norm.astype(mx.float32)) == expected).all()


def test_the_header_says_what_mlx_reads(tmp_path: Path) -> None:
    from jobs.model_store.gguf_header import read_gguf_header

    model = tiny_gguf.tiny_gguf()
    path = model.write(tmp_path / "tiny.gguf")
    content = path.read_bytes()
    header = read_gguf_header(path)
    assert header.keys() == model.tensors.keys()
    for name, tensor in model.tensors.items():
        found = header[name]
        assert (found.shape, found.kind) == (tensor.shape, KIND_NAMES[tensor.kind])
        assert content[found.offset :].startswith(tensor.content)


def test_a_damaged_header_is_an_error_of_ours(tmp_path: Path) -> None:
    from jobs.model_store.gguf_header import read_gguf_header

    path = tiny_gguf.tiny_gguf().write(tmp_path / "tiny.gguf")
    content = path.read_bytes()
    data = min(tensor.offset for tensor in read_gguf_header(path).values())
    seeded = np.random.default_rng(4)
    for end in seeded.integers(0, data - 32, 60):
        path.write_bytes(content[:end])
        with pytest.raises(ModelError):
            read_gguf_header(path)
    for at in seeded.integers(0, data, 200):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        with contextlib.suppress(ModelError):
            read_gguf_header(path)


@pytest.mark.parametrize("size", [0, 3, 100, 20_000])
def test_a_torn_gguf_is_refused(size: int, tmp_path: Path) -> None:
    from jobs.model_store.gguf import convert_gguf

    path = tiny_gguf.tiny_gguf().write(tmp_path / "tiny.gguf")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"not a GGUF|damaged"):
        convert_gguf(path, tmp_path)


def test_what_is_no_gguf_is_refused(tmp_path: Path) -> None:
    from jobs.model_store.gguf import convert_gguf

    (tmp_path / "model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError, match="not a GGUF file"):
        convert_gguf(tmp_path / "model.bin", tmp_path)


def llama_cpp_logits(dense: dict[str, Array], token_ids: list[int]) -> Array:
    """Run the weights in the row order of the file, as llama.cpp does, in float64."""
    x = dense["token_embd.weight"][token_ids]
    for layer in range(LAYERS):
        block = {
            name.split(".")[2]: values
            for name, values in dense.items()
            if name.startswith(f"blk.{layer}.")
        }
        x = x + attention(rms_norm(x, block["attn_norm"]), block)
        h = rms_norm(x, block["ffn_norm"])
        gate = h @ block["ffn_gate"].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ block["ffn_up"].T)) @ block["ffn_down"].T
    return np.asarray(rms_norm(x, dense["output_norm.weight"]) @ dense["token_embd.weight"].T)


def attention(h: Array, block: dict[str, Array]) -> Array:
    length = len(h)
    q = rotated((h @ block["attn_q"].T).reshape(length, HEADS, HEAD_SIZE))
    k = rotated((h @ block["attn_k"].T).reshape(length, KV_HEADS, HEAD_SIZE))
    v = (h @ block["attn_v"].T).reshape(length, KV_HEADS, HEAD_SIZE)
    heads = []
    for head in range(HEADS):
        kv = head // (HEADS // KV_HEADS)
        scores = q[:, head] @ k[:, kv].T / np.sqrt(HEAD_SIZE)
        scores[np.triu_indices(length, 1)] = -np.inf
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        heads.append(weights / weights.sum(axis=-1, keepdims=True) @ v[:, kv])
    return np.asarray(np.concatenate(heads, axis=-1) @ block["attn_output"].T)


def rotated(x: Array) -> Array:
    """Rotate neighbouring elements (2i, 2i + 1) of each head by position / THETA^(2i / d)."""
    frequency = THETA ** (-np.arange(0, HEAD_SIZE, 2) / HEAD_SIZE)
    angle = (np.arange(len(x))[:, None] * frequency)[:, None, :]
    even, odd = x[..., 0::2], x[..., 1::2]
    out = np.empty_like(x)
    out[..., 0::2] = even * np.cos(angle) - odd * np.sin(angle)
    out[..., 1::2] = even * np.sin(angle) + odd * np.cos(angle)
    return out


def rms_norm(x: Array, weight: Array) -> Array:
    return np.asarray(x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + EPS) * weight)
