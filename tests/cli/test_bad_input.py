"""What cannot be used is refused with one clear message and its exit code: never a traceback."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from daemon.client import FarenseClient
from jobs.paths import Workspace
from tests.cli.conftest import Outcome, Run
from tests.helpers.runs import questions, write_rows
from tests.helpers.servers import Daemons

NOTHING_THERE = "redis://:geheim@127.0.0.1:1/0"


def refused(done: Outcome, code: int, *parts: str) -> None:
    """Check a refusal: its code, nothing on stdout, each part in the message, no traceback."""
    assert done.code == code, done
    assert done.out == ""
    assert "Error: " in done.err
    assert "Traceback" not in done.err
    assert "internal error" not in done.err
    for part in parts:
        assert part in done.err


@pytest.fixture
def tiny(preset: object, client: FarenseClient) -> FarenseClient:
    """A workspace with model, data and preset `tiny`, and its queue."""
    return client


def test_an_unknown_preset(invoke: Run, tiny: FarenseClient) -> None:
    refused(invoke("enqueue", "v9"), 2, "There is no preset 'v9'", "quickstart, tiny, v1, v2")
    refused(invoke("enqueue", "../v1"), 2, "There is no preset '../v1'")
    refused(invoke("enqueue", "nada.yaml"), 2, "There is no config file nada.yaml")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["x" * 300], "There is no preset 'xxx"),
        (["x" * 300 + ".yaml"], "There is no config file xxx"),
        (["\u202e..\udcff"], "There is no preset"),
        (["tiny", "--name", "a\udcffb"], "cannot be the name of a job"),
        (["tiny", "--name", "a\x1b[31m\nb"], "cannot be the name of a job"),
        (["tiny", "--name", "latest"], "'latest' cannot be the name of a job"),
        (["tiny", "--name", "v2"], "'v2' cannot be the name of a job: it means something else"),
        (["tiny", "--name", "20261127-223000-v2-abcd"], "cannot be the name of a job"),
        (["tiny", "--name", "Latest"], "'Latest' cannot be the name of a job"),
        (["tiny", "--name", "V2"], "'V2' cannot be the name of a job"),
        (["tiny", "--name", "20261127-223000"], "cannot be the name of a job"),
        (["tiny", "--name", "n" * 300], "at most 200 characters"),
        (["tiny", "--priority", str(10**30)], "not in the range"),
        (["tiny", "--after", "../.."], "There is no job '../..'"),
        (["tiny", "--at", "25:00"], "'25:00' is not a time"),
        (["tiny", "--at", ""], "'' is not a time"),
        (["tiny", "--in", ""], "'' is not a length of time"),
        (["tiny", "--after", ""], "There is no job ''"),
        (["tiny", "--in", "9" * 30 + "d"], "is not a length of time"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_odd_names_numbers_and_times(
    invoke: Run, tiny: FarenseClient, arguments: list[str], part: str
) -> None:
    refused(invoke("enqueue", *arguments), 2, part)
    assert tiny.jobs() == []
    assert list(tiny.workspace.runs.iterdir()) == []


def test_names_that_people_use(invoke: Run, tiny: FarenseClient) -> None:
    for name in ("à noite, 2.ª vez", "Ελλάδα 🦁", "n" * 200, "../x"):
        job = json.loads(invoke("enqueue", "tiny", "--name", name, "--json").out)
        assert tiny.job(job["id"]).name == name


def test_an_empty_window(invoke: Run, workspace: Workspace) -> None:
    refused(invoke("daemon", "--window", ""), 2, "'' is not a part of the day")
    refused(invoke("daemon", "install", "--print", "--window", ""), 2, "'' is not a part")


def test_broken_yaml(invoke: Run, tiny: FarenseClient, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("lora: [1, 2\nmodel: x")
    refused(invoke("enqueue", str(path)), 2, str(path), "not valid YAML", "line 2")


def test_broken_jsonl_names_the_line(invoke: Run, tiny: FarenseClient, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "broken.jsonl", questions(2))
    with path.open("a") as file:
        file.write('{"prompt": "a", "compl\n')
    for part in ("train", "valid"):
        done = invoke("enqueue", "tiny", "--set", f"data.{part}={path}")
        refused(done, 2, f"{path} has lines that cannot be used", "line 3: not valid JSON")
    assert tiny.jobs() == []


def test_missing_and_empty_data(invoke: Run, tiny: FarenseClient, tmp_path: Path) -> None:
    missing, empty = tmp_path / "nada.jsonl", tmp_path / "empty.jsonl"
    empty.touch()
    refused(invoke("enqueue", "tiny", "--set", f"data.train={missing}"), 2, str(missing))
    refused(invoke("enqueue", "tiny", "--set", f"data.train={empty}"), 2, "holds no examples")


def test_a_missing_model(invoke: Run, tiny: FarenseClient) -> None:
    done = invoke("enqueue", "tiny", "--set", "model=models/nada")
    refused(done, 2, "There is no model folder", "models/nada", "farense model pull")
    assert tiny.jobs() == []
    assert not list(tiny.workspace.runs.glob("2*"))


def test_a_model_folder_without_weights(invoke: Run, tiny: FarenseClient) -> None:
    bare = tiny.workspace.models / "bare"
    shutil.copytree(tiny.workspace.models / "tiny", bare)
    (bare / "model.safetensors").unlink()
    done = invoke("enqueue", "tiny", "--set", "model=models/bare")
    refused(done, 2, str(bare), "has no weights", "safetensors")


def test_a_model_outside_the_workspace(invoke: Run, tiny: FarenseClient) -> None:
    for model, words in (("/etc", "no config.json"), ("../elsewhere", "out of the work")):
        refused(invoke("enqueue", "tiny", "--set", f"model={model}"), 2, model, words)


@pytest.mark.parametrize(
    "command",
    [
        ["cancel", "latest"],
        ["daemon"],
        ["quickstart"],
        ["model", "pull", "smollm2-135m"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_workspace_that_cannot_be_written(
    farense: Run, tmp_path: Path, command: list[str]
) -> None:
    # Below a regular file nobody can write, not even root.
    file = tmp_path / "file"
    file.touch()
    refused(farense(*command, home=file / "workspace"), 1, f"{file}/workspace", "could not be")


def test_runs_that_cannot_be_written(
    invoke: Run, tiny: FarenseClient, workspace: Workspace
) -> None:
    shutil.rmtree(workspace.runs)
    workspace.runs.touch()
    refused(invoke("enqueue", "tiny"), 1, str(workspace.runs), "could not be written")


def test_a_config_that_does_not_fit_the_model(invoke: Run, tiny: FarenseClient) -> None:
    done = invoke("enqueue", "tiny", "--set", "lora.num_layers=9")
    refused(done, 2, "lora.num_layers is 9", "has 4 blocks")
    done = invoke("enqueue", "tiny", "--set", "lora.keys=[q_proj, w_proj]")
    refused(done, 2, "no layer w_proj", "q_proj")
    assert tiny.jobs() == []


@pytest.mark.parametrize(
    "command", [["status"], ["daemon", "status"], ["config", "show", "v2"], ["model", "list"]]
)
def test_looking_needs_no_permission_to_write(
    invoke: Run, tmp_path: Path, command: list[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    done = invoke(*command, home=tmp_path, FARENSE_HOME=str(file / "workspace"))
    assert done.code == 0
    assert not done.err.startswith("Error")


def test_a_second_daemon(farense: Run, workspace: Workspace, daemons: Daemons) -> None:
    first = daemons.start()
    refused(farense("daemon"), 1, str(first.pid), "farense daemon stop")


@pytest.mark.parametrize("command", [["enqueue", "tiny"], ["cancel", "x"], ["daemon"]])
def test_a_redis_url_with_nothing_behind_it(
    farense: Run, preset: object, command: list[str]
) -> None:
    started = time.monotonic()
    done = farense(*command, FARENSE_REDIS_URL=NOTHING_THERE)
    refused(done, 3, "redis://127.0.0.1:1/0", "does not answer", "FARENSE_REDIS_URL")
    assert "geheim" not in done.err
    assert time.monotonic() - started < 5


def test_reading_goes_on_where_redis_does_not_answer(invoke: Run, tiny: FarenseClient) -> None:
    job_id = json.loads(invoke("enqueue", "tiny", "--json").out)["id"]
    for command in (["status"], ["status", job_id], ["logs", job_id], ["status", "--json"]):
        done = invoke(*command, FARENSE_REDIS_URL=NOTHING_THERE)
        assert done.code == 0
        assert "does not answer" in done.err
        assert "geheim" not in done.err


def test_options_of_a_redis_url(invoke: Run, tiny: FarenseClient) -> None:
    for option in ("foo=geheim", "socket_timeout=geheim", "db=geheim"):
        done = invoke(
            "daemon", "status", FARENSE_REDIS_URL=f"redis://:geheim@127.0.0.1:1/?{option}"
        )
        refused(done, 2, "FARENSE_REDIS_URL (redis://127.0.0.1:1/)", "option")
        assert "geheim" not in done.err


def test_what_is_no_redis_url(invoke: Run, tiny: FarenseClient) -> None:
    for command in (["status"], ["enqueue", "tiny"], ["daemon", "status"]):
        done = invoke(*command, FARENSE_REDIS_URL="http://user:geheim@x")
        refused(done, 2, "FARENSE_REDIS_URL is not the URL", "redis://")
        assert "geheim" not in done.err


@pytest.mark.parametrize(
    "name",
    ["pasta com espaços", "época-às-não-ção", "x" * 150, "a'b\"c $HOME {d} %d", "[a] *?"],
    ids=["spaces", "accents", "150 characters", "quotes", "patterns"],
)
def test_any_folder_name_will_do(
    farense: Run, invoke: Run, tmp_path: Path, tiny_model: Path, name: str
) -> None:
    from daemon.queue.embedded_server import EmbeddedServer

    workspace = Workspace(tmp_path / name)
    shutil.copytree(tiny_model, workspace.models / "tiny")
    write_rows(workspace.data / "train.jsonl", questions(4))
    workspace.configs.mkdir()
    (workspace.configs / "tiny.yaml").write_text(
        "{model: models/tiny, data: {train: data/train.jsonl}, batch_size: 2, num_epochs: 1,"
        " lora: {rank: 2, scale: 1.0, dropout: 0.0, num_layers: 1, keys: [q_proj]},"
        " learning_rate: 1e-3, max_seq_length: 64}"
    )
    daemons = Daemons(workspace)
    try:
        job_id = json.loads(invoke("enqueue", "tiny", "--json", home=workspace.root).out)["id"]
        daemons.start()
        assert farense("watch", job_id, home=workspace.root).code == 0
        (record,) = json.loads(invoke("status", "--json", home=workspace.root).out)
        assert (record["id"], record["state"]) == (job_id, "completed")
        assert invoke("daemon", "stop", home=workspace.root).code == 0
        assert not EmbeddedServer(workspace).shut_down()
    finally:
        daemons.close()
