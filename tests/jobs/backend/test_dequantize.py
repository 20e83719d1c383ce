"""On a CPU every weight is float32, whatever form the base model is stored in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.backend.dequantize import dequantized
from jobs.backend.mlx import QuantizedSwitchLinear, SwitchLinear, load_model, mx, named
from jobs.model.load import load_base
from tests.helpers.quantized import FORMS, MIXED_OTHERS, in_form, plain_values


@pytest.mark.parametrize("form", [*FORMS, "mixed", "awq"])
def test_every_array_is_float32_and_what_the_format_says(
    tiny_model: Path, tmp_path: Path, form: str
) -> None:
    folder = in_form(tiny_model, tmp_path / form, form)
    stored: Any = load_model(folder)[0]
    arrays, layers = named(stored.parameters()), dict(stored.named_modules())
    module, said = load_base(folder)
    assert said == "float32"
    found = named(module.parameters())
    quantized = 0
    for name, array in found.items():
        assert array.dtype == mx.float32, name
        path = name.rpartition(".")[0]
        if f"{path}.scales" in arrays:
            layer = layers[path]
            expected = plain_values(arrays, path, layer.bits, layer.mode)
            assert array.shape == expected.shape, name
            assert np.array(array) == pytest.approx(expected, rel=1e-6, abs=1e-7), name
            quantized += 1
        else:
            assert mx.array_equal(array, arrays[name].astype(mx.float32)), name
    assert quantized >= 28  # seven layers in each of four blocks
    if form == "mixed":
        assert {layers[path].bits for path in MIXED_OTHERS} == {4, 8}


@pytest.mark.parametrize("global_scale", [False, True])
def test_experts_keep_the_scale_that_each_has(global_scale: bool) -> None:
    mx.random.seed(3)
    plain = SwitchLinear(32, 16, 3, bias=True)
    # Without a scale for each expert, those of groups hold no numbers that small.
    small = 0.02 if global_scale else 2.0
    plain.weight *= mx.array([1.0, 40.0, small])[:, None, None]
    quantized: Any = plain.to_quantized(16, 4, "nvfp4", global_scale)
    assert isinstance(quantized, QuantizedSwitchLinear)
    found: Any = dequantized(quantized, mx.float32)
    assert isinstance(found, SwitchLinear)
    assert found.weight.dtype == mx.float32
    assert mx.array_equal(found.bias, plain.bias)
    for expert in range(3):
        original = np.array(plain.weight[expert])
        # Four bits: the largest step between two values is a third of the larger one.
        error = np.abs(np.array(found.weight[expert]) - original).max()
        assert 0 < error < np.abs(original).max() / 5, expert
