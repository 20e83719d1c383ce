"""What comes from the queue, or stands in a workspace, cannot lead out of it or run code."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.client import FarenseClient
from daemon.queue.broker import Broker
from daemon.settings import Settings
from daemon.store import keys
from daemon.store.records import run_dir_of, to_hash
from jobs.config.config import Preset, load_preset
from jobs.errors import FarenseError, InvalidInput
from jobs.paths import Workspace
from jobs.spec import read_spec
from jobs.state import State
from jobs.storage.files import read_json, write_json
from tests.daemon.worker.test_real_child import REAL
from tests.helpers.jobs import ended
from tests.helpers.runs import make_run
from tests.helpers.servers import Daemons

ELSEWHERE = [
    "..", "../..", "../../outside", "/", "/etc", "outside", "loop", "a\0b", "x" * 300, "é" * 300,
    "\ud800", "\u202e..", "．．/outside", "..\\outside", "%2e%2e/outside", "~", "org/model",
]  # fmt: skip


@pytest.fixture
def others_may_read() -> Iterator[None]:
    """The usual umask."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def everything(folder: Path) -> set[Path]:
    """Return all that lies below a folder, links not followed."""
    return set(folder.rglob("*"))


def test_ids_from_the_queue_lead_nowhere(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons, tmp_path: Path
) -> None:
    good = client.enqueue(preset)
    broker = Broker(workspace, Settings())
    odd = [name for name in ELSEWHERE if name != "\ud800"]  # which no JSON holds
    for name in (*odd, *(f"{good.id}/../{name}" for name in odd)):
        record = replace(good, id=name, run_dir=run_dir_of(name))
        for key, value in to_hash(record.as_dict()).items():
            if value:
                broker.redis.hset(keys.job(name), key, value)
        broker.redis.zadd(keys.JOBS, {name: 9e9})
        broker.redis.sadd(keys.UNFINISHED, name)
        broker.queue().push(name, priority=9)
    (tmp_path / "outside").mkdir()
    before = everything(tmp_path) - everything(workspace.root)
    daemons.start()
    assert ended(client, good.id).state is State.COMPLETED
    assert everything(tmp_path) - everything(workspace.root) == before
    assert {path.name for path in workspace.runs.iterdir()} == {good.id, "latest"}
    for name in odd:
        with pytest.raises(InvalidInput):
            workspace.run(name)
        with pytest.raises(InvalidInput):
            workspace.job_stderr(name)
    assert [job.id for job in client.jobs(all=True)] == [good.id]
    assert b"Traceback" not in workspace.daemon_log.read_bytes()
    broker.close()


@pytest.mark.parametrize("place", ["model", "train", "valid"])
def test_paths_in_an_order_stay_in_the_workspace(
    workspace: Workspace, tiny_model: Path, tmp_path: Path, place: str
) -> None:
    from jobs.training.session import train  # loads MLX

    run = make_run(workspace, tiny_model)
    (tmp_path / "outside").mkdir()
    for folder in (workspace.root, workspace.models, workspace.data):
        (folder / "outside").symlink_to(tmp_path / "outside")
        (folder / "loop").symlink_to("loop")
    values = read_json(run.job)
    target = values["config"] if place == "model" else values[place]
    key = "model" if place == "model" else "path"
    for name in ELSEWHERE:
        for path in (name, f"models/{name}", f"data/imported/{name}"):
            target[key] = path
            run.job.write_text(json.dumps(values))  # which writes halves of surrogate pairs, too
            with pytest.raises(FarenseError):
                train(workspace, read_spec(run), lambda event: None, lambda: None)
    wrongs: tuple[object, ...] = (1, None, ["models/tiny"], {})
    for wrong in wrongs:
        target[key] = wrong
        write_json(run.job, values)
        with pytest.raises(FarenseError):
            train(workspace, read_spec(run), lambda event: None, lambda: None)


@pytest.mark.usefixtures("others_may_read")
def test_what_a_job_leaves_is_for_the_user_alone(
    workspace: Workspace, preset: Preset, client: FarenseClient, daemons: Daemons
) -> None:
    mine = {
        path for path in everything(workspace.root) if not path.is_relative_to(workspace.private)
    }
    daemons.start()
    job = ended(client, client.enqueue(preset).id)
    assert stat.S_IMODE((workspace.private / "valkey.sock").stat().st_mode) == 0o700
    for folder in (
        *(workspace.private, workspace.private / "tmp", workspace.imported),
        *(workspace.run(job.id).path, workspace.job_log(job.id).parent),
    ):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    made = everything(workspace.root) - mine - {workspace.runs / "latest"}
    assert workspace.daemon_log in made
    assert [path for path in made if open_to_others(path, workspace.root)] == []


def open_to_others(path: Path, root: Path) -> bool:
    """Tell whether another user could read a file, or list a folder, below ``root``."""
    folders = (folder for folder in path.parents if folder.is_relative_to(root))
    reachable = all(folder.stat().st_mode & 0o011 for folder in folders)
    return reachable and bool(path.lstat().st_mode & 0o044)


TRACE = "import pathlib; pathlib.Path({trace!r}).touch()\n"


def test_a_real_child_runs_no_code_of_the_workspace_and_reaches_no_network(
    workspace: Workspace,
    preset: Preset,
    client: FarenseClient,
    daemons: Daemons,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trace, model = tmp_path / "trace", workspace.models / "tiny"
    for module in ("jobs", "mlx", "mlx_lm", "numpy", "sitecustomize", "modeling"):
        for folder in (workspace.root, model):
            (folder / f"{module}.py").write_text(TRACE.format(trace=str(trace)))
    with socket.create_server(("127.0.0.1", 0)) as network:
        address = f"http://127.0.0.1:{network.getsockname()[1]}"
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_ENDPOINT"):
            monkeypatch.setenv(name, address)
            monkeypatch.setenv(name.lower(), address)
        monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")  # which takes longer than two steps
        short = load_preset(preset.name, (workspace.configs,), ("max_steps=2",))
        good, bad = client.enqueue(short), client.enqueue(short)
        client.pause(bad.id)
        daemons.start(child=REAL)
        assert ended(client, good.id).state is State.COMPLETED
        # As if someone had changed the model since the job was accepted.
        config = model / "config.json"
        write_json(config, read_json(config) | {"model_file": "modeling.py"})
        client.resume(bad.id)
        failed = ended(client, bad.id)
        network.settimeout(0)
        with pytest.raises(BlockingIOError):
            network.accept()
    assert failed.state is State.FAILED
    assert "asks for Python code of its own" in (failed.reason or "")
    assert not trace.exists()
