"""Depthwise convolutions as sums give what MLX's own give, in both directions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from jobs.backend import convolution
from jobs.backend.convolution import ShiftedConvolution
from jobs.backend.mlx import mx, nn

RANDOM = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def fast() -> Iterator[None]:
    yield
    ShiftedConvolution.fast = True


def values(*shape: int) -> mx.array:
    return mx.array(RANDOM.normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("width", "length"), [(4, 23), (4, 4), (3, 8), (1, 5), (2, 70)])
def test_a_depthwise_convolution(width: int, length: int, bias: bool) -> None:
    model = nn.Sequential(nn.Conv1d(6, 6, width, groups=6, bias=bias))
    x = values(2, length, 6)
    cotangent = values(2, length - width + 1, 6)

    def result() -> tuple[np.ndarray, np.ndarray]:
        (y,), (change,) = mx.vjp(lambda x: model(x), [x], [cotangent])
        return np.array(y), np.array(change)

    plain = result()
    convolution.put_in(model)
    assert convolution.used(model)
    ours = result()
    ShiftedConvolution.fast = False
    again = result()
    for mine, theirs, back in zip(ours, plain, again, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-6)
        assert back.tolist() == theirs.tolist()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(6, 6, 4),  # every feature sees all
        nn.Conv1d(6, 6, 4, groups=2),
        nn.Conv1d(6, 6, 4, groups=6, padding=3),
        nn.Conv1d(6, 6, 4, groups=6, stride=2),
        nn.Conv1d(6, 6, 4, groups=6, dilation=2),
        nn.Conv1d(6, 12, 4, groups=6),
    ],
)
def test_any_other_is_left_alone(layer: nn.Module) -> None:
    model = nn.Sequential(layer)
    convolution.put_in(model)
    assert not convolution.used(model)
