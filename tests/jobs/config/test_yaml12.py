"""What people write in config files and after --set, and what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.config.config import load_preset
from jobs.config.yaml12 import parse_yaml
from jobs.paths import REPOSITORY


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-4", 2e-4),
        ("on", "on"),
        ("Off", "Off"),
        ("true", True),
        ("no", False),
        ("1_000", 1000),
        ("null", None),
        ("{thinking: on, rank: 4}", {"thinking": "on", "rank": 4}),
    ],
)
def test_numbers_and_words_are_what_they_look_like(text: str, value: Any) -> None:
    assert parse_yaml(text) == value


def test_other_users_of_the_library_keep_its_rules() -> None:
    assert yaml.safe_load("[on, 2e-4]") == [True, "2e-4"]


def test_a_setting_whose_words_are_on_and_off_takes_them_unquoted(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("preset: chat\nthinking: on\n")
    folders = (REPOSITORY / "configs",)
    assert load_preset(str(file), folders).config.thinking == "on"
    assert load_preset("chat", folders, ("thinking=on",)).config.thinking == "on"
