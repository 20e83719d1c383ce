"""What a page may have done, sent to the real server as the page sends it; no daemon runs."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.client import FarenseClient
from jobs.config.config import Preset
from jobs.paths import Workspace
from jobs.state import State
from tests.helpers.page_process import PageProcess


def change(page: PageProcess, job: str, action: str, **body: Any) -> str:
    reply = page.post(f"/api/jobs/{job}/{action}", **body)
    assert reply.status == 200, reply.body
    return str(reply.json["said"])


def test_a_job_that_waits_is_changed_as_by_commands(
    preset: Preset, client: FarenseClient, page: PageProcess
) -> None:
    first, second = client.enqueue(preset), client.enqueue(preset)
    assert "priority 1" in change(page, second.id, "top")
    assert [job.record.id for job in client.queue()] == [second.id, first.id]
    assert "priority 7" in change(page, first.id, "move", priority=7)
    assert client.job(first.id).priority == 7
    assert "Paused" in change(page, first.id, "pause")
    assert client.job(first.id).state is State.PAUSED
    assert "queued" in change(page, first.id, "resume")
    assert "Cancelled" in change(page, first.id, "cancel")
    assert client.job(first.id).state is State.CANCELLED
    said = change(page, first.id, "retry")
    assert said.startswith("Queued ") and len(client.jobs()) == 3


def test_what_cannot_be_done_is_refused_and_says_why(
    preset: Preset, client: FarenseClient, page: PageProcess
) -> None:
    job = client.enqueue(preset)
    client.cancel(job.id)
    for action in ("pause", "resume", "cancel", "top", "move", "start", "explode"):
        reply = page.post(f"/api/jobs/{job.id}/{action}", priority=1)
        assert reply.status == 409
        assert "cancelled" in reply.json["error"]
    for unknown in ("20261122-210000-other-zzzz", "latest", "x"):
        assert page.post(f"/api/jobs/{unknown}/cancel").status == 404
    assert client.job(job.id).state is State.CANCELLED


@pytest.mark.parametrize("priority", [None, "5", 1.5, True, 10**9])
def test_a_priority_is_a_whole_number(
    preset: Preset, client: FarenseClient, page: PageProcess, priority: Any
) -> None:
    job = client.enqueue(preset)
    reply = page.post(f"/api/jobs/{job.id}/move", priority=priority)
    assert reply.status == 409 and "whole number" in reply.json["error"]


def test_a_form_is_enqueued_with_what_it_changes(
    preset: Preset, client: FarenseClient, page: PageProcess
) -> None:
    form = {
        "preset": "tiny",
        "changes": {"learning_rate": "5e-4", "lora.rank": "2", "thinking": "off"},
        "name": "from the page",
        "priority": 4,
        "at": "23:30",
        "evaluate": True,
    }
    found = page.post("/api/enqueue", **form).json
    record = client.job(found["id"])
    assert (record.name, record.priority, record.state) == (
        "from the page", 4, State.SCHEDULED)  # fmt: skip
    assert client.job(found["evaluation"]).evaluates == record.id
    config = client.run(record.id).config
    assert (config["learning_rate"], config["lora"]["rank"]) == (5e-4, 2)


@pytest.mark.parametrize(
    ("form", "field", "words"),
    [
        ({"changes": {"learning_rate": "fast"}}, "learning_rate", "'fast'"),
        ({"changes": {"lora.rank": "0"}}, "lora.rank", "greater than"),
        ({"changes": {"learning_rate": "2"}}, "learning_rate", "less than"),
        ({"changes": {"learning_rat": "1"}}, None, "learning_rat"),
        ({"changes": {"early_stopping_min_delta": "0.1"}}, "early_stopping_min_delta", "both"),
        ({"changes": {"model": "models/nothing"}}, "model", "models/nothing"),
        ({"changes": {"data.train": "data/nothing.jsonl"}}, "data.train", "data/nothing"),
        ({"changes": {"data.valid": "data/nothing.jsonl"}}, "data.valid", "data/nothing"),
        ({"changes": {"lora.keys": "[no_such]"}}, "lora.keys", "no_such"),
        ({"changes": {"learning_rate": "[unclosed"}}, "learning_rate", "YAML"),
        ({"at": "some day"}, "at", "some day"),
        ({"priority": "high"}, "priority", "whole number"),
        ({"name": "x" * 101}, "name", "100"),
        ({"preset": "../../etc/passwd"}, None, "no such preset"),
        ({"preset": "configs/tiny.yaml"}, None, "no such preset"),
        ({"changes": [1]}, None, "no settings"),
        ({"changes": {"learning_rate": 1}}, None, "what no setting can"),
    ],
)
def test_what_is_wrong_is_said_beside_its_field_and_nothing_is_queued(
    preset: Preset,
    client: FarenseClient,
    page: PageProcess,
    form: dict[str, Any],
    field: str | None,
    words: str,
) -> None:
    for path in ("/api/check", "/api/enqueue"):
        problems = page.post(path, **{"preset": "tiny", **form}).json["problems"]
        said = problems["general"] if field is None else problems["fields"][field]
        assert words in said
        assert set(problems["fields"]) == ({field} if field else set())
    assert client.jobs() == []


def test_a_form_holds_every_setting_and_its_values_are_those_of_the_preset(
    preset: Preset, workspace: Workspace, page: PageProcess
) -> None:
    form = page.ask("/api/presets/tiny").json
    changes = {field["name"]: field["value"] for field in form["fields"]}
    from jobs.config.config import setting_names

    assert set(changes) == set(setting_names())
    # All of them sent as they stand make the same job.
    reply = page.post("/api/check", preset="tiny", changes=changes)
    assert reply.json == page.post("/api/check", preset="tiny", changes={}).json
    assert "11 examples" in reply.json["plan"]
