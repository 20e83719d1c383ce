"""What the commands that people type all day load; `benchmarks/startup.py` measures the time."""

from __future__ import annotations

import subprocess
import sys

from daemon.client import FarenseClient
from jobs.paths import Workspace
from tests.cli.conftest import environment

HEAVY = {
    *("huey", "pydantic", "structlog", "rich", "yaml", "numpy", "mlx", "mlx_lm", "transformers"),
    *("matplotlib", "optuna", "huggingface_hub", "apprise", "starlette", "uvicorn", "mcp"),
}


def loaded_by(workspace: Workspace, *arguments: str) -> set[str]:
    """Return the packages that a command loads."""
    program = (
        "import sys\n"
        "from cli.main import farense\n"
        f"farense.main({list(arguments)!r}, standalone_mode=False)\n"
        "sys.stderr.write(' '.join({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(workspace.root),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.splitlines()[-1].split())


def test_help_loads_click_alone(workspace: Workspace) -> None:
    loaded = loaded_by(workspace, "--help")
    assert "click" in loaded
    assert not loaded & (HEAVY | {"redis", "orjson", "daemon"})


def test_status_loads_redis_and_nothing_heavy(workspace: Workspace, client: FarenseClient) -> None:
    for arguments in (["status"], ["status", "--json"], ["status", "--all"]):
        loaded = loaded_by(workspace, *arguments)
        assert "redis" in loaded
        assert not loaded & HEAVY
