"""What a step is expected to take, as far as the size of the vocabulary decides it."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.config.config import config_from
from jobs.model.slice_size import SLICE_BYTES
from jobs.resources import estimate as estimating
from jobs.resources.estimate import FLOAT32, PER_VOCABULARY, DataSize, estimate
from tests.helpers.runs import SETTINGS


def test_logits_count_as_far_as_they_are_held_at_once(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_from({**SETTINGS, "batch_size": 4, "data": {"train": "t"}}, "test")

    def step(limit: int) -> int:
        monkeypatch.setattr(estimating, "SLICE_BYTES", limit)
        size = DataSize(tokens=1000, longest=100, learned=0.5)
        return estimate(tiny_model, config, size, as_stored=False, lanes=1).step

    # 200 targets, 512 tokens in the vocabulary: at once, and in two slices, never more.
    logits = 200 * 512 * FLOAT32
    assert step(logits) == step(SLICE_BYTES)
    assert step(logits) - step(logits - 1) == pytest.approx(PER_VOCABULARY * logits / 2, abs=1)
    assert step(1) == step(logits - 1)
