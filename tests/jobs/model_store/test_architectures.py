"""Which architectures are refused, and that the reasons are true of the installed mlx-lm."""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks.families import configuration, make_folder, write_config
from jobs.backend.backend import backend
from jobs.backend.mlx import LoRALinear, base, load_model, mx, nn, scalar
from jobs.errors import ConfigError, ModelError
from jobs.model_store.architectures import (
    MODULES,
    MODULES_BY_CLASS,
    NEEDS,
    NOT_QUANTIZED,
    NOT_TRAINABLE,
    READ_BY_BLOCK,
    check_trainable,
    module_of,
    modules,
)
from tests.helpers.quantized import as_gptq

KEYS = ("q_proj",)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "model"


def ids_of(count: int = 24) -> mx.array:
    return (mx.arange(count) * 7 % 500)[None]


def test_the_names_are_those_of_mlx_lm() -> None:
    utils = importlib.import_module("mlx_lm.utils")
    assert utils.MODEL_REMAPPING == MODULES
    assert utils.MODEL_ARCHITECTURE_REMAPPING == MODULES_BY_CLASS
    assert set(MODULES.values()) | set(MODULES_BY_CLASS.values()) <= modules()
    assert {*NOT_TRAINABLE, *NOT_QUANTIZED, *NEEDS, *READ_BY_BLOCK} <= modules()
    assert not {"base", "cache", "mla", "switch_layers"} & modules()


def test_a_class_of_its_own_has_its_own_module() -> None:
    assert module_of({"model_type": "mistral"}) == "llama"
    assert module_of({"model_type": "bailing_hybrid"}) == "bailing_hybrid"
    ours = {"model_type": "bailing_hybrid", "architectures": ["BailingMoeV3ForCausalLM"]}
    assert module_of(ours) == "bailing_moe_v3"


@pytest.mark.parametrize("name", sorted(NOT_TRAINABLE))
def test_what_mlx_lm_cannot_train_is_refused_with_the_reason(folder: Path, name: str) -> None:
    write_config(folder, name)
    with pytest.raises(ModelError) as refusal:
        check_trainable(folder, KEYS)
    assert str(folder) in refusal.value.message
    assert NOT_TRAINABLE[name] in refusal.value.message
    assert "docs/models.md" in str(refusal.value.hint)


@pytest.mark.parametrize("name", ["unknown_family", "cache", "../llama"])
def test_an_architecture_that_mlx_lm_lacks_is_refused(folder: Path, name: str) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": name}))
    with pytest.raises(ModelError, match=f"of the architecture {name}, which mlx-lm does not have"):
        check_trainable(folder, KEYS)


@pytest.mark.parametrize("name", sorted(READ_BY_BLOCK))
def test_a_layer_that_its_block_reads_past_is_no_key(folder: Path, name: str) -> None:
    write_config(folder, name)
    check_trainable(folder, KEYS)
    layer = min(READ_BY_BLOCK[name])
    with pytest.raises(ConfigError, match=f"lora.keys: {layer} cannot be adapted"):
        check_trainable(folder, (*KEYS, layer))


@pytest.mark.parametrize("name", sorted(READ_BY_BLOCK))
def test_a_block_that_reads_a_weight_fails_with_an_adapter_there(folder: Path, name: str) -> None:
    for layer in sorted(READ_BY_BLOCK[name]):
        module, _ = load_model(make_folder(folder, name))
        for block in module.layers:
            found = [(p, m) for p, m in block.named_modules() if p.rpartition(".")[2] == layer]
            for path, linear in found:
                block.update_modules(nested(path, LoRALinear.from_base(linear, r=2)))
        with pytest.raises(AttributeError, match="weight"):
            mx.eval(module(ids_of()))


def nested(path: str, layer: nn.Module) -> dict[str, Any]:
    tree: Any = layer
    for part in reversed(path.split(".")):
        tree = {part: tree}
    found: dict[str, Any] = tree
    return found


def test_no_gradient_in_deepseek_v41(folder: Path) -> None:
    module = plain(folder, "deepseek_v41")
    keys = {path for path, each in module.layers[-1].named_modules() if is_linear(each)}
    tuner = importlib.import_module("mlx_lm.tuner.utils")
    module.freeze()
    tuner.linear_to_lora_layers(module, 2, {"rank": 2, "scale": 1.0, "dropout": 0.0, "keys": keys})
    module.train()
    loss = nn.value_and_grad(module, lambda model: mx.mean(model(ids_of())))
    with pytest.raises(ValueError, match="Cannot calculate VJP"):
        loss(module)


