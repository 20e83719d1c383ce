"""`farense mcp` as an agent finds it: the official client, a real daemon, the tiny model."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from daemon.client import FarenseClient
from jobs.config.config import Preset
from jobs.paths import Workspace
from tests.daemon.worker.test_real_child import REAL
from tests.helpers.agent import FARENSE, agent_in
from tests.helpers.runs import questions, write_rows
from tests.helpers.servers import Daemons

TOOLS = {
    *("presets", "check_data", "enqueue", "status", "follow", "metrics", "compare", "sweeps"),
}

WHO = {"protocolVersion": "2025-06-18", "capabilities": {}}
HELLO = (
    orjson.dumps(
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {**WHO, "clientInfo": {"name": "a test", "version": "1"}},
        }
    )
    + b"\n"
)


def test_an_agent_queues_within_the_budget_and_follows_to_the_end(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    async def agent() -> None:
        async with agent_in(workspace, "--allow-enqueue", "--max-jobs", "2") as it:
            assert set(await it.tools()) == TOOLS
            shown = await it.call("presets", name=preset.name)
            assert shown["settings"]["lora.rank"]["value"] == preset.config.lora.rank
            checked = await it.call("check_data", train="data/train.jsonl")
            assert checked["usable"]
            assert checked["train"]["examples"] == 11
            wanted = {"preset": preset.name, "max_hours": 1}
            first = await it.call("enqueue", **wanted, settings={"learning_rate": 2e-3})
            assert first["budget"] == {"jobs_left": 1, "hours_left": 11}
            job = first["job"]["id"]
            assert client.job(job).state == "queued"
            daemons.start(child=REAL)
            followed = await it.call("follow", job=job)
            assert followed["ended"]
            assert followed["job"]["state"] == "completed"
            assert followed["said_last"]
            done, total, words = it.progress[-1]
            assert done == total == followed["job"]["total_steps"]
            assert words is not None
            assert f"{job} is completed" in words
            measured = await it.call("metrics", job=job, most_rows=3)
            assert len(measured["rows"]) == 3
            assert measured["summary"]["best_val_loss"] == followed["job"]["best_val_loss"]
            second = await it.call("enqueue", **wanted, name="again")
            # What the first did not take is free again.
            assert 10.9 < second["budget"]["hours_left"] < 11
            again = await it.call("follow", job="again")
            assert again["ended"]
            compared = await it.call("compare", a=job, b="again")
            assert compared["decision"]["action"] in ("use B", "keep A", "no decision")
            assert {score["metric"] for score in compared["scores"]} >= {"token_f1"}
            assert (await it.call("status"))["jobs"][0]["id"] == second["job"]["id"]
            refused = await it.refused("enqueue", **wanted)
            assert "Beyond the budget: it allows 2 jobs" in refused
            assert "--max-jobs" in refused
        assert len(client.jobs()) == 2

    anyio.run(agent)


def test_an_agent_may_only_look_unless_the_person_says_otherwise(
    workspace: Workspace, preset: Preset, client: FarenseClient
) -> None:
    async def agent() -> None:
        async with agent_in(workspace) as it:
            tools = await it.tools()
            refused = await it.refused("enqueue", preset=preset.name, max_hours=1)
        assert "started without --allow-enqueue" in refused
        assert "farense mcp --allow-enqueue" in refused
        assert [name for name, tool in tools.items() if not tool.annotations.read_only_hint] == [
            "enqueue"
        ]

    anyio.run(agent)
    assert client.jobs() == []


def test_hours_are_counted_by_what_jobs_may_take(
    workspace: Workspace, preset: Preset, client: FarenseClient
) -> None:
    async def agent() -> None:
        async with agent_in(workspace, "--allow-enqueue", "--max-hours", "2") as it:
            unsaid = await it.refused("enqueue", preset=preset.name)
            assert "how long it may take at the most" in unsaid
            first = await it.call("enqueue", preset=preset.name, max_hours=1.5)
            assert first["budget"]["hours_left"] == pytest.approx(0.5)
            beyond = await it.refused("enqueue", preset=preset.name, max_hours=1)
            assert "it allows 2 hours of training, 1.5 of them are taken" in beyond
            # Its evaluation may take as long again.
            both = await it.refused("enqueue", preset=preset.name, max_hours=0.3, evaluate=True)
            assert "this may take 0.6" in both
            last = await it.call("enqueue", preset=preset.name, max_hours=0.2, evaluate=True)
            assert last["evaluation"]["evaluates"] == last["job"]["id"]

    anyio.run(agent)
    assert len(client.jobs()) == 3


def test_nothing_outside_the_workspace_is_read(
    workspace: Workspace, preset: Preset, client: FarenseClient, tmp_path: Path
) -> None:
    outside = write_rows(tmp_path / "secret.jsonl", questions(3))
    (tmp_path / "secret.yaml").write_text("secret-words: yes\n")
    (workspace.data / "link.jsonl").symlink_to(outside)
    (workspace.configs / "linked.yaml").symlink_to(tmp_path / "secret.yaml")
    (workspace.configs / "built.yaml").write_text(f"preset: {tmp_path / 'secret.yaml'}\n")
    ways: list[tuple[str, dict[str, Any]]] = [
        ("check_data", {"train": str(outside)}),
        ("check_data", {"train": "../secret.jsonl"}),
        ("check_data", {"train": "data/link.jsonl"}),
        ("check_data", {"train": ".farense/id"}),
        ("check_data", {"train": "data/train.jsonl", "valid": "data/../../secret.jsonl"}),
        ("presets", {"name": "linked"}),
        ("presets", {"name": "built"}),
        ("presets", {"name": str(tmp_path / "secret.yaml")}),
        ("presets", {"name": "../../secret.yaml"}),
        *(
            ("enqueue", {"preset": preset.name, "max_hours": 1, "settings": {setting: path}})
            for setting, path in (
                ("data.train", str(outside)),
                ("data.valid", "../secret.jsonl"),
                ("data.train", "data/link.jsonl"),
                ("model", str(tmp_path)),
                ("model", "~/models/other"),
                ("model", "models/../../elsewhere"),
                ("init_from", str(tmp_path)),
                ("init_from", "~/adapter"),
            )
        ),
    ]

    async def agent() -> None:
        async with agent_in(workspace, "--allow-enqueue") as it:
            for tool, arguments in ways:
                refused = await it.refused(tool, **arguments)
                assert "secret-words" not in refused
                assert any(
                    said in refused
                    for said in (
                        "leads out of the workspace",
                        "is in the private folder",
                        "is not the name of a preset",
                    )
                ), (arguments, refused)

    anyio.run(agent)
    assert client.jobs() == []


def test_a_run_whose_files_lead_out_is_not_read(
    workspace: Workspace, preset: Preset, client: FarenseClient, tmp_path: Path
) -> None:
    record = client.enqueue(preset)
    (tmp_path / "rows.jsonl").write_bytes(orjson.dumps({"step": 1, "loss": 0.5}) + b"\n")
    workspace.run(record.id).metrics.symlink_to(tmp_path / "rows.jsonl")

    async def agent() -> None:
        async with agent_in(workspace) as it:
            assert "leads out of the workspace" in await it.refused("metrics", job=record.id)

    anyio.run(agent)


def test_errors_are_told_with_what_to_do(
    workspace: Workspace, preset: Preset, client: FarenseClient
) -> None:
    async def agent() -> None:
        async with agent_in(workspace, "--allow-enqueue") as it:
            unknown = await it.refused("presets", name="tinny")
            assert "Did you mean tiny?" in unknown
            wrong = {"learning_rat": 1e-3, "lora.rank": -1}
            setting = await it.refused("enqueue", preset="tiny", max_hours=1, settings=wrong)
            assert "learning_rate" in setting
            assert "There are no jobs yet" in await it.refused("follow", job="latest")
            assert "There is no sweep" in await it.refused("sweeps", sweep="latest")
            (workspace.data / "train.jsonl").unlink()
            missing = await it.refused("enqueue", preset="tiny", max_hours=1)
            assert "There is no data file" in missing
            for said in (unknown, setting, missing):
                assert "Traceback" not in said

    anyio.run(agent)


def test_a_job_that_does_not_end_in_time_is_told_as_it_stands(
    workspace: Workspace, preset: Preset, client: FarenseClient
) -> None:
    record = client.enqueue(preset)

    async def agent() -> None:
        async with agent_in(workspace) as it:
            followed = await it.call("follow", job=record.id, timeout_seconds=0.1)
            assert not followed["ended"]
            assert followed["job"]["state"] == "queued"
            assert "No daemon works on this queue" in followed["held_because"]

    anyio.run(agent)


def test_without_redis_the_files_answer(workspace: Workspace) -> None:
    async def agent() -> None:
        async with agent_in(workspace) as it:
            assert (await it.call("status"))["jobs"] == []
            assert (await it.call("sweeps"))["sweeps"] == []

    anyio.run(agent)


def test_ctrl_c_ends_it(workspace: Workspace) -> None:
    with subprocess.Popen(
        [FARENSE, "mcp"],
        env={"FARENSE_HOME": str(workspace.root), "PATH": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(HELLO)
        server.stdin.flush()
        assert server.stdout.readline()
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == -signal.SIGINT


def test_nothing_but_the_protocol_is_on_standard_output(workspace: Workspace) -> None:
    done = subprocess.run(
        [FARENSE, "mcp"],
        input=HELLO,
        env={"FARENSE_HOME": str(workspace.root), "PATH": ""},
        capture_output=True,
        check=False,
        timeout=60,
    )
    answers = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert [answer["id"] for answer in answers] == [1]
    assert answers[0]["result"]["serverInfo"]["name"] == "farense"
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
