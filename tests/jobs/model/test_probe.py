"""A shortcut that gives another result is left out, whichever it is and in which direction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from benchmarks.families import make_folder
from jobs.backend import cpu_ops as cpu
from jobs.backend.backend import backend
from jobs.backend.exchange import Exchange
from jobs.backend.mlx import mx, named
from jobs.errors import ConfigError, ModelError
from jobs.model import losses
from jobs.model.base_model import BaseModel
from jobs.model.lora import CpuLoRALinear
from jobs.model.probe import FUNCTIONS, HEAD, LAYER, SLICES, TRIMMED, settled
from jobs.model.slices import sliced_losses
from jobs.model.split import NOT_A_CHAIN, trimmed_last_block
from tests.helpers.architectures import make_model
from tests.helpers.engines import NO_DROPOUT, Rig, examples, plain_loss, settings

needs_cpu = pytest.mark.skipif(not backend().is_cpu, reason="the functions are for a CPU")


@pytest.fixture(autouse=True)
def uncompiled() -> Iterator[None]:
    mx.disable_compile()
    yield
    mx.enable_compile()
    CpuLoRALinear.fast = True


@pytest.fixture
def base(tiny_model: Path) -> BaseModel:
    return BaseModel(tiny_model, settings(lora=NO_DROPOUT))


@mx.custom_function
def unmoved(x: mx.array) -> mx.array:
    """Return ``x``; the gradient is wrong."""
    return x * 1.0


@unmoved.vjp
def _half(_: Any, cotangent: mx.array, __: Any) -> mx.array:
    return cotangent * 0.5


def off(function: Callable[..., mx.array], how: str) -> Callable[..., mx.array]:
    """Return ``function`` with a wrong result, a wrong gradient, or none at all."""

    def wrong(*arguments: Any, **options: Any) -> mx.array:
        if how == "raises":
            raise ValueError("[reshape] Cannot reshape array of size 6 into shape (4).")
        result: mx.array = function(*arguments, **options)
        # Not by one factor: a norm behind it would take that out again.
        uneven = 1 + 0.1 * mx.sin(mx.arange(result.size)).reshape(result.shape)
        return result * uneven if how == "forward" else cast(mx.array, unmoved(result))

    return wrong


HOW = pytest.mark.parametrize("how", ["forward", "gradient", "raises"])


def test_a_plain_chain_keeps_all_shortcuts_and_its_adapter(base: BaseModel) -> None:
    before = {name: array.tolist() for name, array in named(base.module.parameters()).items()}
    random = random_state()
    base.verify()
    language = base.language
    assert base.settle() == ()
    assert base.language is language
    assert random_state() == random
    after = {name: array.tolist() for name, array in named(base.module.parameters()).items()}
    assert after == before


def random_state() -> list[object]:
    state: Any = mx.random.state
    return [array.tolist() for array in state]


def last_of(base: BaseModel) -> object:
    assert base.language.chain is not None
    return base.language.chain.last


@HOW
def test_a_trimmed_last_block_that_differs(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    assert base.language.chain is not None
    assert last_of(base) is trimmed_last_block
    monkeypatch.setattr(base.language.chain, "last", off(trimmed_last_block, how))
    assert base.settle() == (TRIMMED,)
    assert last_of(base) is None
    assert base.language.prefix is not None


@needs_cpu
@HOW
def test_functions_that_differ(base: BaseModel, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    library = __import__(type(base.module).__module__, fromlist=["swiglu"])
    name, theirs, ours = cpu.FAST.functions[0]
    wrong = off(cast(Callable[..., mx.array], ours), how)
    wrongly = Exchange((name, theirs, wrong), *cpu.FAST.functions[1:])
    monkeypatch.setattr(cpu, "FAST", wrongly)
    monkeypatch.setattr(library, name, wrong)
    assert base.settle() == (FUNCTIONS,)
    assert cpu.FAST.used(base.module) == []


@needs_cpu
@HOW
def test_a_lora_layer_that_differs(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(CpuLoRALinear, "_narrow", off(CpuLoRALinear._narrow, how))
    assert base.settle() == (LAYER,)
    assert not CpuLoRALinear.fast


@HOW
def test_a_head_that_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    lora = {**NO_DROPOUT, "num_layers": 4}
    base = BaseModel(make_model(tmp_path / "model", "gemma2"), settings(lora=lora))
    base.verify()
    because = base.language.whole_because
    assert base.language.prefix is None
    object.__setattr__(base.language, "head", off(base.language.head, how))
    assert base.settle() == (HEAD,)
    assert base.language.chain is None
    assert base.language.whole_because == because


@HOW
def test_slices_that_differ(base: BaseModel, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(losses, "sliced_losses", off(sliced_losses, how))
    assert base.settle() == (SLICES,)
    assert base.language.slice_bytes is None
    assert base.language.prefix is not None


@HOW
def test_a_cut_that_differs(base: BaseModel, how: str) -> None:
    object.__setattr__(base.language, "rows", off(base.language.rows, how))
    base.verify()
    assert (base.language.prefix, base.language.whole_because) == (None, NOT_A_CHAIN)


def test_a_model_whose_shortcuts_all_differ_takes_the_plain_way(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert base.language.chain is not None
    monkeypatch.setattr(base.language.chain, "last", off(trimmed_last_block, "forward"))
    monkeypatch.setattr(CpuLoRALinear, "_narrow", off(CpuLoRALinear._narrow, "gradient"))
    _, left_out = settled(base.language)
    assert {TRIMMED, LAYER} <= set(left_out)


def test_weights_that_are_not_numbers_are_no_fault_of_a_shortcut(base: BaseModel) -> None:
    block = base.module.layers[-1]
    block.input_layernorm.weight = block.input_layernorm.weight * float("nan")
    assert base.settle() == ()


def test_all_blocks_adapted_are_tried_out_too(tmp_path: Path) -> None:
    """Gemma scales its embeddings, and no state is given from outside."""
    folder = make_model(tmp_path / "model", "gemma")
    rig = Rig(folder, lora={**NO_DROPOUT, "num_layers": 4})
    assert rig.language.chain is not None
    assert rig.engine.measure(rig.all()) == pytest.approx(
        plain_loss(rig.module, examples()), abs=1e-5
    )


def test_a_model_that_sees_what_comes_later_is_refused(tmp_path: Path) -> None:
    """Attention of a kind that is not known gets no mask in this family."""
    folder = make_folder(tmp_path / "model", "gear")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace("full_attention", "attention"))
    with pytest.raises(ModelError, match=r"(?s)gear cannot be trained.*tokens that come later"):
        BaseModel(folder, settings(lora=NO_DROPOUT)).verify()


def test_an_architecture_without_a_gradient_is_refused_by_name(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.model.probe.token_losses", fails)
    monkeypatch.setattr("jobs.model.probe._plain_losses", fails)
    with pytest.raises(ModelError, match=r"architecture llama cannot be trained.*no gradient"):
        base.settle()


def fails(*_: object) -> mx.array:
    raise ValueError("no gradient")


def test_a_layer_that_its_block_reads_past_is_named(tmp_path: Path) -> None:
    base = BaseModel(
        make_folder(tmp_path / "model", "gemma3n"),
        settings(lora={**NO_DROPOUT, "keys": ["q_proj"]}),
    )
    router = base.module.layers[-1].altup
    router.prediction_coefs = CpuLoRALinear.of(router.prediction_coefs, 2, 1.0, base.noise)
    with pytest.raises(ConfigError, match=r"lora\.keys: prediction_coefs cannot be adapted"):
        base.settle()


@pytest.mark.parametrize("how", ["forward", "raises"])
def test_a_compiled_step_that_differs_is_not_used(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    rig = Rig(tiny_model, lora=NO_DROPOUT)
    expected = rig.engine.measure(rig.all())
    plain = rig.engine._step_graph

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            if how == "raises":
                raise RuntimeError("[Compile::eval_cpu] Failed to compile function Sigmoid")
            result = function(*arguments)
            return result if isinstance(result, mx.array) else (*scaled(result[:2]), result[2])

        return run

    def scaled(arrays: Any) -> Any:
        gradients, loss = arrays
        return {name: array * 1.01 for name, array in gradients.items()}, loss

    assert rig.engine.settle(rig.base.probe_inputs()) is None
    monkeypatch.setattr(mx, "compile", compiled)
    why = rig.engine.settle(rig.base.probe_inputs())
    assert why is not None
    assert ("Failed to compile" in why) == (how == "raises")
    assert rig.engine._steps == [plain]
    assert rig.engine.measure(rig.all()) == pytest.approx(expected, abs=1e-6)


def test_a_torn_kernel_is_not_the_architectures_fault(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tiny_model, lora=NO_DROPOUT)

    def compiled(_: Callable[..., Any]) -> Callable[..., Any]:
        raise RuntimeError("Could not load C++ shared library /tmp/mlx/x.so")

    monkeypatch.setattr(mx, "compile", compiled)
    with pytest.raises(RuntimeError, match="Could not load"):
        rig.engine.settle(rig.base.probe_inputs())


def test_code_that_looks_at_what_it_computes_is_not_compiled(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a mixture of experts that asks for their numbers to loop over them."""
    rig = Rig(tiny_model, lora=NO_DROPOUT)
    block = type(rig.module.model.layers[-1].mlp)
    plain = block.__call__

    def looking(self: Any, x: mx.array) -> mx.array:
        assert np.isfinite(np.array(x)).all()
        result: mx.array = plain(self, x)
        return result

    monkeypatch.setattr(block, "__call__", looking)
    mx.enable_compile()
    try:
        why = rig.engine.settle(rig.base.probe_inputs())
    finally:
        mx.disable_compile()
    assert why is not None
    assert "MLX cannot compile its step" in why
    rig.engine.step(rig.all(), 1)
    assert rig.engine.take_loss() > 0
