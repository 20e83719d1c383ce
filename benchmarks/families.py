"""Tiny configurations of every architecture that mlx-lm has, in the manner of each family.

Most fields mean the same wherever they stand, so one table gives them a small value by name; what
makes a family itself (the kinds of its blocks, say) stands in a table of its own.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
from pathlib import Path
from typing import Any

from jobs.backend.mlx import mx, named, nn, tree_map
from jobs.model_store.architectures import modules
from jobs.model_store.tiny import CONFIG, write_tokenizer

BLOCKS = 4
QUANTIZATION = {"group_size": 32, "bits": 4}
ALTERNATING = ["sliding_attention", "full_attention"] * 2
# A window shorter than the examples: what it hides from a block must be seen to count.
WINDOW = 16

# What a field of this name gets wherever a configuration has it.
FIELDS: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": BLOCKS,
    "num_layers": BLOCKS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-5,
    "norm_eps": 1e-5,
    "layer_norm_eps": 1e-5,
    "layer_norm_epsilon": 1e-5,
    "rope_theta": 10000.0,
    "vocab_size": CONFIG["vocab_size"],
    "max_position_embeddings": 1024,
    "attention_bias": False,
    "mlp_bias": False,
    "use_bias": False,
    "use_conv_bias": True,
    "use_qkv_bias": False,
    "use_qk_norm": True,
    "qk_norm": True,
    "tie_word_embeddings": False,
    "partial_rotary_factor": 0.5,
    "sliding_window": WINDOW,
    # Mixtures of experts.
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "num_experts_per_token": 2,
    "n_shared_experts": 1,
    "num_shared_experts": 1,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "shared_intermediate_size": 32,
    "moe_shared_expert_intermediate_size": 32,
    "norm_topk_prob": True,
    "routed_scaling_factor": 1.0,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    # Multi-head latent attention.
    "kv_lora_rank": 32,
    "q_lora_rank": 32,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 32,
    "v_head_dim": 32,
    # Linear attention and state spaces.
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
    "full_attention_interval": 2,
    "mamba_n_heads": 4,
    "mamba_d_head": 32,
    "mamba_d_state": 16,
    "mamba_d_conv": 4,
    "mamba_n_groups": 1,
    "mamba_expand": 2,
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
    "state_size": 16,
    "ssm_state_size": 16,
    "conv_kernel": 4,
    "n_groups": 1,
    "time_step_limit": [0.001, 100.0],
    "index_head_dim": 32,
    "index_n_heads": 4,
    "index_topk": 16,
    "layer_group_size": 2,
    "group_norm_size": 1,
    "conv_L_cache": 3,
    "conv_bias": False,
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.25,
    "logits_scaling": 4.0,
    "residual_multiplier": 0.5,
    # The GPT-2 way of naming.
    "n_embd": 64,
    "n_layer": BLOCKS,
    "n_head": 4,
    "n_inner": 128,
    "n_ctx": 1024,
    "n_positions": 1024,
}

YARN = {
    "rope_theta": 10000.0,
    "type": "yarn",
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 512,
    "llama_4_scaling_beta": 0.1,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
}
BY_KIND = {
    "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
    "full_attention": {"rope_theta": 100000.0, "rope_type": "default"},
}
GEMMA3_TEXT = {
    "model_type": "gemma3_text",
    "sliding_window_pattern": 2,
    "query_pre_attn_scalar": 16,
}
GEMMA4_TEXT = {
    "model_type": "gemma4_text",
    "global_head_dim": 32,
    "num_kv_shared_layers": 2,
    "hidden_size_per_layer_input": 32,
    "vocab_size_per_layer_input": CONFIG["vocab_size"],
    "layer_types": ALTERNATING,
    "partial_rotary_factor": 1.0,
    "tie_word_embeddings": True,
}
DELTA = {  # Kimi delta attention
    "kda_layers": [1, 3],
    "full_attn_layers": [2, 4],
    "num_heads": 4,
    "head_dim": 32,
    "short_conv_kernel_size": 4,
}

# What makes each family itself.
OWN: dict[str, dict[str, Any]] = {
    # Its own kind of linear layer cannot be quantized by this mlx-lm.
    "afm7": {
        "quantization": None,
        "hidden_dim": 64,
        "num_kv_reuse_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
    },
    "afmoe": {"layer_types": ALTERNATING, "num_dense_layers": 1},
    "apertus": {"post_norm": False},
    "baichuan_m1": {"sliding_window_layers": [1, 3], "conv_window": 2},
    "bailing_moe_linear": {"n_group": 2, "topk_group": 1},
    "bailing_moe_v3": {
        "model_type": "bailing_hybrid",
        "architectures": ["BailingMoeV3ForCausalLM"],
        "head_dim": 32,
    },
    "dbrx": {
        "d_model": 64,
        "n_layers": BLOCKS,
        "n_heads": 4,
        "ffn_config": {"ffn_hidden_size": 96, "moe_num_experts": 4, "moe_top_k": 2},
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
    },
    "deepseek_v2": {"rope_scaling": YARN, "topk_method": "greedy"},
    "deepseek_v41": {
        "compress_ratios": [0, 4, 0, 4],
        "kv_source_layer_ids": [1, 3],
        "index_source_layer_ids": [1],
        "head_dim": 32,
        "o_groups": 2,
        "o_lora_rank": 32,
        "hc_mult": 2,
        "scoring_func": "sqrtsoftplus",
    },
    "dots1": {"scoring_func": "noaux_tc"},
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2, "moe_num_shared_experts": 1},
    "exaone4": {"sliding_window_pattern": "LG", "rope_scaling": None},
    "exaone_moe": {
        "layer_types": ALTERNATING,
        "is_moe_layer": [False, True, True, True],
    },
    "falcon_h1": {"mamba_d_ssm": 128, "mamba_n_heads": 4},
    "gear": {"layer_types": ["conv_mixer", "sliding_attention", "conv_mixer", "full_attention"]},
    "gemma2": {"query_pre_attn_scalar": 16},
    "gemma3": {"text_config": GEMMA3_TEXT},
    "gemma3_text": GEMMA3_TEXT,
    "gemma3n": {
        "text_config": {
            "model_type": "gemma3n_text",
            "num_kv_shared_layers": 2,
            "vocab_size_per_layer_input": CONFIG["vocab_size"],
            "rope_local_base_freq": 10000.0,
            "final_logit_softcapping": 30.0,
            "layer_types": ALTERNATING,
            "activation_sparsity_pattern": [0.5, 0.5, 0.0, 0.0],
            "hidden_size_per_layer_input": 32,
            "altup_num_inputs": 2,
            "altup_coef_clip": 120.0,
            "altup_correct_scale": True,
            "altup_active_idx": 0,
            "laurel_rank": 32,
        }
    },
    "gemma4": {"text_config": GEMMA4_TEXT},
    "gemma4_text": GEMMA4_TEXT,
    "glm4_moe": {"rope_scaling": None},
    "glm_moe_dsa": {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}},
    "gpt_neox": {"rotary_emb_base": 10000, "rotary_pct": 0.5},
    "gpt_oss": {"layer_types": ALTERNATING, "head_dim": 16},
    "gptj": {"rotary_dim": 8},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2},
    "hunyuan": {
        "moe_topk": 2,
        "num_shared_expert": 1,
        "use_mixed_mlp_moe": True,
        "use_cla": True,
        "cla_share_factor": 2,
        "rope_scaling": {"alpha": 1.0, "factor": 1.0, "type": "dynamic"},
    },
    "hunyuan_v1_dense": {"rope_scaling": {"alpha": 1.0, "factor": 1.0, "type": "dynamic"}},
    "jamba": {
        "attn_layer_offset": 1,
        "attn_layer_period": 2,
        "expert_layer_offset": 1,
        "expert_layer_period": 2,
    },
    "kimi_k25": {"text_config": {"model_type": "kimi_k2"}},
    "kimi_k3": {
        "text_config": {
            "linear_attn_config": DELTA,
            "activation_situ_beta": 1.0,
            "activation_situ_linear_beta": 1.0,
            "attn_res_block_size": 2,
        }
    },
    "kimi_linear": {
        "linear_attn_config": DELTA,
        "model_max_length": 1024,
    },
    "kimi_vl": {"text_config": {"model_type": "deepseek_v3"}},
    "laguna": {
        "layer_types": ALTERNATING,
        "num_attention_heads_per_layer": [4, 4, 4, 4],
        "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
        "rope_parameters": BY_KIND,
        "partial_rotary_factor": None,
    },
    "lfm2": {
        "block_dim": 64,
        "block_multiple_of": 32,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
        "block_ff_dim": 96,
        "full_attn_idxs": [1, 3],
        "layer_types": ["conv", "full_attention"] * 2,
    },
    "lfm2_moe": {
        "use_expert_bias": True,
        "num_dense_layers": 1,
        "full_attn_idxs": [1, 3],
        "layer_types": ["conv", "full_attention"] * 2,
    },
    "llama": {"sliding_window": None},
    "lille-130m": {"block_size": 1024, "n_kv_heads": 2},
    "llama4": {
        "text_config": {
            "model_type": "llama4_text",
            "attention_chunk_size": WINDOW,
            "num_experts_per_tok": 1,
            "interleave_moe_layer_step": 2,
            "intermediate_size_mlp": 96,
            "rope_scaling": None,
        }
    },
    "llama4_text": {
        "intermediate_size_mlp": 96,
        "no_rope_layers": [1, 1, 1, 0],
    },
    "longcat_flash": {
        "attention_method": "MLA",
        "zero_expert_type": "identity",
        "zero_expert_num": 2,
        "ffn_hidden_size": 96,
        "expert_ffn_hidden_size": 32,
        "moe_topk": 2,
        "mla_scale_q_lora": True,
        "mla_scale_kv_lora": True,
    },
    "longcat_flash_ngram": {
        "zero_expert_num": 2,
        "ffn_hidden_size": 96,
        "expert_ffn_hidden_size": 32,
        "moe_topk": 2,
        "mla_scale_q_lora": True,
        "mla_scale_kv_lora": True,
        "ngram_vocab_size_ratio": 3,
        "emb_neighbor_num": 2,
        "emb_split_num": 2,
    },
    "mamba": {"intermediate_size": 128, "time_step_rank": 4},
    "mamba2": {
        "num_heads": 4,
        "head_dim": 32,
        "intermediate_size": 128,
        "time_step_rank": 4,
    },
    "mellum": {"layer_types": ALTERNATING, "rope_parameters": BY_KIND},
    "mimo_v2_flash": {
        "hybrid_layer_pattern": [1, 0, 1, 0],
        "moe_layer_freq": [0, 1, 1, 1],
        "add_swa_attention_sink_bias": True,
        "add_full_attention_sink_bias": False,
        "sliding_window_size": WINDOW,
        "layernorm_epsilon": 1e-5,
        "swa_rope_theta": 10000.0,
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 2,
        "head_dim": 32,
        "swa_head_dim": 32,
        "swa_v_head_dim": 32,
    },
    "minicpm": {"dim_model_base": 32, "scale_depth": 1.4, "scale_emb": 12.0},
    "minicpm3": {
        "dim_model_base": 32,
        "scale_depth": 1.4,
        "scale_emb": 12.0,
        "rope_scaling": {
            "long_factor": [1.0] * 8,
            "short_factor": [1.0] * 8,
            "original_max_position_embeddings": 1024,
            "type": "longrope",
        },
    },
    "minimax": {"rotary_dim": 8},
    "minimax_m3_vl": {
        "text_config": {
            "model_type": "minimax_m3_text",
            "dense_intermediate_size": 96,
            "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
        }
    },
    "ministral3": {"rope_parameters": YARN, "layer_types": ALTERNATING},
    "mistral3": {
        "text_config": {
            "model_type": "ministral3",
            "rope_parameters": YARN,
            "layer_types": ALTERNATING,
        }
    },
    "mistral4": {"rope_parameters": YARN},
    "muse_glimmer": {"layer_types": ALTERNATING},
    "muse_spark": {
        "text_config": {
            "post_norm_eps": 1e-5,
            "rope_parameters": {"rope_theta": 10000.0},
            "layer_rope_theta": [10000.0, 0, 10000.0, 0],
            "layer_types": ALTERNATING,
            "final_logit_softcapping": 20.0,
            "output_multiplier": 0.5,
            "moe_hidden_size": 64,
            "num_shared_experts": 0,
        }
    },
    "nanbeige": {"num_loops": 2},
    "nanochat": {"num_key_value_heads": 4},
    "nemotron": {"hidden_act": "relu2"},
    "nemotron-nas": {
        "block_configs": [
            {
                "attention": {"n_heads_in_group": 2},
                "ffn": {"ffn_mult": 1.0},
            },
            {
                "attention": {"no_op": True},
                "ffn": {"ffn_mult": 1.5},
            },
            {
                "attention": {"n_heads_in_group": 2},
                "ffn": {"ffn_mult": 1.0},
            },
            {
                "attention": {"n_heads_in_group": 4},
                "ffn": {"ffn_mult": 2.0},
            },
        ]
    },
    "nemotron_h": {
        "hybrid_override_pattern": ["M", "*", "M", "E"],
        "mamba_num_heads": 4,
        "mamba_head_dim": 32,
    },
    "olmo3": {"layer_types": ALTERNATING},
    "olmo_hybrid": {
        "linear_allow_neg_eigval": True,
        "layer_types": ["linear_attention", "full_attention"] * 2,
    },
    "openelm": {
        "num_transformer_layers": BLOCKS,
        "model_dim": 64,
        "ffn_dim_divisor": 32,
        "num_query_heads": [4] * 4,
        "num_kv_heads": [2] * 4,
        "ffn_multipliers": [1.0, 1.5, 2.0, 2.0],
    },
    "phi": {"num_key_value_heads": 4},
    "phi3": {"partial_rotary_factor": 1.0},
    "phi3small": {
        # It names some token ids by number.
        "vocab_size": 100352,
        "dense_attention_every_n_layers": 2,
        "ff_intermediate_size": 96,
        "gegelu_limit": 20.0,
        "blocksparse_block_size": 32,
        "blocksparse_num_local_blocks": 1,
        "blocksparse_vert_stride": 2,
    },
    "phimoe": {
        "rope_scaling": {
            "long_factor": [1.0] * 8,
            "short_factor": [1.0] * 8,
            "long_mscale": 1.0,
            "short_mscale": 1.0,
            "original_max_position_embeddings": 1024,
            "type": "longrope",
        }
    },
    "phixtral": {
        "num_vocab": CONFIG["vocab_size"],
        "model_dim": 64,
        "num_heads": 4,
        "rotary_dim": 8,
    },
    "pixtral": {"text_config": {"model_type": "mistral", "sliding_window": None}},
    "plamo": {"n_shared_head": 2},
    "plamo2": {
        "hidden_size_per_head": 16,
        "attention_window_size": 1024,
        "mamba_num_heads": 4,
    },
    "plamo3": {"window_size": WINDOW, "sliding_window_pattern": 2},
    "prism_hadamard_qwen35": {
        "text_config": {"hidden_size": 512, "model_type": "qwen3_5_text", "num_experts": 0},
        "schema_version": 1,
        "tensor_namespace": "mlx-lm-text",
        "quantization": {"bits": 2, "group_size": 128, "mode": "affine"},
        "modules": [
            {
                "path": f"model.layers.{block}.{path}",
                "embedding": False,
                "dtype": "float16",
                "block": 512,
            }
            for block in range(BLOCKS)
            for path in ("mlp.gate_proj", "mlp.up_proj")
        ],
    },
    "qwen": {"kv_channels": 16},
    "qwen2_vl": {"text_config": {"model_type": "qwen2"}},
    "qwen3_5": {"text_config": {"model_type": "qwen3_5_text", "num_experts": 0}},
    "qwen3_5_moe": {"text_config": {"model_type": "qwen3_5_moe_text"}},
    "qwen3_vl": {"text_config": {"model_type": "qwen3"}},
    "qwen3_vl_moe": {"text_config": {"model_type": "qwen3_moe"}},
    "lfm2-vl": {"text_config": {"model_type": "lfm2"}},
    "recurrent_gemma": {
        "conv1d_width": 4,
        "logits_soft_cap": 30.0,
        "attention_window_size": WINDOW,
        "block_types": ["recurrent", "attention"],
    },
    "rwkv7": {
        "a_low_rank_dim": 16,
        "v_low_rank_dim": 16,
        "gate_low_rank_dim": 16,
        "decay_low_rank_dim": 16,
    },
    "spark2_5": {"layer_types": ALTERNATING, "rope_parameters": BY_KIND},
    "starcoder2": {"norm_epsilon": 1e-5},
    "step3p5": {
        "num_attention_groups": 2,
        "layer_types": ALTERNATING,
        "moe_num_experts": 4,
        "moe_top_k": 2,
        "share_expert_dim": 32,
        "moe_layers_enum": "1,2,3",
        "attention_other_setting": {"num_attention_heads": 4, "num_attention_groups": 2},
    },
    "talkie": {"num_key_value_heads": 4},
}

# What a family does in two ways is trained in both: a module, and what its configuration says
# otherwise, as JSON.
VARIANTS = (
    # Latent attention whose queries are not compressed.
    *(
        f"{name}:q_lora_rank=null"
        for name in (
            *("bailing_hybrid", "bailing_moe_v3", "deepseek_v2", "deepseek_v3", "glm4_moe_lite"),
            *("kimi_k3", "kimi_vl", "mistral4", "youtu_llm"),
        )
    ),
)

# Where the text model's fields stand, of those whose configuration holds it as a part.
TEXT_FIELDS: dict[str, tuple[str, str]] = {
    "gemma3": ("gemma3_text", "ModelArgs"),
    "gemma3n": ("gemma3n", "TextConfig"),
    "gemma4": ("gemma4_text", "ModelArgs"),
    "kimi_k25": ("deepseek_v3", "ModelArgs"),
    "kimi_k3": ("kimi_k3", "TextArgs"),
    "kimi_vl": ("kimi_vl", "TextArgs"),
    "lfm2-vl": ("lfm2", "ModelArgs"),
    "llama4": ("llama4", "TextArgs"),
    "minimax_m3_vl": ("minimax_m3_vl", "TextArgs"),
    "mistral3": ("ministral3", "ModelArgs"),
    "muse_spark": ("muse_spark", "TextArgs"),
    "pixtral": ("llama", "ModelArgs"),
    "prism_hadamard_qwen35": ("qwen3_5", "TextModelArgs"),
    "qwen2_vl": ("qwen2", "ModelArgs"),
    "qwen3_5": ("qwen3_5", "TextModelArgs"),
    "qwen3_5_moe": ("qwen3_5", "TextModelArgs"),
    "qwen3_vl": ("qwen3", "ModelArgs"),
    "qwen3_vl_moe": ("qwen3_moe", "ModelArgs"),
}


def family_names() -> list[str]:
    """Return the modules of mlx-lm that define a model, and the variants of some."""
    return sorted((*modules(), *VARIANTS), key=str.lower)


def module_name(name: str) -> str:
    """Return the module of a family or variant."""
    return name.partition(":")[0]


def configuration(name: str) -> dict[str, Any]:
    """Return a small ``config.json`` for a module or a variant of it."""
    module, _, otherwise = name.partition(":")
    config = _configuration(module)
    for part in filter(None, otherwise.split(",")):
        field, _, value = part.partition("=")
        text = config.get("text_config", {})
        (text if field in text else config)[field] = json.loads(value)
    return config


def _configuration(name: str) -> dict[str, Any]:
    own = dict(OWN.get(name, {}))
    config: dict[str, Any] = {"model_type": name}
    if name in TEXT_FIELDS:
        module, arguments = TEXT_FIELDS[name]
        config |= own
        inner = OWN.get(module, {}) | own.get("text_config", {})
        config["text_config"] = _filled(module, arguments) | inner
        config["vocab_size"] = CONFIG["vocab_size"]
        return config
    return config | _filled(name, "ModelArgs") | {"model_type": name} | own


def write_config(folder: Path, name: str) -> dict[str, Any]:
    """Write the ``config.json`` of the architecture ``name`` and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = {key: CONFIG[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = {"quantization": QUANTIZATION} | tokens | configuration(name)
    if config["quantization"] is None:
        del config["quantization"]
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    return config


def make_folder(folder: Path, name: str) -> Path:
    """Write a random model of the architecture ``name``, quantized, with a tokenizer."""
    config = write_config(folder, name)
    library = importlib.import_module(f"mlx_lm.models.{module_name(name)}")
    mx.random.seed(0)
    # Some classes change what they are given.
    model = library.Model(library.ModelArgs.from_dict(json.loads(json.dumps(config))))
    # What begins as zero (a gain, a bias) would hide what comes before it.
    model.update(tree_map(_not_zero, model.parameters()))
    model.set_dtype(mx.float16)
    if config.get("quantization") == QUANTIZATION:
        nn.quantize(model, *QUANTIZATION.values(), class_predicate=_can_be_quantized)
    write_tokenizer(folder)
    weights = named(model.parameters())
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    return folder


def _not_zero(array: mx.array) -> mx.array:
    if not mx.issubdtype(array.dtype, mx.floating) or mx.any(array).item():
        return array
    return 0.1 * mx.sin(mx.arange(array.size)).reshape(array.shape).astype(array.dtype)


def _filled(name: str, arguments: str) -> dict[str, Any]:
    """Return the fields of a configuration class that have a small value here."""
    try:
        module = importlib.import_module(f"mlx_lm.models.{name}")
    except SystemExit:  # one of them ends the process where another package is missing
        return FIELDS
    fields = {field.name for field in dataclasses.fields(getattr(module, arguments))}
    return {field: value for field, value in FIELDS.items() if field in fields}


def can_be_quantized(layer: nn.Module, group_size: int) -> bool:
    """Tell whether mlx-lm can quantize a layer in groups of a size."""
    if not hasattr(layer, "to_quantized"):
        return False
    weight: mx.array = layer.weight
    return (
        weight.ndim > 1 and weight.shape[-1] % group_size == 0 and math.prod(weight.shape[:-1]) > 1
    )


def _can_be_quantized(_: str, layer: nn.Module) -> bool:
    return can_be_quantized(layer, QUANTIZATION["group_size"])
