"""What a model card says, and what it keeps to itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from jobs.paths import Workspace
from jobs.storage.files import read_json, write_json
from tests.helpers.exports import exported
from tests.helpers.past_runs import FIRST


def card(workspace: Workspace) -> str:
    return (Path(exported(workspace, FIRST)["adapter"].folder) / "README.md").read_text()


def test_it_says_what_was_measured_and_where_the_adapter_comes_from(past: Workspace) -> None:
    run = past.run(FIRST)
    text = card(past)
    summary, report = read_json(run.summary), read_json(run.evaluation / "evaluation_report.json")
    spec = read_json(run.job)
    assert f"validation loss {summary['best_val_loss']:.4f} nats per token, at step" in text
    f1 = report["adapter"]["scores"]["token_f1"]
    assert f"| Token F1 | {f1['mean']:.3f} ({f1['low']:.3f} to {f1['high']:.3f}) |" in text
    for data in (spec["train"], spec["valid"]):
        assert f"{data['examples']} examples, SHA-256 `{data['sha256']}`" in text
    assert f"job `{FIRST}`, preset `tiny`" in text
    # It is made to be read elsewhere.
    assert str(past.root) not in text
    head, settings = text.split("---")[1], text.partition("```yaml\n")[2].partition("```")[0]
    assert yaml.safe_load(head)["library_name"] == "mlx"
    assert yaml.safe_load(settings) == spec["config"]


def test_what_another_adapter_answered_is_not_told_of_this_one(past: Workspace) -> None:
    report = past.run(FIRST).evaluation / "evaluation_report.json"
    write_json(report, read_json(report) | {"adapter_sha256": "0" * 64})
    text = card(past)
    assert "Token F1" not in text
    assert "its answers: not evaluated" in text


@pytest.mark.parametrize(
    ("summary", "said"),
    [
        (None, "the training had not ended when this was exported"),
        ({"state": "failed", "reason": "diverged"}, "the training ended as `failed`"),
    ],
)
def test_of_a_job_that_did_not_end_well_no_loss_is_told(
    past: Workspace, summary: dict[str, str] | None, said: str
) -> None:
    run = past.run(FIRST)
    shutil.rmtree(run.evaluation)
    run.summary.unlink()
    if summary is not None:
        write_json(run.summary, summary)
    text = card(past)
    assert said in text
    assert "nats per token" not in text
