"""One architecture of each kind trains as plain mlx-lm does, cold and warm alike."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.architectures import outcome_of
from jobs.backend.mlx import mx


@pytest.fixture(autouse=True)
def uncompiled() -> Iterator[None]:
    """Compiling kernels for so many architectures takes minutes."""
    mx.disable_compile()
    yield
    mx.enable_compile()


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("llama", ""),
        ("nanbeige", "not called one after another"),  # goes through its blocks twice
        ("deepseek_v2", ""),  # latent attention: heads of values are narrower
        ("deepseek_v3:q_lora_rank=null", ""),  # its queries are not compressed
        ("minicpm3", ""),  # latent attention, dense
        ("mixtral", ""),  # a mixture of experts
        ("qwen3_5", ""),  # linear attention in every other block
        ("mamba2", ""),  # a state space
        ("gemma2", ""),  # logits are capped
        ("gemma3_text", ""),  # a window
        ("gemma3n", ""),  # blocks share keys and values
        ("gear", ""),  # its config.json is none for transformers
        ("afm7", "do not stand in a list"),  # cannot be quantized
    ],
)
def test_an_architecture_of_each_kind_trains(name: str, way: str) -> None:
    outcome = outcome_of(name)
    assert outcome["outcome"] == "trains", outcome
    assert way in " ".join(outcome["plain"])
    assert bool(way) == bool(outcome["plain"])


@pytest.mark.parametrize("name", ["deepseek_v41", "phi3small"])
def test_one_that_cannot_be_trained_is_refused(name: str) -> None:
    assert outcome_of(name)["outcome"] == "refused"
