"""The workspace that the pages speak of: model, data, presets, two old jobs, a queue, a daemon."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from daemon.process import stop_daemon
from jobs.paths import REPOSITORY, Workspace
from tests.cli.conftest import command_home, farense, invoke
from tests.helpers.hub import serving_hub
from tests.helpers.runs import questions, write_rows

__all__ = ["command_home", "farense", "invoke"]

# What makes the presets small; everything else in them is as it is.
SMALL: dict[str, Any] = {
    "num_epochs": 2,
    "warmup_steps": 2,
    "max_seq_length": 96,
    "eval_steps": 4,
    "save_steps": 8,
    "log_steps": 2,
    "gap_examples": 4,
}


@pytest.fixture
def documented(
    past: Workspace, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workspace]:
    """The workspace of the pages, under their names, with small things in it; gone at the end."""
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    for name in ("mistral-7b-4bit", "smollm2-135m-4bit"):
        shutil.copytree(tiny_model, past.models / name)
    for part, count, first in (("train", 11, 0), ("valid", 4, 100)):
        write_rows(past.data / f"{part}_v3_final_complete.jsonl", questions(count, first))
        write_rows(past.data / "sample" / f"{part}.jsonl", questions(count, first))
    for preset in ("v1", "v2", "quickstart"):
        path = past.configs / f"{preset}.yaml"
        values = yaml.safe_load((REPOSITORY / "configs" / path.name).read_text())
        values["lora"]["num_layers"] = 2
        path.write_text(yaml.safe_dump(values | SMALL, sort_keys=False))
    with serving_hub() as hub:
        hub.repositories["mlx-community/Mistral-7B-Instruct-v0.3-4bit"] = tiny_model
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield past
    stop_daemon(past)
