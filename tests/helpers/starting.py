"""Jobs that start from an adapter, as enqueue places them, for tests without a queue."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from daemon.runs.frozen_data import freeze_content
from jobs.model.foreign_adapter import read_foreign
from jobs.paths import RunDirectory, Workspace
from jobs.spec import InitialAdapter, read_spec
from tests.helpers.specs import write_spec


def start_from(workspace: Workspace, run: RunDirectory, folder: Path) -> InitialAdapter:
    """Let a queued job start from the adapter in a folder; return what its spec says of that."""
    adapter = read_foreign(folder)
    path, digest = freeze_content(adapter.content(), "safetensors", workspace)
    frozen, origin = path.relative_to(workspace.root).as_posix(), adapter.origin
    start = InitialAdapter(frozen, digest, origin.source, origin.form, origin.sha256, origin.job)
    spec = read_spec(run)
    config = {**spec.config, "init_from": frozen}
    write_spec(run, replace(spec, init_from=start, config=config))
    return start
