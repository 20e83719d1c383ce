"""Which architectures of mlx-lm can be trained, told by a model's ``config.json`` alone.

No MLX is imported, so that a client can ask before a job exists. What stands here is true of the
installed mlx-lm: a test tries it, and ``benchmarks/architectures.py`` trains all the others.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

from jobs.errors import ConfigError, ModelError
from jobs.model_store.folder import check_config
from jobs.model_store.size import quantization

# As in mlx_lm.utils, which takes two seconds to import: a model_type, or one with the name of its
# class, whose module has another name.
MODULES = {
    "mistral": "llama",
    "llava": "mistral3",
    "phi-msft": "phixtral",
    "falcon_mamba": "mamba",
    "joyai_llm_flash": "deepseek_v3",
    "kimi_k2": "deepseek_v3",
    "qwen2_5_vl": "qwen2_vl",
    "minimax_m2": "minimax",
    "iquestcoder": "llama",
    "xverse": "llama",
    "gemma4_unified": "gemma4",
    "deepseek_v41_text": "deepseek_v41",
}
MODULES_BY_CLASS = {("bailing_hybrid", "BailingMoeV3ForCausalLM"): "bailing_moe_v3"}

# Why mlx-lm itself cannot train what a module defines.
NOT_TRAINABLE = {
    "bitnet": "its linear layers are of a kind that LoRA does not know, and are computed by a "
    "Metal kernel that has no gradient",
    "deepseek_v41": "its attention chooses what it looks at by an operation that has no gradient "
    "in MLX",
    "muse_spark": "its attention is computed by a Metal kernel that has no gradient",
    "phi3small": "its block-sparse attention sees tokens that come later, because the causal mask "
    "is added to the scores as a number",
    "prism_hadamard_qwen35": "its packed layers are of a kind that LoRA does not know",
    "recurrent_gemma": "its class is not set up as others are, and cannot be frozen",
}
# The same, of a quantized model only.
NOT_QUANTIZED = {
    "afm7": "its fused linear layers cannot be quantized; the model as it was published trains",
}
# The same, where a package is missing: what to import, and what to say.
NEEDS = {
    "olmo": ("hf_olmo", "it needs the package ai2-olmo and ends the process without it"),
}
# Forms of stored weights, by a config's quant_method, that mlx-lm cannot load or train.
NOT_IN_FORM = {
    "bitnet": "in this form its linear layers are of a kind that LoRA does not know",
    "gptq": "mlx-lm unpacks GPTQ weights as if they were AWQ's, which are packed along the other "
    "axis, and refuses their group index",
}
# Layers whose weight the block reads itself: an adapter around them would not be asked.
READ_BY_BLOCK = {
    "gemma3n": frozenset({"correction_coefs", "prediction_coefs"}),
    "kimi_k3": frozenset({"mlp_res_proj", "self_attention_res_proj"}),
}


def check_trainable(path: Path, keys: tuple[str, ...]) -> None:
    """Check that mlx-lm can train the model in a folder, with adapters around such layers.

    Args:
        path: the folder.
        keys: as ``lora.keys``.

    Raises:
        ModelError: mlx-lm does not know the architecture, or cannot train it; with the reason.
        ConfigError: a key names a layer around which an adapter would not be asked.
    """
    config = check_config(path)
    name, module = config["model_type"], module_of(config)
    if module not in modules():
        raise ModelError(
            f"{path} is of the architecture {name}, which mlx-lm does not have.",
            "Take a model that `mlx_lm generate --model` can load.",
        )
    if reason := not_trainable(config):
        raise ModelError(
            f"{path} cannot be trained by mlx-lm's {module}: {reason}.",
            "Take a model of another architecture: docs/models.md lists those that train.",
        )
    if reason := not_in_form(config):
        raise ModelError(
            f"The weights of {path} cannot be used: {reason}.",
            "Take the model as it was published, or in MLX's own format (mlx-community).",
        )
    unread = READ_BY_BLOCK.get(module, frozenset())
    if found := ", ".join(key for key in keys if key.rpartition(".")[2] in unread):
        raise ConfigError(
            f"lora.keys: {found} cannot be adapted. In mlx-lm's {module} the blocks read the "
            "weight of that layer themselves, past any adapter.",
            f"Remove {found} from lora.keys.",
        )


def not_trainable(config: dict[str, Any]) -> str | None:
    """Return why mlx-lm cannot train the model of a ``config.json``; None where it can."""
    module = module_of(config)
    if module in NOT_TRAINABLE:
        return NOT_TRAINABLE[module]
    if module in NEEDS and importlib.util.find_spec(NEEDS[module][0]) is None:
        return NEEDS[module][1]
    quantized = config.get("quantization") or config.get("quantization_config")
    return NOT_QUANTIZED.get(module) if quantized else None


def not_in_form(config: dict[str, Any]) -> str | None:
    """Return why mlx-lm cannot use the form in which weights are stored; None where it can."""
    settings = quantization(config)
    method, bits = settings.get("quant_method"), settings.get("bits", 4)
    if method == "awq" and bits != 4:
        return f"mlx-lm reads AWQ weights in 4 bits alone, and these have {bits}"
    return NOT_IN_FORM.get(str(method))


def module_of(config: dict[str, Any]) -> str:
    """Return the module of ``mlx_lm.models`` that defines the model of a ``config.json``."""
    name: str = config["model_type"]
    classes = config.get("architectures") or ()
    for each in (classes,) if isinstance(classes, str) else classes:
        if (name, each) in MODULES_BY_CLASS:
            return MODULES_BY_CLASS[name, each]
    return MODULES.get(name, name)


@functools.cache
def modules() -> frozenset[str]:
    """Return the modules of the installed mlx-lm that define a model; imports none of them."""
    library = importlib.util.find_spec("mlx_lm")
    if library is None or not library.submodule_search_locations:
        return frozenset()
    return frozenset(
        file.stem
        for file in Path(library.submodule_search_locations[0]).glob("models/*.py")
        if "\nclass Model(" in file.read_text(encoding="utf-8")
    )
