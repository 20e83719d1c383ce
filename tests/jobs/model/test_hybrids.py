"""Hybrid models and mixtures of experts: what the keys of V2 reach there, and what is trained."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from jobs.backend.mlx import mx, named, nn
from jobs.config.config import LoraConfig, config_from
from jobs.config.lora_keys import described, reached
from jobs.errors import ConfigError, ModelError
from jobs.events import Event, Finished, Started, Warned
from jobs.export.fuse import fused_model
from jobs.export.peft import check_peft
from jobs.model.adapter import read_adapter
from jobs.model.load import apply_lora, load_base
from jobs.model.lora import DropoutNoise
from jobs.model_store.folder import check_lora
from jobs.paths import REPOSITORY, Workspace
from jobs.resources.estimate import DataSize, estimate
from jobs.spec import read_spec
from jobs.training.session import train
from tests.helpers.runs import SETTINGS, make_run

V2_KEYS = tuple(yaml.safe_load((REPOSITORY / "configs/v2.yaml").read_text())["lora"]["keys"])
COMMON: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": 512,
    "max_position_embeddings": 1024,
    "rope_theta": 10000.0,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
GATED_DELTA: dict[str, Any] = {
    "head_dim": 16,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "linear_conv_kernel_dim": 4,
    "full_attention_interval": 4,
}
EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 64,
}
QWEN_NEXT = {
    **COMMON,
    **GATED_DELTA,
    **EXPERTS,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "partial_rotary_factor": 0.25,
}
LFM2 = {
    **COMMON,
    "norm_eps": 1e-5,
    "conv_bias": False,
    "conv_L_cache": 3,
    "block_dim": 64,
    "block_multiple_of": 32,
    "block_ffn_dim_multiplier": 1.0,
    "block_auto_adjust_ff_dim": False,
    "layer_types": ["conv", "conv", "full_attention", "conv"],
}
# What the model's own folder holds beside its name; what V2's keys reach, and what they leave out.
HYBRIDS = {
    "qwen3_5": (
        {"text_config": {**COMMON, **GATED_DELTA, "model_type": "qwen3_5_text"}},
        {"self_attn.q_proj": (3,), "mlp.gate_proj": (0, 1, 2, 3)},
        "linear_attn.out_proj",
    ),
    "qwen3_next": (
        QWEN_NEXT,
        {"self_attn.o_proj": (3,), "mlp.switch_mlp.gate_proj": (0, 1, 2, 3)},
        "linear_attn.in_proj_qkvz",
    ),
    "lfm2": (
        LFM2,
        {"self_attn.out_proj": (2,), "feed_forward.w1": (0, 1, 2, 3)},
        "conv.in_proj",
    ),
}


def make(folder: Path, tiny_model: Path, kind: str, config: dict[str, Any]) -> Path:
    """Write a random model in 4 bits, with the tokenizer of the tiny one."""
    shutil.copytree(tiny_model, folder)
    library = importlib.import_module(f"mlx_lm.models.{kind}")
    values = {**config, "model_type": kind, "tie_word_embeddings": False}
    mx.random.seed(0)
    model = library.Model(library.ModelArgs.from_dict(values))
    model.set_dtype(mx.float16)
    nn.quantize(
        model,
        group_size=32,
        bits=4,
        class_predicate=lambda _, m: hasattr(m, "to_quantized") and m.weight.shape[-1] % 32 == 0,
    )
    values["quantization"] = {"group_size": 32, "bits": 4}
    (folder / "config.json").write_text(json.dumps(values))
    arrays = named(model.parameters())
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, {"format": "mlx"})
    return folder


@pytest.fixture(params=HYBRIDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def hybrid(kind: str, tmp_path: Path, tiny_model: Path) -> Path:
    return make(tmp_path / "made", tiny_model, kind, HYBRIDS[kind][0])


def lora(keys: tuple[str, ...] = V2_KEYS, num_layers: int = 4, **changes: Any) -> LoraConfig:
    values = {"rank": 4, "scale": 16.0, "dropout": 0.1, "num_layers": num_layers, "keys": keys}
    return LoraConfig(**{**values, **changes})


def trained(workspace: Workspace, model: Path, **settings: Any) -> tuple[Any, list[Event]]:
    """Train a few steps with V2's keys; return the run and what was said."""
    settings = {"lora": lora().model_dump(), "max_steps": 6, "save_steps": 6, **settings}
    run = make_run(workspace, model, train=6, valid=2, **settings)
    said: list[Event] = []
    assert isinstance(train(workspace, read_spec(run), said.append, lambda: None), Finished)
    return run, said


def with_adapter(model: Path, arrays: dict[str, mx.array]) -> nn.Module:
    """Return the model as farense loads it, with V2's layers adapted by these arrays."""
    module, _ = load_base(model)
    apply_lora(module, lora(), 0, DropoutNoise(0.0))
    module.load_weights(list(arrays.items()), strict=False)
    return module


