"""What is said where training cannot start from an adapter, and what is advised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs.config.config import LoraConfig
from jobs.errors import ConfigError, ExitCode
from jobs.model.foreign_adapter import PEFT, AdapterOrigin, Arrays, ForeignAdapter
from jobs.model.starting_point import check_start, shape_of

ORIGIN = AdapterOrigin(PEFT, "theirs", 16.0, "0" * 64)
MODEL = Path("models/tiny")


def made(
    *blocks: int, rank: int = 4, path: str = "self_attn.q_proj", dora: bool = False
) -> ForeignAdapter:
    arrays: Arrays = {}
    for block in blocks:
        layer = f"model.layers.{block}.{path}"
        arrays[f"{layer}.lora_a"] = np.zeros((8, rank), np.float32)
        arrays[f"{layer}.lora_b"] = np.zeros((rank, 6), np.float32)
        if dora:
            arrays[f"{layer}.m"] = np.ones(6, np.float32)
    return ForeignAdapter(arrays, ORIGIN)


def refused(found: ForeignAdapter, wanted: ForeignAdapter) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        check_start(found, wanted.shapes, LoraConfig(num_layers=2), MODEL)
    assert caught.value.exit_code == ExitCode.INVALID
    return caught.value


CASES = {
    "more blocks": (made(0, 1, 2, 3), made(2, 3), "--set lora.num_layers=4"),
    "rank and kind": (
        made(2, 3, rank=2, dora=True),
        made(2, 3),
        "lora.kind=dora --set lora.rank=2",
    ),
    "a hybrid": (made(3, 7, 11), made(7, 11), "--set lora.num_layers=6"),
    "blocks with gaps": (made(0, 3), made(2, 3), "in the last blocks alone"),
    "the first blocks": (made(0, 1), made(2, 3), "in the last blocks alone"),
    "others besides": (made(3, path="x_proj"), made(3), "--set 'lora.keys=[x_proj]'"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_settings_that_fit_are_advised(case: str) -> None:
    found, wanted, advised = CASES[case]
    error = refused(found, wanted)
    assert advised in (error.hint or "")
    for each in (found, wanted):
        assert str(shape_of(each.shapes)) in error.message


def test_the_same_shape_beside_other_weights_is_told_by_an_array() -> None:
    wider = made(2, 3)
    for name in list(wider.arrays):
        if name.endswith("lora_b"):
            wider.arrays[name] = np.zeros((4, 12), np.float32)
    error = refused(wider, made(2, 3))
    assert "lora_b has the shape (4, 12), expected (4, 6)" in error.message
    assert error.hint == ("Take the model that it was trained on, or a whole copy of the adapter.")


def test_an_array_beside_the_blocks_is_named() -> None:
    found = made(2, 3)
    found.arrays["lm_head.lora_a"] = np.zeros((8, 4), np.float32)
    assert ", and lm_head.lora_a" in refused(found, made(2, 3)).message


def test_the_rank_of_experts_is_theirs() -> None:
    layer = "model.layers.3.mlp.switch_mlp.up_proj"
    arrays = {
        f"{layer}.lora_a": np.zeros((8, 3, 64), np.float32),
        f"{layer}.lora_b": np.zeros((8, 128, 3), np.float32),
    }
    assert str(shape_of(arrays)) == "LoRA of rank 3 on mlp.switch_mlp.up_proj (block 3)"


def test_what_fits_is_taken_and_an_unknown_model_told() -> None:
    fits = made(2, 3)
    said = check_start(fits, fits.shapes, LoraConfig(scale=16.0, num_layers=2), MODEL)
    assert said == "Whether the adapter in theirs was trained on tiny cannot be checked."
