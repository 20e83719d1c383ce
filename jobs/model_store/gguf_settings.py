"""What the metadata of a GGUF says of a model: its sizes, and how it turns its positions.

Three architectures of llama.cpp are read, each of which mlx-lm computes alike: ``llama`` (Llama,
Mistral, SmolLM and their kin), ``qwen2`` and ``qwen3``. The keys:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.errors import ModelError

Metadata = Mapping[str, Any]
# Of Llama 3, of which a GGUF holds the table alone: what its models agree in.
LOW, HIGH, CONTEXT = 1.0, 4.0, 8192
# How far a table in float32 may be from the one that mlx-lm computes.
TABLE_ERROR = 1e-3
# A projection of a block: GGUF's name -> mlx-lm's.
LINEARS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclass(frozen=True)
class Family:
    """What an architecture has that others have not.

    Attributes:
        class_name: in transformers.
        interleaved: llama.cpp rotates neighbouring elements of a head, (0, 1), (2, 3), ...; mlx-lm
            rotates element i with i + head_size / 2: rows of queries and keys change places.
        biases: the projections that have one.
        head_norms: queries and keys are normed, head by head.
    """

    class_name: str
    interleaved: bool = False
    biases: tuple[str, ...] = ()
    head_norms: bool = False


FAMILIES = {
    "llama": Family("LlamaForCausalLM", interleaved=True),
    "qwen2": Family("Qwen2ForCausalLM", biases=("attn_q", "attn_k", "attn_v")),
    "qwen3": Family("Qwen3ForCausalLM", head_norms=True),
}


@dataclass(frozen=True)
class GgufShape:
    """The dimensions of a model, as the metadata gives them.

    Attributes:
        kind: its architecture.
        scaling: of its rotary embedding, as ``config.json`` says it; None where it has none, or
            where a table says it.
    """

    kind: str
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int
    rms_norm_eps: float
    rope_theta: float
    scaling: dict[str, Any] | None = None

    @property
    def family(self) -> Family:
        """What its architecture has of its own."""
        return FAMILIES[self.kind]

    @classmethod
    def of(cls, metadata: Metadata) -> GgufShape:
        """Read the dimensions from GGUF metadata.

        Raises:
            ModelError: another architecture, a missing key, dimensions that do not fit together, or
                what mlx-lm does not compute.
        """
        kind = metadata.get("general.architecture")
        if kind not in FAMILIES:
            raise ModelError(
                f"The GGUF holds a {kind!r} model, expected one of {', '.join(FAMILIES)}.",
                "Take the model's safetensors, in MLX's form or as it was published.",
            )
        if metadata.get(f"{kind}.expert_count"):
            raise ModelError("The GGUF's model has experts: not supported.")
        try:
            shape = cls(
                kind=kind,
                hidden_size=int(metadata[f"{kind}.embedding_length"]),
                intermediate_size=int(metadata[f"{kind}.feed_forward_length"]),
                layers=int(metadata[f"{kind}.block_count"]),
                heads=int(metadata[f"{kind}.attention.head_count"]),
                kv_heads=_kv_heads(metadata, kind),
                head_size=_head_size(metadata, kind),
                vocabulary=len(metadata["tokenizer.ggml.tokens"]),
                context=int(metadata[f"{kind}.context_length"]),
                rms_norm_eps=shortest(metadata[f"{kind}.attention.layer_norm_rms_epsilon"]),
                rope_theta=shortest(metadata.get(f"{kind}.rope.freq_base", 10_000.0)),
                scaling=_scaling(metadata, kind),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"The GGUF's metadata is incomplete: {error}.") from error
        shape.check(whole=f"{kind}.attention.key_length" not in metadata)
        return shape

    def check(self, *, whole: bool) -> None:
        """Refuse dimensions that do not fit together.

        Args:
            whole: the heads make up the hidden size, since nothing says otherwise.
        """
        # mlx-lm's qwen2 has no other.
        whole = whole or self.kind == "qwen2"
        misfit = whole and self.heads * self.head_size != self.hidden_size
        if misfit or self.head_size % 2 or self.kv_heads < 1 or self.heads % self.kv_heads:
            raise ModelError(
                f"The GGUF's {self.heads} heads of size {self.head_size} do not make up its "
                f"hidden size {self.hidden_size}."
            )

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Return rows and columns of each projection of a block, by GGUF's names."""
        hidden, inner = self.hidden_size, self.intermediate_size
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        return {
            "attn_q": (queries, hidden),
            "attn_k": (keys, hidden),
            "attn_v": (keys, hidden),
            "attn_output": (hidden, queries),
            "ffn_gate": (inner, hidden),
            "ffn_up": (inner, hidden),
            "ffn_down": (hidden, inner),
        }


