"""One figure, one meaning: what every screen says of one job, beside one another."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import datetime
from pathlib import Path

import pytest

from cli.show.comparison_lines import comparison_lines
from cli.show.render import job_details, status_table
from daemon.client import FarenseClient
from daemon.file_client import FileClient
from daemon.runs.files import record_from_files
from daemon.store.records import JobRecord
from jobs.compare.comparison import compare
from jobs.config.config import Preset, load_preset
from jobs.past_run import read_run
from jobs.paths import Workspace
from jobs.report import tables
from jobs.report.findings import Named
from jobs.report.run_data import measured
from jobs.state import State, read_state, seconds_between
from jobs.storage.files import read_json, whole_lines
from jobs.storage.formatting import duration, local, local_exact, memory_text
from tests.cli.conftest import Run
from tests.helpers.jobs import ended, running
from tests.helpers.servers import Daemons
from tests.helpers.waiting import wait_until

REAL = (sys.executable, "-P", "-m", "jobs")
SETTINGS = ("num_epochs=20", "save_steps=10", "log_steps=2", "eval_steps=30")
FIGURES = (
    "state", "attempt", "step", "total_steps", "loss", "val_loss", "best_val_loss",
    "baseline_val_loss", "overfitting_gap", "gap_status", "token_f1", "exact_match", "adapter",
    "created_at", "started_at", "finished_at", "duration_seconds", "reason",
)  # fmt: skip


@pytest.fixture
def paused_and_evaluated(
    client: FarenseClient,
    daemons: Daemons,
    preset: Preset,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> JobRecord:
    """A job of two attempts, with a pause between them, whose adapter was evaluated."""
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")
    long = load_preset(preset.name, (workspace.configs,), SETTINGS)
    daemons.start(child=REAL)
    job_id = client.enqueue(long).id
    running(client, job_id)
    client.pause(job_id)
    wait_until(lambda: client.job(job_id).state is State.PAUSED, "the pause")
    client.resume(job_id)
    assert ended(client, job_id).state is State.COMPLETED
    assert ended(client, client.evaluate(job_id).id).state is State.COMPLETED
    record = client.job(job_id)
    assert record.attempt == 2
    return record


def test_every_screen_says_the_same(
    paused_and_evaluated: JobRecord, workspace: Workspace, invoke: Run, client: FarenseClient
) -> None:
    record = paused_and_evaluated
    told = {name: record.as_dict()[name] for name in FIGURES}
    assert all(value is not None for name, value in told.items() if name != "reason"), told
    run = workspace.run(record.id)

    by_json = json.loads(invoke("status", record.id, "--json").out)
    in_list = next(r for r in json.loads(invoke("status", "--json").out) if r["id"] == record.id)
    from_files = FileClient(workspace).job(record.id).as_dict()
    for screen in (by_json, in_list, from_files):
        assert {name: screen[name] for name in FIGURES} == told

    summary = read_json(run.summary)
    for name in ("started_at", "finished_at", "duration_seconds", "step", "best_val_loss"):
        assert summary[name] == told[name], name
    assert (summary["best_gap"], summary["gap_status"]) == (
        told["overfitting_gap"],
        told["gap_status"],
    )

    # What is on the clock, less the pause: two attempts, each within its times.
    on_the_clock = seconds_between(told["started_at"], told["finished_at"])
    assert 0 < summary["elapsed_time_sec"] < told["duration_seconds"] < on_the_clock

    rows = [json.loads(line) for line in whole_lines(run.metrics)]
    peaks = [row["memory_mb"] for row in rows]
    assert peaks == sorted(peaks)
    shown = {
        "best": f"{told['best_val_loss']:.4f}",
        "gap": f"{told['overfitting_gap']:.3f}",
        "duration": duration(told["duration_seconds"]),
        "training": duration(summary["elapsed_time_sec"]),
        "memory": memory_text(peaks[-1]),
        "f1": f"{told['token_f1']:.3f}",
    }

    heading, row = status_table([record])
    cell = {name: row[heading.index(name) :].split("  ")[0] for name in ("GAP", "ENDED")}
    assert cell["GAP"] == f"{shown['gap']} {told['gap_status']}"
    assert cell["ENDED"] == local(told["finished_at"])
    assert (shown["best"] in row, shown["duration"] in row) == (True, True)

    details = {line[:15].strip(): line[15:] for line in job_details(record)}
    assert details["Best val loss"] == shown["best"]
    assert details["Last val loss"] == f"{told['val_loss']:.4f}"
    assert details["Gap"] == f"{shown['gap']} {told['gap_status']}"
    assert details["Duration"] == shown["duration"]
    assert details["Started"] == local_exact(told["started_at"])
    assert details["Finished"] == local_exact(told["finished_at"])
    assert details["Token F1"] == f"{told['token_f1']:.4f}"
    assert (workspace.root / details["Adapter"] / "adapters.safetensors").is_file()

    past = read_run(run.path)
    report = {line.name: line.cells[0] for line in tables.outcome([Named("", measured(past))])}
    assert report["Best validation loss"] == shown["best"]
    assert report["Gap at the best step"] == shown["gap"]
    assert report["Duration"] == shown["duration"]
    assert report["Training time"] == shown["training"]
    assert report["Peak memory"] == shown["memory"]
    assert report["Token F1"].startswith(shown["f1"])
    assert report["Started"] == local_exact(told["started_at"])
    assert report["Finished"] == local_exact(told["finished_at"])
    assert invoke("report", record.id).code == 0
    page = (run.path / "report.html").read_text()
    assert all(text in page for text in (shown["best"], shown["duration"], shown["memory"]))

    twin = workspace.run(f"{record.id[:-4]}twin")
    shutil.copytree(run.path, twin.path)
    text = "\n".join(comparison_lines(compare(past, read_run(twin.path)), None))
    for name in ("best", "gap", "duration", "training", "memory", "f1"):
        assert text.count(shown[name]) >= 2, name


def test_a_run_that_was_copied_without_its_log_still_tells_its_figures(
    paused_and_evaluated: JobRecord, workspace: Workspace, tmp_path: Path
) -> None:
    record = paused_and_evaluated
    other = Workspace(tmp_path / "other")
    shutil.copytree(workspace.run(record.id).path, other.run(record.id).path)
    copy = record_from_files(other, record.id)
    assert copy is not None
    for name in FIGURES[:10]:
        assert getattr(copy, name) == getattr(record, name), name
    assert copy.duration_seconds == record.duration_seconds


def test_while_a_job_is_paused_its_duration_stands_still(
    client: FarenseClient,
    daemons: Daemons,
    preset: Preset,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")
    daemons.start(child=REAL)
    job_id = client.enqueue(load_preset(preset.name, (workspace.configs,), SETTINGS)).id
    running(client, job_id)
    client.pause(job_id)
    wait_until(lambda: client.job(job_id).state is State.PAUSED, "the pause")
    record = client.job(job_id)
    began = datetime.fromisoformat(record.started_at or "")
    ran = record.duration_seconds
    assert ran is not None
    state = read_state(workspace.run(job_id))
    assert ran == state.ran_seconds == seconds_between(began.isoformat(), state.updated_at)
    assert client.job(job_id).duration_seconds == ran