def test_a_hybrid_trains_with_the_keys_of_v2_and_mlx_lm_loads_it(
    alone: Workspace, kind: str, hybrid: Path
) -> None:
    """Accepted from its folder alone, trained, told what was reached, the same logits elsewhere."""
    from mlx_lm.utils import dequantize_model, load_adapters, load_model

    _, expected, left_out = HYBRIDS[kind]
    known = check_lora(hybrid, lora())
    assert known is not None
    assert {path: known.adapted[path] for path in expected} == expected
    assert left_out in known.left_out

    run, said = trained(alone, hybrid)
    started = next(event for event in said if isinstance(event, Started))
    assert started.adapted_layers == known.adapted
    warnings = [event.message for event in said if isinstance(event, Warned)]
    assert known.warning in warnings
    assert left_out in known.warning

    adapter = read_adapter(run)
    assert started.trainable_parameters == sum(a.size for a in adapter.arrays.values())
    assert any(mx.any(a != 0).item() for name, a in adapter.arrays.items() if "lora_b" in name)

    def float32(path: Path) -> nn.Module:
        model, _ = load_model(path)
        model.set_dtype(mx.float32)
        plain: nn.Module = dequantize_model(model)
        return plain

    theirs = load_adapters(float32(hybrid), str(run.adapters))
    ours = with_adapter(hybrid, adapter.arrays)
    ids = mx.arange(3, 19)[None]
    for model in (theirs, ours):
        model.eval()
    changed = np.array(theirs(ids))
    assert changed == pytest.approx(np.array(ours(ids)), abs=2e-4)
    assert np.abs(changed - np.array(float32(hybrid)(ids))).max() > 1e-3


def test_what_is_fused_answers_as_the_adapter_does(
    alone: Workspace, hybrid: Path, tmp_path: Path
) -> None:
    from mlx_lm.utils import load_model

    run, _ = trained(alone, hybrid)
    adapter = read_adapter(run)
    fused_model(hybrid, lora(), adapter, requantize=False).write(tmp_path / "fused")
    fused, _ = load_model(tmp_path / "fused")
    fused.set_dtype(mx.float32)
    ours = with_adapter(hybrid, adapter.arrays)
    ids = mx.arange(3, 19)[None]
    for model in (fused, ours):
        model.eval()
    # Fused weights are rounded to float16.
    assert np.array(fused(ids)) == pytest.approx(np.array(ours(ids)), abs=2e-2)


@pytest.fixture
def moe(tmp_path: Path, tiny_model: Path) -> Path:
    return make(tmp_path / "made", tiny_model, "qwen2_moe", {**COMMON, **EXPERTS})


def test_experts_are_adapted_as_mlx_lm_adapts_them(moe: Path) -> None:
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import load_model

    theirs, _ = load_model(moe)
    theirs.freeze()
    parts = ("self_attn", "mlp.shared_expert", "mlp.switch_mlp")
    keys = {f"{part}.{key}" for part in parts for key in V2_KEYS}
    linear_to_lora_layers(theirs, 4, {"rank": 4, "scale": 16.0, "dropout": 0.0, "keys": keys})
    ours, _ = load_base(moe)
    reach = apply_lora(ours, lora(), 0, DropoutNoise(0.1))
    assert {n: a.shape for n, a in named(ours.trainable_parameters()).items()} == {
        name: array.shape
        for name, array in named(theirs.parameters()).items()
        if name.endswith(("lora_a", "lora_b"))
    }
    assert check_lora(moe, lora()) == reach
    by_path = apply_lora(load_base(moe)[0], lora(("mlp.switch_mlp.up_proj",)), 0, DropoutNoise(0))
    assert by_path.adapted == {"mlp.switch_mlp.up_proj": (0, 1, 2, 3)}
    # What doctor expects the adapter to take is what it takes.
    needs = estimate(
        moe,
        config_from({**SETTINGS, "lora": lora().model_dump(), "data": {"train": "t"}}, "test"),
        DataSize(100, 20, 0.5),
        as_stored=False,
        lanes=1,
    )
    assert needs.adapter == sum(a.nbytes for a in named(ours.trainable_parameters()).values())