def table_scaling(shape: GgufShape, table: NDArray[np.float64]) -> dict[str, Any]:
    """Return the scaling that a table of divisors stands for: Llama 3's.

    Args:
        table: a divisor for each pair of elements of a head.

    Raises:
        ModelError: it is another.
    """
    factor = float(table.max())
    size = shape.head_size
    if table.shape == (size // 2,):
        expected = llama3_table(size, shape.rope_theta, factor, (LOW, HIGH), CONTEXT)
        if np.allclose(table, expected, rtol=TABLE_ERROR):
            return {
                "rope_type": "llama3",
                "factor": shortest(factor),
                "low_freq_factor": LOW,
                "high_freq_factor": HIGH,
                "original_max_position_embeddings": CONTEXT,
            }
    raise ModelError(
        "The GGUF scales its rotary embedding by a table that is not Llama 3's: not supported."
    )


def llama3_table(
    size: int, theta: float, factor: float, turns: tuple[float, float], context: int
) -> NDArray[np.float64]:
    """Return by what Llama 3 divides the frequency of each pair of a head's elements, [pairs].

    By 1 where a wave turns often within ``context`` tokens, by ``factor`` where it does not, and
    between the two by something between.

    Args:
        size: of a head.
        turns: fewer than the first are few, more than the second often.
    """
    low, high = turns
    waves = 2 * math.pi * theta ** (np.arange(0, size, 2) / size)
    smooth = (context / waves - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    long, short = waves > context / low, waves <= context / high
    return np.where(long, factor, np.where(short, 1.0, between))


def shortest(value: Any) -> float:
    """Return a float32 as people wrote it: 1e-05, not 9.999999747378752e-06."""
    return float(f"{float(value):.7g}")


def _kv_heads(metadata: Metadata, kind: str) -> int:
    heads = metadata[f"{kind}.attention.head_count"]
    return int(metadata.get(f"{kind}.attention.head_count_kv", heads))


def _head_size(metadata: Metadata, kind: str) -> int:
    """Return the elements of a head, all of which are rotated."""
    heads = int(metadata[f"{kind}.attention.head_count"])
    usual = int(metadata[f"{kind}.embedding_length"]) // max(heads, 1)
    rotated = int(metadata.get(f"{kind}.rope.dimension_count", usual))
    size = int(metadata.get(f"{kind}.attention.key_length", rotated))
    if int(metadata.get(f"{kind}.attention.value_length", size)) != size:
        raise ModelError("The GGUF's keys and values differ in size: not supported.")
    if f"{kind}.rope.dimension_count" in metadata and rotated != size:
        raise ModelError(
            f"The GGUF rotates {rotated} of the {size} elements of a head: not supported."
        )
    return size


def _scaling(metadata: Metadata, kind: str) -> dict[str, Any] | None:
    """Return the scaling of the rotary embedding that numbers say."""
    prefix = f"{kind}.rope.scaling"
    form = metadata.get(f"{prefix}.type", "none")
    if form == "none":
        return None
    if form not in ("linear", "yarn"):
        raise ModelError(f"The GGUF scales its rotary embedding by {form!r}: not supported.")
    scaling: dict[str, Any] = {"type": form, "factor": shortest(metadata[f"{prefix}.factor"])}
    if form == "yarn":
        original = int(metadata[f"{prefix}.original_context_length"])
        scaling["original_max_position_embeddings"] = original
        for name, key in (("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")):
            if f"{prefix}.{key}" in metadata:
                scaling[name] = shortest(metadata[f"{prefix}.{key}"])
    return scaling
