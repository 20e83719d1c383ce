"""Orders that came over the wire: those that fit are read, nothing else is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from jobs.spec import DataFile, EvaluationSpec, InitialAdapter, JobSpec, parse_spec, spec_text

JOB = "20261122-210000-v2-abcd"
DIGEST = "a" * 64
TRAIN = DataFile(f"data/imported/{DIGEST}.jsonl", DIGEST, 8, "train.jsonl")
START = InitialAdapter(f"data/imported/{DIGEST}.safetensors", DIGEST, "theirs", "PEFT", "b" * 64)
SPEC = JobSpec(JOB, "v2", "2026-11-22T21:00:00+00:00", {"seed": 1}, TRAIN, None, "f" * 64, 12)


@pytest.mark.parametrize(
    "spec", [SPEC, replace(SPEC, valid=TRAIN, name="à noite"), replace(SPEC, init_from=START)]
)
def test_an_order_comes_back_as_it_was(spec: JobSpec) -> None:
    assert parse_spec(spec_text(spec), JOB) == spec


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "20261122-210000-v2-wxyz"},
        {"version": 99},
        {"total_steps": "12"},
        {"config": [1]},
        {"unknown": 1},
        {"train": None},
        {"train": {**vars(TRAIN), "path": "../../../etc/passwd"}},
        {"train": {**vars(TRAIN), "path": "/etc/passwd"}},
        {"train": {**vars(TRAIN), "sha256": "../" + DIGEST}},
        {"valid": {**vars(TRAIN), "path": "data/imported/x.jsonl"}},
        {"init_from": {**vars(START), "path": "/etc/passwd"}},
        {"init_from": {**vars(START), "path": TRAIN.path}},
        {"init_from": {**vars(START), "source": 1}},
        {"init_from": "theirs"},
    ],
)
def test_what_does_not_fit_is_none(changes: dict[str, Any]) -> None:
    values = {**orjson.loads(spec_text(SPEC)), **changes}
    assert parse_spec(orjson.dumps(values), JOB) is None


@pytest.mark.parametrize("text", [None, b"", b"[]", b"\x80\x04K\x01.", b"[" * 5000])
def test_garbage_is_none(text: bytes | None) -> None:
    assert parse_spec(text, JOB) is None


def test_an_evaluation_needs_no_adapter_that_its_training_started_from() -> None:
    spec = replace(SPEC, valid=TRAIN, init_from=START)
    assert START in spec.frozen_files
    asked = replace(spec, kind="evaluate", evaluation=EvaluationSpec(JOB))
    assert START not in asked.frozen_files
    assert parse_spec(spec_text(asked), JOB) == asked
