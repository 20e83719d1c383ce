"""MLX compiles kernels with g++ while a job trains on a CPU: what becomes of one that is cut short.

Elsewhere in the tests MLX_DISABLE_COMPILE saves the time; here it compiles for real.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from daemon.client import FarenseClient
from jobs.backend.backend import backend
from jobs.config.config import Preset
from jobs.paths import Workspace
from jobs.state import State, read_state
from tests.helpers.jobs import ended
from tests.helpers.processes import PROC, group_of
from tests.helpers.servers import Daemons
from tests.helpers.waiting import TIMEOUT, wait_until

REAL = (sys.executable, "-P", "-m", "jobs")

pytestmark = pytest.mark.skipif(
    not backend().is_cpu or not PROC.exists() or shutil.which("g++") is None,
    reason="MLX compiles no kernels with g++ here",
)


def is_compiling(client: FarenseClient, job_id: str, workspace: Workspace) -> bool:
    """Tell whether a compiler or linker works on a kernel for the job's child."""
    pid = client.job(job_id).pid
    begun = any(workspace.temporary.rglob("*.cpp"))
    return begun and pid is not None and not {"cc1plus", "ld"}.isdisjoint(group_of(pid))


def libraries(workspace: Workspace) -> list[Path]:
    return sorted(workspace.temporary.rglob("*.so"))


def test_a_job_that_is_paused_while_mlx_compiles_goes_on_even_where_a_library_is_torn(
    client: FarenseClient, daemons: Daemons, preset: Preset, workspace: Workspace
) -> None:
    job = client.enqueue(preset)
    daemons.start(child=REAL)
    wait_until(lambda: is_compiling(client, job.id, workspace), "the compiler")
    client.pause(job.id)
    wait_until(
        lambda: client.job(job.id).state is not State.RUNNING, "the pause", timeout=2 * TIMEOUT
    )
    paused = client.job(job.id)
    assert paused.state is State.PAUSED, paused.reason

    # As a power cut, or kill -9 in the middle of the linking, leaves them.
    emptied, cut, *_ = libraries(workspace)
    sizes = emptied.stat().st_size, cut.stat().st_size
    emptied.write_bytes(b"")
    cut.write_bytes(cut.read_bytes()[: sizes[1] // 2])
    client.resume(job.id)

    def made_anew() -> bool:
        record = client.job(job.id)
        assert not record.finished, record.reason
        return all(path.exists() for path in (emptied, cut)) and sizes == (
            emptied.stat().st_size,
            cut.stat().st_size,
        )

    wait_until(made_anew, "the libraries")
    client.cancel(job.id, force=True)  # to compile all that a training needs takes half a minute
    assert ended(client, job.id).reason == "cancelled by the user; its process was killed, as asked"


def test_a_job_whose_compiler_is_told_to_stop_too_goes_back_to_the_queue(
    client: FarenseClient, daemons: Daemons, preset: Preset, workspace: Workspace
) -> None:
    """A machine that goes down tells all processes; Ctrl-C in a terminal does."""
    job = client.enqueue(preset)
    daemon = daemons.start(child=REAL)
    wait_until(lambda: is_compiling(client, job.id, workspace), "the compiler")
    pid = client.job(job.id).pid
    assert pid is not None
    os.killpg(pid, signal.SIGTERM)
    daemon.send_signal(signal.SIGTERM)
    daemon.wait(2 * TIMEOUT)
    state = read_state(workspace.run(job.id))
    assert (state.state, state.lost_attempts) == (State.QUEUED, 0), state.reason