def test_phi3small_sees_what_comes_later(folder: Path) -> None:
    module = plain(folder, "phi3small")
    attention, x = module.layers[0].self_attn, module.model.embed_tokens(ids_of())
    mask = base.create_attention_mask(x, return_array=True)
    whole, half = attention(x, mask), attention(x[:, :12], mask[:12, :12])
    assert scalar(mx.max(mx.abs(whole[:, :12] - half))) > 1e-3


def test_recurrent_gemma_cannot_be_frozen(folder: Path) -> None:
    with pytest.raises(AttributeError, match="_no_grad"):
        plain(folder, "recurrent_gemma").freeze()


def test_packed_layers_are_none_that_lora_knows(folder: Path) -> None:
    module = plain(folder, "prism_hadamard_qwen35")
    packed = [record["path"] for record in configuration("prism_hadamard_qwen35")["modules"]]
    layers = dict(module.language_model.named_modules())
    assert packed
    assert not any(is_linear(layers[path]) for path in packed)


@pytest.mark.skipif(not backend().is_cpu, reason="there the kernels run, but have no gradient")
@pytest.mark.parametrize("name", ["bitnet", "muse_spark"])
def test_metal_kernels_do_not_run_elsewhere(folder: Path, name: str) -> None:
    module = plain(folder, name)
    with pytest.raises(RuntimeError, match="Metal"):
        mx.eval(module(ids_of()))


def test_bitnet_has_no_linear_layer(folder: Path) -> None:
    module = plain(folder, "bitnet")
    assert not any(is_linear(layer) for block in module.layers for layer in block.modules())


def test_afm7_is_refused_quantized_only(folder: Path) -> None:
    config = write_config(folder, "afm7")
    check_trainable(folder, KEYS)
    quantized = {**config, "quantization": {"group_size": 32, "bits": 4}}
    (folder / "config.json").write_text(json.dumps(quantized))
    with pytest.raises(ModelError, match="cannot be quantized"):
        check_trainable(folder, KEYS)
    module = plain(folder / "other", "afm7")
    with pytest.raises(TypeError, match="mode"):
        nn.quantize(module, 32, 4)


@pytest.mark.parametrize(
    ("group_index", "error"), [(True, "g_idx"), (False, "bits 0")], ids=["with g_idx", "without"]
)
def test_gptq_weights_cannot_be_loaded(
    folder: Path, tiny_model: Path, group_index: bool, error: str
) -> None:
    as_gptq(tiny_model, folder, group_index=group_index)
    with pytest.raises(ModelError, match="packed along the other axis") as refusal:
        check_trainable(folder, KEYS)
    assert "mlx-community" in str(refusal.value.hint)
    with pytest.raises(Exception, match=error):
        load_model(folder)


def test_forms_that_cannot_be_trained(folder: Path, tiny_model: Path) -> None:
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    del config["quantization"]

    def say(**settings: Any) -> None:
        (folder / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))

    say(quant_method="awq", bits=4)
    check_trainable(folder, KEYS)
    say(quant_method="awq", bits=8)
    with pytest.raises(ModelError, match="in 4 bits alone, and these have 8"):
        check_trainable(folder, KEYS)
    with pytest.raises(ValueError, match="Only bits"):
        load_model(folder)
    say(quant_method="bitnet")
    with pytest.raises(ModelError, match="a kind that LoRA does not know"):
        check_trainable(folder, KEYS)
    module, _ = load_model(folder, lazy=True, strict=False)
    assert not any(is_linear(layer) for block in module.layers for layer in block.modules())


def test_olmo_ends_the_process_without_its_package(folder: Path) -> None:
    if importlib.util.find_spec("hf_olmo") is None:
        write_config(folder, "olmo")
        with pytest.raises(ModelError, match="needs the package ai2-olmo"):
            check_trainable(folder, KEYS)
        with pytest.raises(SystemExit):
            importlib.import_module("mlx_lm.models.olmo")
    else:
        assert importlib.import_module("mlx_lm.models.olmo").Model


def plain(folder: Path, name: str) -> Any:
    """Return mlx-lm's own model in float32."""
    module, _ = load_model(make_folder(folder, name))
    # Not by apply_to_modules, which needs what one of them lacks.
    return module if name == "recurrent_gemma" else as_float32(module)


def as_float32(module: nn.Module) -> nn.Module:
    module.set_dtype(mx.float32)
    return module


def is_linear(layer: object) -> bool:
    return isinstance(layer, nn.Linear | nn.QuantizedLinear)
