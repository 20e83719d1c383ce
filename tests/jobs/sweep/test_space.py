"""What may be tried."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from jobs.sweep.space import Choice, Dimension, Range, dimension, grid, label, settings_of, size

DIMENSION: TypeAdapter[Dimension] = TypeAdapter(Choice | Range)


def parsed(values: Any) -> Dimension:
    return DIMENSION.validate_python(dimension(values))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([4, 6, 8], (4, 6, 8)),
        (["a", None, True, 1, 1.5], ("a", None, True, 1, 1.5)),
        ({"low": 4, "high": 8}, (4, 5, 6, 7, 8)),
        ({"low": 4, "high": 9, "step": 2}, (4, 6, 8)),
        ({"low": 0.05, "high": 0.15, "step": 0.05}, (0.05, 0.1, 0.15)),
        ({"low": 0.0, "high": 1.0}, None),
        ({"low": 0.05, "high": 0.08, "step": 0.01}, (0.05, 0.06, 0.07, 0.08)),
        ({"low": 1, "high": 4, "log": True}, (1, 2, 3, 4)),
        ({"low": 0, "high": 5000}, None),
    ],
)
def test_values(values: Any, expected: Any) -> None:
    assert parsed(values).values() == expected


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "at least 1 item"),
        ([4, 4], "4 is there twice"),
        ([4, 4.0], "4 is there twice"),
        ([float("nan"), 1e-4], "nan is no number to try"),
        ([float("inf")], "inf is no number to try"),
        ([[1], [1]], r"'\[1\]' is there twice"),
        ({"low": 2, "high": 2}, "below high"),
        ({"low": 0, "high": 1.0, "log": True}, "above 0"),
        ({"low": 1, "high": 8, "log": True, "step": 2}, "cannot be combined"),
        ({"low": 1, "high": 8, "step": 0.5}, "is whole"),
        ({"low": 1, "high": 8, "setp": 2}, "setp"),
        ({"low": "1", "high": 8}, "valid"),
        ({"low": float("nan"), "high": 8.0}, "finite|below high"),
    ],
)
def test_what_makes_no_sense_is_refused(values: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        parsed(values)


@pytest.mark.parametrize("values", [5, "4", None, {"min": 1, "max": 2}])
def test_what_is_neither_a_list_nor_a_range_is_refused(values: Any) -> None:
    with pytest.raises(ValueError, match="a list of values, or"):
        dimension(values)


def test_a_value_that_is_a_list_is_known_by_its_text() -> None:
    keys = [["q_proj"], ["q_proj", "v_proj"]]
    space = {"lora.keys": parsed(keys), "lora.rank": parsed([4, 8])}
    assert label(keys[1]) == '["q_proj","v_proj"]'
    params = {"lora.keys": label(keys[1]), "lora.rank": 8}
    assert settings_of(space, params) == {"lora.keys": keys[1], "lora.rank": 8}


def test_true_and_one_are_two_values() -> None:
    space = {"x": parsed([1, True])}
    assert [type(point["x"]) for point in grid(space, "")] == [int, bool]


def test_a_grid_has_every_point_once_and_what_shares_its_warm_value_together() -> None:
    space = {
        "lora.rank": parsed([4, 8]),
        "lora.num_layers": parsed([2, 4]),
        "batch_size": parsed({"low": 1, "high": 3}),
    }
    points = list(grid(space, "lora.num_layers"))
    assert len(points) == size(space) == 12
    assert len({tuple(sorted(point.items())) for point in points}) == 12
    assert [point["lora.num_layers"] for point in points] == [2] * 6 + [4] * 6


def test_a_space_with_an_endless_range_has_no_size() -> None:
    assert size({"a": parsed([1, 2]), "b": parsed({"low": 0.1, "high": 0.2})}) is None
