"""A tiny llama written as a GGUF file, beside the dense weights it stands for."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers.pre_tokenizers import ByteLevel

Array = NDArray[np.float64]

ALIGNMENT = 32
GROUP = 32
F32, F16, Q4_1, Q8_0 = 0, 1, 3, 8
UINT32, INT32, FLOAT32, STRING, ARRAY = 4, 5, 6, 8, 9

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, HEAD_SIZE = 64, 96, 2, 4, 2, 16
THETA, EPS = 10000.0, 1e-5
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["F a", "Fa r", "e n", "Ġ en"]
TOKENS = SPECIAL + sorted(ByteLevel.alphabet()) + [merge.replace(" ", "") for merge in MERGES]
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' }}"
    "{% endfor %}"
)


@dataclass
class Tensor:
    """A tensor as the file holds it: GGML type, shape (rows first) and bytes."""

    kind: int
    shape: tuple[int, ...]
    content: bytes


@dataclass
class TinyGguf:
    """What goes into the file; ``dense`` are the values its tensors stand for."""

    metadata: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    dense: dict[str, Array] = field(default_factory=dict)

    def add(self, name: str, kind: int, shape: tuple[int, ...], rng: np.random.Generator) -> None:
        """Add a random tensor. Scales are powers of two: every value is exact in float16."""
        self.tensors[name], self.dense[name] = _MAKERS[kind](shape, rng)

    def write(self, path: Path) -> Path:
        """Write the file and return its path."""
        header = struct.pack("<4sIQQ", b"GGUF", 3, len(self.tensors), len(self.metadata))
        header += b"".join(_string(key) + _value(value) for key, value in self.metadata.items())
        data = b""
        for name, tensor in self.tensors.items():
            dimensions = tensor.shape[::-1]
            header += _string(name) + struct.pack("<I", len(dimensions))
            header += struct.pack(f"<{len(dimensions)}Q", *dimensions)
            header += struct.pack("<IQ", tensor.kind, len(data))
            data = _padded(data + tensor.content)
        path.write_bytes(_padded(header) + data)
        return path


def tiny_gguf(seed: int = 0) -> TinyGguf:
    """Return a random llama of two blocks with a byte-level tokenizer."""
    rng = np.random.default_rng(seed)
    model = TinyGguf(_metadata())
    model.add("token_embd.weight", Q8_0, (len(TOKENS), HIDDEN), rng)
    model.add("output_norm.weight", F32, (HIDDEN,), rng)
    kv_size = KV_HEADS * HEAD_SIZE
    for layer in range(LAYERS):
        for name, shape in {
            "attn_q": (HIDDEN, HIDDEN),
            "attn_k": (kv_size, HIDDEN),
            "attn_v": (kv_size, HIDDEN),
            "attn_output": (HIDDEN, HIDDEN),
            "ffn_gate": (INNER, HIDDEN),
            "ffn_up": (INNER, HIDDEN),
            "ffn_down": (HIDDEN, INNER),
        }.items():
            model.add(f"blk.{layer}.{name}.weight", Q4_1, shape, rng)
        for name in ("attn_norm", "ffn_norm"):
            model.add(f"blk.{layer}.{name}.weight", F32, (HIDDEN,), rng)
    return model


def _metadata() -> dict[str, Any]:
    return {
        "general.architecture": "llama",
        "llama.embedding_length": HIDDEN,
        "llama.feed_forward_length": INNER,
        "llama.block_count": LAYERS,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": EPS,
        "llama.rope.dimension_count": HEAD_SIZE,
        "llama.rope.freq_base": THETA,
        "llama.context_length": 128,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.token_type": [3 if token in SPECIAL else 1 for token in TOKENS],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.chat_template": TEMPLATE,
    }


def _float32(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Tensor, Array]:
    values = rng.integers(64, 192, shape) / 128.0
    return Tensor(F32, shape, values.astype("<f4").tobytes()), values


def _float16(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Tensor, Array]:
    values = rng.integers(-64, 64, shape) / 128.0
    return Tensor(F16, shape, values.astype("<f2").tobytes()), values


def _q4_1(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Tensor, Array]:
    """Blocks of float16 scale and minimum, then 16 bytes: low nibbles first, high ones after."""
    scale, minimum = 2.0**-5, -(2.0**-2)
    q = rng.integers(0, 16, (*shape[:-1], shape[-1] // GROUP, GROUP))
    nibbles = (q[..., :16] | q[..., 16:] << 4).astype(np.uint8)
    head = np.frombuffer(struct.pack("<ee", scale, minimum), np.uint8)
    blocks = np.concatenate([np.broadcast_to(head, (*q.shape[:-1], 4)), nibbles], axis=-1)
    values = (q * scale + minimum).astype(np.float64)
    return Tensor(Q4_1, shape, blocks.tobytes()), values.reshape(shape)


def _q8_0(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Tensor, Array]:
    """Blocks of a float16 scale, then 32 signed bytes."""
    scale = 2.0**-8
    q = rng.integers(-127, 128, (*shape[:-1], shape[-1] // GROUP, GROUP)).astype(np.int8)
    head = np.frombuffer(struct.pack("<e", scale), np.uint8)
    blocks = np.concatenate([np.broadcast_to(head, (*q.shape[:-1], 2)), q.view(np.uint8)], axis=-1)
    return Tensor(Q8_0, shape, blocks.tobytes()), (q * scale).astype(np.float64).reshape(shape)


_MAKERS = {F32: _float32, F16: _float16, Q4_1: _q4_1, Q8_0: _q8_0}


def _padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % ALIGNMENT)


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _value(value: Any) -> bytes:
    if isinstance(value, list):
        inner = STRING if isinstance(value[0], str) else INT32
        items = [_string(item) if inner == STRING else struct.pack("<i", item) for item in value]
        return struct.pack("<IIQ", ARRAY, inner, len(value)) + b"".join(items)
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _string(value)
    if isinstance(value, float):
        return struct.pack("<If", FLOAT32, value)
    return struct.pack("<II", UINT32, value)
