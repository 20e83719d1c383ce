"""The faster functions for Linux CPUs against NumPy in float64 and against MLX's own."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.families import make_folder
from jobs.backend import cpu_ops as cpu
from jobs.backend import exponential, mlx
from jobs.backend.dequantize import dequantize_model
from jobs.backend.mlx import mx, nn

RANDOM = np.random.default_rng(3)
ATTENTION = ["scaled_dot_product_attention", "create_attention_mask"]


def values(*shape: int, scale: float = 4.0) -> mx.array:
    return mx.array(RANDOM.normal(0, scale, shape).astype(np.float32))


def gradients(function: Callable[..., mx.array], *arrays: mx.array) -> list[np.ndarray]:
    result = function(*arrays)
    cotangent = mx.cos(mx.arange(result.size).reshape(result.shape))
    return [np.array(g) for g in mx.vjp(function, list(arrays), [cotangent])[1]]


def test_exp_is_exact_to_float32_rounding() -> None:
    x = mx.linspace(-59.9, 0, 1_000_001)
    exact = np.exp(np.array(x, np.float64))
    assert np.abs(np.array(exponential.exp_nonpositive(x), np.float64) / exact - 1).max() < 3e-7


def test_exp_has_no_subnormal_results() -> None:
    x = mx.array([-60.0, -87.0, -1e4, -np.inf, -3.4e38])
    assert np.array(exponential.exp_nonpositive(x)).tolist() == [0.0] * 5


def test_what_is_not_a_number_stays_so() -> None:
    bad = mx.array([[0.0, np.nan, 1.0]])
    assert bool(mx.isnan(cpu.cross_entropy(bad, mx.array([0])))[0])
    assert bool(mx.isnan(cpu.swiglu(bad, bad))[0, 1])


@pytest.mark.parametrize("scale", [0.1, 4.0, 60.0])
def test_swiglu(scale: float) -> None:
    gate, x = values(5, 33, scale=scale), values(5, 33)
    theirs = nn.silu(gate) * x
    assert np.array(cpu.swiglu(gate, x)) == pytest.approx(np.array(theirs), rel=1e-5, abs=1e-6)
    ours = gradients(cpu.swiglu, gate, x)
    for mine, other in zip(ours, gradients(lambda g, y: nn.silu(g) * y, gate, x), strict=True):
        assert mine == pytest.approx(other, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("scale", [0.1, 4.0, 60.0, 1e4])
@pytest.mark.parametrize("name", ["silu", "gelu_approx"])
def test_activations(name: str, scale: float) -> None:
    ours, theirs = getattr(cpu.FastNN("nn"), name), getattr(nn, name)
    x = values(5, 33, scale=scale)
    assert np.array(ours(x)) == pytest.approx(np.array(theirs(x)), rel=1e-5, abs=1e-5)
    mine, other = gradients(ours, x)[0], gradients(theirs, x)[0]
    assert mine == pytest.approx(other, rel=1e-4, abs=1e-5)
    half = x.astype(mx.bfloat16)
    assert np.array(ours(half).astype(mx.float32)).tolist() == (
        np.array(theirs(half).astype(mx.float32)).tolist()
    )


def test_a_gated_norm_is_computed_by_them_in_float32_alone() -> None:
    gate, x = values(5, 33), values(5, 33)
    theirs = np.array(nn.silu(gate) * x)
    assert np.array(cpu.precise_swiglu(x, gate, x)) == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    half = x.astype(mx.bfloat16)
    assert cpu.precise_swiglu(half, gate, x).dtype == mx.bfloat16


def test_cross_entropy() -> None:
    logits, targets = values(7, 501), mx.array(RANDOM.integers(0, 501, 7))

    def theirs(x: mx.array) -> mx.array:
        return nn.losses.cross_entropy(x, targets, reduction="none")

    def ours(x: mx.array) -> mx.array:
        return cpu.cross_entropy(x, targets)

    assert np.array(ours(logits)) == pytest.approx(np.array(theirs(logits)), abs=1e-5)
    assert gradients(ours, logits)[0] == pytest.approx(gradients(theirs, logits)[0], abs=1e-6)


def masks(length: int) -> dict[str, mx.array | str | None]:
    seen = mx.arange(length)[None] <= mx.arange(length)[:, None]
    window = seen & (mx.arange(length)[None] > mx.arange(length)[:, None] - 4)
    return {"none": None, "causal": "causal", "window": window, "additive": mx.where(seen, 0, -9.0)}


@pytest.mark.parametrize("kind", ["none", "causal", "window", "additive"])
def test_attention(kind: str) -> None:
    q, k, v = values(2, 6, 11, 8), values(2, 2, 11, 8), values(2, 2, 11, 8)
    mask = masks(11)[kind]

    def theirs(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=0.3, mask=mask)

    def ours(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return cpu.attention(q, k, v, None, 0.3, mask)

    assert np.array(ours(q, k, v)) == pytest.approx(np.array(theirs(q, k, v)), abs=1e-5)
    for mine, other in zip(gradients(ours, q, k, v), gradients(theirs, q, k, v), strict=True):
        assert mine == pytest.approx(other, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        # A text model within one for pictures; the experts of a mixture.
        ("gemma3", {"gemma3_text": ["nn", *ATTENTION]}),
        ("mistral3", {"ministral3": ["swiglu", "nn", *ATTENTION]}),
        ("mixtral", {"mixtral": ["nn", *ATTENTION], "switch_layers": ["swiglu", "nn"]}),
        (
            "qwen3_5",
            {
                "qwen3_5": ["nn", "create_attention_mask"],
                "qwen3_next": ["swiglu", "precise_swiglu", "nn", *ATTENTION],
            },
        ),
    ],
)
def test_every_part_of_a_model_computes_with_them(
    tmp_path: Path, name: str, where: dict[str, list[str]]
) -> None:
    module, _ = mlx.load_model(make_folder(tmp_path / name, name))
    libraries = {part: importlib.import_module(f"mlx_lm.models.{part}") for part in where}
    ours = {name: function for name, _, function in cpu.FAST.functions}

    def found() -> dict[str, list[str]]:
        return {
            part: [name for name in ours if getattr(library, name, None) is ours[name]]
            for part, library in libraries.items()
        }

    dequantize_model(module, mx.float32)
    module.set_dtype(mx.float32)
    cpu.FAST.put_back(module)
    assert cpu.FAST.used(module) == []
    tokens = mx.array(RANDOM.integers(0, 500, (2, 40)))
    plain = np.array(module(tokens))
    try:
        expected = set().union(*where.values())
        assert cpu.FAST.put_in(module) == [name for name in ours if name in expected]
        assert found() == where
        assert np.array(module(tokens)) == pytest.approx(plain, abs=2e-4)
    finally:
        cpu.FAST.put_back(module)
    assert not any(found().values())


def test_a_model_gives_the_same_logits_with_and_without(tiny_model: Path) -> None:
    from mlx_lm.models import llama

    module, _ = mlx.load_model(tiny_model)
    dequantize_model(module, mx.float32)
    module.set_dtype(mx.float32)
    tokens = mx.array(RANDOM.integers(0, 500, (2, 40)))
    originals = {name: theirs for name, theirs, _ in cpu.FAST.functions}
    before = {name: getattr(llama, name, None) for name in originals}
    try:
        for name, theirs in originals.items():
            if before[name]:
                setattr(llama, name, theirs)
        plain = np.array(module(tokens))
        assert cpu.FAST.put_in(module) == [name for name in originals if before[name]]
        assert np.array(module(tokens)) == pytest.approx(plain, abs=2e-4)
    finally:
        for name, function in before.items():
            if function:
                setattr(llama, name, function)
