"""A workspace with a queue: model, data, preset, client, daemons."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.client import FarenseClient
from daemon.queue.embedded_server import EmbeddedServer
from daemon.submit.checks import SubmitChecks, Wanted
from jobs.config.config import Preset, load_preset
from jobs.paths import Workspace
from tests.helpers.runs import questions, write_rows
from tests.helpers.servers import Daemons

TINY = """\
model: models/tiny
data: {train: data/train.jsonl, valid: data/valid.jsonl}
lora: {rank: 4, scale: 16.0, dropout: 0.0, num_layers: 2, keys: [q_proj]}
batch_size: 2
learning_rate: 1e-3
num_epochs: 2
max_seq_length: 96
"""


def fill(workspace: Workspace, tiny_model: Path) -> Preset:
    """Put a model, data and a preset for them into a workspace, and return the preset."""
    shutil.copytree(tiny_model, workspace.models / "tiny")
    write_rows(workspace.data / "train.jsonl", questions(11))
    write_rows(workspace.data / "valid.jsonl", questions(4, first=50))
    workspace.configs.mkdir(exist_ok=True)
    (workspace.configs / "tiny.yaml").write_text(TINY)
    preset = load_preset("tiny", (workspace.configs,))
    _put_rehearsal(workspace, preset)
    return preset


# Of this process: the first workspace rehearses, which takes seconds, and the others begin with
# what it has kept, as they would after a first job.
_rehearsed: list[Path] = []


def _put_rehearsal(workspace: Workspace, preset: Preset) -> None:
    if not _rehearsed:
        SubmitChecks(workspace).check([Wanted(preset.config)])
        folder = Path(tempfile.mkdtemp())
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        for kept in (workspace.token_cache, workspace.rehearsals):
            shutil.copytree(kept, folder / kept.name)
        _rehearsed.append(folder)
    workspace.private.mkdir(mode=0o700, exist_ok=True)
    shutil.copytree(_rehearsed[0], workspace.private, dirs_exist_ok=True)


@pytest.fixture
def preset(workspace: Workspace, tiny_model: Path) -> Preset:
    """A preset whose model and data are in the workspace."""
    return fill(workspace, tiny_model)


@pytest.fixture
def server(workspace: Workspace) -> Iterator[EmbeddedServer]:
    """The workspace's own server, running."""
    server = EmbeddedServer(workspace)
    server.ensure()
    yield server
    server.shut_down()


@pytest.fixture
def daemons(workspace: Workspace) -> Iterator[Daemons]:
    """Starts daemons, and ends them."""
    daemons = Daemons(workspace)
    yield daemons
    daemons.close()


@pytest.fixture
def client(workspace: Workspace, daemons: Daemons) -> Iterator[FarenseClient]:
    """A client of the workspace's own server."""
    with FarenseClient.connect(workspace) as client:
        yield client