def test_experts_have_no_dora(moe: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_lora(load_base(moe)[0], lora(kind="dora"), 0, DropoutNoise(0.0))
    said = caught.value.message
    assert "lora.kind: dora cannot adapt the experts of a mixture (mlp.switch_mlp.down_proj" in said
    # The layers beside them have.
    reach = apply_lora(load_base(moe)[0], lora(("q_proj",), kind="dora"), 0, DropoutNoise(0.0))
    assert reach.paths == ["self_attn.q_proj"]


@pytest.mark.parametrize("checkpointed", [False, True])
def test_experts_train_with_dropout_and_the_same_seed_gives_the_same_bits(
    tmp_path: Path, moe: Path, checkpointed: bool
) -> None:
    arrays = []
    for name in ("one", "other"):
        workspace = Workspace(tmp_path / name)
        run, _ = trained(workspace, moe, grad_checkpoint=checkpointed)
        arrays.append(read_adapter(run).arrays)
    assert arrays[0].keys() == arrays[1].keys()
    assert all(mx.array_equal(a, arrays[1][name]).item() for name, a in arrays[0].items())
    experts = [
        a for name, a in arrays[0].items() if name.endswith("up_proj.lora_b") and a.ndim == 3
    ]
    assert experts
    assert all(mx.any(a != 0).item() for a in experts)


def test_experts_cannot_be_written_for_peft(alone: Workspace, moe: Path) -> None:
    run, _ = trained(alone, moe)
    with pytest.raises(ModelError, match="PEFT has no such layer"):
        check_peft(read_adapter(run))


def test_experts_that_a_file_holds_one_by_one_are_one_layer(moe: Path) -> None:
    """As on the hub, before mlx-lm stacks them."""
    weights = mx.load(str(moe / "model.safetensors"))
    assert isinstance(weights, dict)
    loose = {}
    for name, array in weights.items():
        if ".switch_mlp." not in name:
            loose[name] = array
            continue
        for number in range(len(array)):
            loose[name.replace("switch_mlp", f"experts.{number}")] = array[number]
    mx.save_safetensors(str(moe / "model.safetensors"), loose)
    reach = check_lora(moe, lora(("mlp.switch_mlp.gate_proj", "up_proj")))
    assert reach is not None
    assert reach.paths == [
        "mlp.shared_expert.up_proj",
        "mlp.switch_mlp.gate_proj",
        "mlp.switch_mlp.up_proj",
    ]


# The rule alone

ATTENTION = ["self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj"]
DELTA = ["linear_attn.in_proj", "linear_attn.out_proj"]
MLP = ["mlp.gate_proj", "mlp.up_proj"]


def test_a_key_has_to_reach_some_adapted_block_and_no_other_counts() -> None:
    blocks = {2: [*DELTA, *MLP], 3: [*ATTENTION, *MLP]}
    reach = reached(blocks, ["q_proj", "mlp.up_proj"])
    assert reach.adapted == {"mlp.up_proj": (2, 3), "self_attn.q_proj": (3,)}
    with pytest.raises(ConfigError, match=r"no layer q_porj, o_proj in the adapted") as found:
        reached({2: blocks[2]}, ["up_proj", "q_porj", "o_proj"])
    assert "gate_proj, in_proj, out_proj, up_proj" in str(found.value.hint)


def test_a_key_may_be_a_group_of_layers() -> None:
    blocks = {2: [*DELTA, *MLP, "mlp.gate"], 3: [*ATTENTION, *MLP]}
    assert reached(blocks, ["all-linear"]).paths == sorted({*DELTA, *MLP, *ATTENTION, "mlp.gate"})
    assert reached(blocks, ["attention"]).paths == sorted({*DELTA, *ATTENTION})
    assert reached(blocks, ["mlp", "q_proj"]).paths == sorted(
        {*MLP, "mlp.gate", "self_attn.q_proj"}
    )
    # All parts of a block have one name, and a block without parts.
    mixer = {0: ["mixer.in_proj"], 1: ["mixer.q_proj"], 2: ["mixer.up_proj", "mixer.down_proj"]}
    assert reached(mixer, ["attention"]).paths == ["mixer.in_proj", "mixer.q_proj"]
    assert reached({0: ["q_proj", "fc1"]}, ["mlp"]).paths == ["fc1"]
    with pytest.raises(ConfigError, match="no layer mlp in the adapted blocks") as found:
        reached({0: ATTENTION}, ["mlp"])
    assert "all-linear, attention, mlp stand for groups" in str(found.value.hint)


def test_only_a_hybrid_of_which_some_layers_are_reached_is_warned_of() -> None:
    hybrid = {2: [*DELTA, *MLP], 3: [*ATTENTION, *MLP]}
    assert reached(hybrid, ["q_proj"]).left_out == dict.fromkeys(DELTA, (2,))
    assert "in_proj, out_proj" in str(reached(hybrid, ["q_proj"]).warning)
    assert reached(hybrid, ["q_proj", "in_proj"]).warning is None
    assert reached(hybrid, ["up_proj"]).warning is None
    assert reached({3: [*ATTENTION, *MLP]}, ["up_proj"]).warning is None
    # Both kinds of mixer have one name; and both stand in every block.
    mixer = {0: ["mixer.in_proj"], 1: ["mixer.q_proj"], 2: ["mixer.up_proj", "mixer.down_proj"]}
    assert reached(mixer, ["q_proj", "up_proj"]).left_out == {"mixer.in_proj": (0,)}
    beside = {0: ["mamba.in_proj", *ATTENTION, *MLP]}
    assert reached(beside, ["q_proj"]).left_out == {"mamba.in_proj": (0,)}


def test_blocks_are_told_in_ranges() -> None:
    layers = {"a": (0, 1, 2, 5), "b": (0, 1, 2, 5), "c": (3,)}
    assert described(layers) == "a, b (blocks 0-2, 5); c (block 3)"
