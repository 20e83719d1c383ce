"""What a daemon does around jobs on its machine: power, other programs, Metal's watchdog."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.show.render import job_details
from daemon.client import FarenseClient
from daemon.store.records import JobRecord
from jobs.config.config import Preset
from jobs.paths import Workspace
from jobs.state import State
from jobs.storage.files import write_json
from tests.cli.conftest import Run, command_home, invoke
from tests.helpers.jobs import ended, running
from tests.helpers.model_server import OLLAMA_PS, OLLAMA_UNLOADED, model_server
from tests.helpers.servers import Daemons
from tests.helpers.waiting import wait_until

__all__ = ["command_home", "invoke"]


def test_a_low_battery_holds_jobs_until_it_is_charged(
    client: FarenseClient,
    daemons: Daemons,
    preset: Preset,
    workspace: Workspace,
    invoke: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FARENSE_BATTERY_FLOOR", "30")
    fed = workspace.root / "power.json"
    write_json(fed, [62, False])
    daemons.start("endless", power=str(fed))
    job = client.enqueue(preset)
    running(client, job.id)
    said = "on battery power (62 %)"
    wait_until(lambda: client.power_lines(), "its word on the battery")
    for command in (("status",), ("status", job.id)):
        assert said in invoke(*command).err
    assert said in invoke("daemon", "status").out
    write_json(fed, [29, False])

    def held() -> JobRecord | None:
        record = client.job(job.id)
        return record if record.state is State.QUEUED and client.power_lines() else None

    record = wait_until(held, "the hold")
    why = "battery below 30 %: waits for mains power, or 35 %"
    assert record.reason == f"{why}; goes on from its last checkpoint"
    wait_until(lambda: any(card.held_because for card in client.workers()), "its word")
    assert f"starts nothing: {why}" in invoke("status").err
    assert why in invoke("daemon", "status").out
    write_json(fed, [29, True])
    wait_until(lambda: client.job(job.id).attempt == 2, "mains power")
    assert client.job(job.id).lost_attempts == 0
    client.cancel(job.id)
    ended(client, job.id)


def test_programs_that_hold_gpu_memory_are_named_before_a_job_starts(
    client: FarenseClient,
    daemons: Daemons,
    preset: Preset,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FARENSE_UNLOAD", "[ollama]")
    answers = {"/api/ps": OLLAMA_PS, "/api/generate": OLLAMA_UNLOADED}
    with model_server(answers=answers) as server:
        daemons.start("good", programs={"ollama": server.address})
        job = client.enqueue(preset)
        assert ended(client, job.id).state is State.COMPLETED
        asked = [(method, path) for method, path, _ in server.asked]
        assert asked == [("GET", "/api/ps"), ("POST", "/api/generate")]
    assert b"Ollama holds 5.33 GB of GPU memory (gemma3:4b)" in workspace.daemon_log.read_bytes()


def test_what_the_job_does_while_it_loads_names_them_too(
    client: FarenseClient, daemons: Daemons, preset: Preset
) -> None:
    with model_server(answers={"/api/ps": OLLAMA_PS}) as server:
        daemons.start("mute", programs={"ollama": server.address})
        job = client.enqueue(preset)
        record = wait_until(lambda: _with_phase(client, job.id), "the phase")
        doing = next(line for line in job_details(record) if line.startswith("Doing"))
        assert "loading the model and the data (Ollama holds 5.33 GB" in doing
        client.cancel(job.id)
        ended(client, job.id)


def _with_phase(client: FarenseClient, job_id: str) -> JobRecord | None:
    record = client.job(job_id)
    return record if record.phase else None


@pytest.mark.parametrize("wanted", ["default", "relaxed"])
def test_metals_time_out_is_longer_in_children_alone(
    client: FarenseClient,
    daemons: Daemons,
    preset: Preset,
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
) -> None:
    monkeypatch.delenv("AGX_RELAX_CDM_CTXSTORE_TIMEOUT", raising=False)
    monkeypatch.setenv("FARENSE_GPU_WATCHDOG", wanted)
    daemon = daemons.start("endless")
    job = client.enqueue(preset)
    child = running(client, job.id).pid
    assert child is not None
    assert relaxed(child) == (wanted == "relaxed")
    assert not relaxed(daemon.pid)
    client.cancel(job.id)
    ended(client, job.id)


def relaxed(pid: int) -> bool:
    """Tell whether a process was started with the variable."""
    found = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return b"AGX_RELAX_CDM_CTXSTORE_TIMEOUT=1" in found


@pytest.mark.parametrize("command", [("daemon",), ("doctor",), ("daemon", "install", "--print")])
def test_settings_that_are_none_are_wrong_input(
    invoke: Run, workspace: Workspace, command: tuple[str, ...]
) -> None:
    workspace.night_settings.write_text("batery_floor: 20\n")
    done = invoke(*command)
    assert (done.code, done.out) == (2, "")
    assert "configs/daemon/night.yaml" in done.err
    assert "batery_floor: unknown key" in done.err
