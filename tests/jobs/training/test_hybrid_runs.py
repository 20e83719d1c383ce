"""Whole runs of models whose blocks are of several kinds: resumed, evaluated, exported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.architectures import linear_names, plain_loss_of
from benchmarks.families import make_folder
from benchmarks.runs import tokenized
from jobs.backend.mlx import mx
from jobs.errors import ExitCode
from jobs.model.load import load_tokenizer
from jobs.paths import RunDirectory, Workspace
from jobs.spec import read_spec
from jobs.storage.files import read_json
from tests.helpers.attempts import attempt, computed, evict, result, warnings
from tests.helpers.evaluations import make_evaluation
from tests.helpers.exports import exported
from tests.helpers.runs import SETTINGS, make_run, run_child

JOB = "20261122-21000{}-tiny-hybr"


@pytest.fixture(autouse=True)
def uncompiled() -> Iterator[None]:
    """Compiling the kernels of every family takes minutes."""
    mx.disable_compile()
    yield
    mx.enable_compile()


@pytest.mark.parametrize(
    "family",
    [
        *("qwen3_5", "qwen3_next", "olmo_hybrid", "kimi_linear"),  # gated delta layers
        *("nemotron_h", "granitemoehybrid", "lfm2"),  # state spaces, short convolutions
        *("gemma3_text", "gemma4_text"),  # windows; keys and values that blocks share
    ],
)
def test_a_hybrid_is_trained_resumed_evaluated_fused_and_exported(
    alone: Workspace, tmp_path: Path, family: str
) -> None:
    model = make_folder(tmp_path / family, family)
    # The last two blocks may have no layer of one name.
    blocks = 2 if linear_names(model, 2) else 1
    lora = {**SETTINGS["lora"], "num_layers": blocks, "keys": linear_names(model, blocks)}
    small: dict[str, Any] = {"train": 6, "valid": 3, "gap_examples": 2, "save_steps": 1}
    whole, broken = (
        make_run(alone, model, JOB.format(n), **small, lora=lora, learning_rate=1e-2)
        for n in range(2)
    )
    said = attempt(alone, whole)
    assert set(computed(said).values()) == {6, 3}
    assert "prefix cache" not in warnings(said)

    answers = iter([None] * 2)
    attempt(alone, broken, stop=lambda: next(answers, "the test says so"))
    evict(alone)
    attempt(alone, broken)
    assert result(whole) == result(broken)

    best, before = (read_json(whole.summary)[f"{which}_val_loss"] for which in ("best", "baseline"))
    assert best < before
    assert evaluated(alone, whole) == pytest.approx((best, before), abs=1e-5)

    made = exported(alone, whole.job_id, fuse=True)
    trained = alone.models / "tiny"
    examples = tokenized(whole, read_spec(whole).valid, load_tokenizer(trained))
    plain = plain_loss_of(trained, Path(made["adapter"].folder), examples)
    assert plain == pytest.approx(best, abs=1e-4)
    # Its weights are rounded to 16 bits.
    assert made["fused"].validation_loss == pytest.approx(best, abs=0.05)


def evaluated(workspace: Workspace, run: RunDirectory) -> tuple[float, float]:
    """Return the validation losses that an evaluation measures: the adapter's, the base model's."""
    done = run_child(make_evaluation(workspace, run, "hybr"), MLX_DISABLE_COMPILE="1")
    assert done.returncode == ExitCode.OK, done.stderr
    report = read_json(run.evaluation_report)
    adapter, base = (report[which]["validation_loss"] for which in ("adapter", "base"))
    return adapter, base
