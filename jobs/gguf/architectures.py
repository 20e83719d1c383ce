"""Which architectures llama.cpp computes as mlx-lm does, and what a GGUF says of each.

A GGUF holds the weights under names of its own and some numbers beside them; the rest of the
computation is code of llama.cpp, chosen by the architecture's name. So a model is refused here
where mlx-lm computes something that its GGUF could not say. The keys:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFWriter

from jobs.errors import ModelError
from jobs.gguf.rope import LLAMA3, LONGROPE, YARN, head_size, write_rope

Settings = Mapping[str, Any]
# Gemma's 27B models divide attention's scores by another number than the smaller ones, and
# llama.cpp tells them by their blocks.
BLOCKS_27B = {"gemma2": 46, "gemma3": 62}
# llama.cpp's pattern of Gemma 3: five blocks that see a window, then one that sees all.
GEMMA3_PATTERN = 6


@dataclass(frozen=True)
class GgufArchitecture:
    """How an architecture of mlx-lm is written for llama.cpp.

    Attributes:
        arch: llama.cpp's own.
        interleaved: llama.cpp rotates neighbouring elements of a head, mlx-lm an element with the
            one half a head away: rows of the query and key projections change places.
        norm_offset: what mlx-lm adds to the weight of each norm, and llama.cpp does not.
        scalings: of the rotary embedding, beside none and ``linear``, that both know.
        own: writes what only this architecture has.
    """

    arch: MODEL_ARCH
    interleaved: bool = False
    norm_offset: float = 0.0
    scalings: frozenset[str] = frozenset()
    own: Callable[[GGUFWriter, Settings], None] | None = None

    @property
    def name(self) -> str:
        """The name that the GGUF gives, and begins its keys with."""
        return MODEL_ARCH_NAMES[self.arch]


def settings_of(module: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a model's language part: its configuration, with mlx-lm's defaults.

    Args:
        module: as mlx-lm builds it.
        config: its ``config.json``.
    """
    text = config.get("text_config")
    given = {**config, **text} if isinstance(text, dict) else dict(config)
    args = getattr(getattr(module, "language_model", module), "args", None)
    known = asdict(args) if is_dataclass(args) and not isinstance(args, type) else {}
    return given | known | {"model_type": config["model_type"]}


def architecture_of(settings: Settings) -> GgufArchitecture:
    """Return how a model is written.

    Raises:
        ModelError: it cannot be, or llama.cpp would compute something else.
    """
    kind = settings["model_type"]
    found = ARCHITECTURES.get(kind)
    if found is None:
        raise ModelError(
            f"No GGUF can be written of a {kind} model: farense writes {', '.join(ARCHITECTURES)}.",
            "`farense export` without --gguf and --gguf-lora writes it for mlx-lm.",
        )
    if why := _unlike(found, settings):
        raise ModelError(
            f"No GGUF can be written of this {kind} model: {why}, and llama.cpp computes otherwise."
        )
    return found


def _unlike(found: GgufArchitecture, settings: Settings) -> str | None:
    """Return what mlx-lm computes and llama.cpp does not, if anything."""
    if (
        "sliding_attention" in (settings.get("layer_types") or ())
        and found.arch is MODEL_ARCH.LLAMA
    ):
        return "some of its blocks see only a window"
    if settings.get("rope_traditional"):
        return "its rotary embedding turns neighbouring elements"
    if (pattern := settings.get("sliding_window_pattern")) not in (None, GEMMA3_PATTERN):
        return f"every {pattern}th of its blocks sees all, not every {GEMMA3_PATTERN}th"
    if "query_pre_attn_scalar" in settings and found.name in BLOCKS_27B:
        blocks, heads = settings["num_hidden_layers"], settings["num_attention_heads"]
        largest = blocks == BLOCKS_27B[found.name]
        usual = settings["hidden_size"] // heads if largest else settings["head_dim"]
        if (scalar := settings["query_pre_attn_scalar"]) != usual:
            return f"it divides attention's scores by the root of {scalar:g}, not of {usual}"
    return None


def write_settings(writer: GGUFWriter, found: GgufArchitecture, settings: Settings) -> None:
    """Write the numbers that llama.cpp computes with.

    Raises:
        ModelError: one is missing, or the rotary embedding is scaled as llama.cpp does not know it.
    """
    try:
        _write_sizes(writer, settings)
        write_rope(writer, settings, found.scalings)
        if found.own is not None:
            found.own(writer, settings)
    except (KeyError, TypeError) as error:
        raise ModelError(f"The model's config.json says nothing of {error}.") from error


def kv_heads(settings: Settings) -> int:
    """Return the heads of keys and values."""
    return int(settings.get("num_key_value_heads") or settings["num_attention_heads"])


def _write_sizes(writer: GGUFWriter, settings: Settings) -> None:
    writer.add_block_count(settings["num_hidden_layers"])
    writer.add_context_length(settings["max_position_embeddings"])
    writer.add_embedding_length(settings["hidden_size"])
    writer.add_feed_forward_length(settings["intermediate_size"])
    writer.add_head_count(settings["num_attention_heads"])
    writer.add_head_count_kv(kv_heads(settings))
    writer.add_key_length(head_size(settings))
    writer.add_value_length(head_size(settings))
    writer.add_layer_norm_rms_eps(settings["rms_norm_eps"])
    writer.add_vocab_size(settings["vocab_size"])


def _gemma2(writer: GGUFWriter, settings: Settings) -> None:
    writer.add_attn_logit_softcapping(settings["attn_logit_softcapping"])
    writer.add_final_logit_softcapping(settings["final_logit_softcapping"])
    writer.add_sliding_window(settings.get("sliding_window") or 4096)


def _gemma3(writer: GGUFWriter, settings: Settings) -> None:
    writer.add_sliding_window(settings["sliding_window"])
    writer.add_rope_freq_base_swa(settings["rope_local_base_freq"])


def _granite(writer: GGUFWriter, settings: Settings) -> None:
    writer.add_attention_scale(settings["attention_multiplier"])
    writer.add_embedding_scale(settings["embedding_multiplier"])
    writer.add_residual_scale(settings["residual_multiplier"])
    writer.add_logit_scale(settings["logits_scaling"])


_LLAMA = GgufArchitecture(MODEL_ARCH.LLAMA, interleaved=True, scalings=frozenset({LLAMA3, YARN}))
_GEMMA3 = GgufArchitecture(MODEL_ARCH.GEMMA3, norm_offset=1.0, own=_gemma3)
# By mlx-lm's model_type.
ARCHITECTURES = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": GgufArchitecture(MODEL_ARCH.QWEN2, scalings=frozenset({YARN})),
    "qwen3": GgufArchitecture(MODEL_ARCH.QWEN3, scalings=frozenset({YARN})),
    "gemma": GgufArchitecture(MODEL_ARCH.GEMMA, norm_offset=1.0),
    "gemma2": GgufArchitecture(MODEL_ARCH.GEMMA2, norm_offset=1.0, own=_gemma2),
    "gemma3": _GEMMA3,
    "gemma3_text": _GEMMA3,
    "phi3": GgufArchitecture(MODEL_ARCH.PHI3, scalings=frozenset({LONGROPE})),
    "olmo2": GgufArchitecture(MODEL_ARCH.OLMO2),
    "granite": GgufArchitecture(MODEL_ARCH.GRANITE, interleaved=True, own=_granite),
}
