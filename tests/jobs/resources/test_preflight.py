"""Whether memory and disk will do, said before training."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jobs.config.config import config_from
from jobs.errors import ExitCode, WorkspaceError
from jobs.paths import Workspace
from jobs.resources.preflight import (
    MemoryLimits,
    check_disk,
    disk_needed,
    memory_limits,
    memory_warning,
)
from jobs.spec import read_spec
from tests.helpers.runs import make_run, run_child

GB = 10**9
KIB = 1024


def machine(root: Path, files: dict[str, str]) -> Path:
    """Write files as the kernel shows them below ``root``."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


FREE = {
    "proc/meminfo": "MemTotal:       16000000 kB\nMemAvailable:    8000000 kB\n",
    "proc/self/status": "Name:\tpython\nVmPeak:\t  900000 kB\nVmRSS:\t  500000 kB\n",
}


def test_a_step_that_fits_is_no_news() -> None:
    assert memory_warning(8 * GB, 10 * GB) is None
    assert memory_warning(8 * GB, None) is None


def test_a_tight_step_is_a_warning_with_figures() -> None:
    """What others hold now may be free in an hour: more than is available is no refusal."""
    warning = memory_warning(9 * GB, 10 * GB)
    assert memory_warning(11 * GB, 10 * GB) is not None
    assert warning is not None
    assert "9.00 GB" in warning
    assert "10.00 GB" in warning


def test_what_is_available_counts_what_the_process_holds(tmp_path: Path) -> None:
    limits = memory_limits(root=machine(tmp_path, FREE))
    assert (limits.whole, limits.available) == (16_000_000 * KIB, 8_500_000 * KIB)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n"}, None),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "2000000000\n"}, 2 * GB),
        # In a container the path is the host's; the limit stands at the top.
        ({"proc/self/cgroup": "0::/host\n", "sys/fs/cgroup/memory.max": "3000000000\n"}, 3 * GB),
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/x\n0::/\n",
                "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "1000000000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            GB,
        ),
    ],
)
def test_a_control_group_limits_it(
    tmp_path: Path, groups: dict[str, str], expected: int | None
) -> None:
    root = machine(tmp_path, {**FREE, **groups})
    limits = memory_limits(root=root)
    assert limits.available == (expected or 8_500_000 * KIB)
    assert limits.whole == (expected or 16_000_000 * KIB)


def test_a_mac_says_by_its_device(tmp_path: Path) -> None:
    assert memory_limits(22 * GB, 32 * GB, root=tmp_path).whole == 22 * GB
    assert memory_limits(root=tmp_path) == MemoryLimits(None, None)


def test_the_estimate_covers_what_a_real_run_leaves(alone: Workspace, tiny_model: Path) -> None:
    run = make_run(alone, tiny_model, save_steps=2, log_steps=1, num_epochs=4)
    assert run_child(run).returncode == ExitCode.OK
    config = config_from(read_spec(run).config, "test")
    checkpoint = next(run.path.glob("checkpoint_*"))
    adapter, state = (
        (checkpoint / f"{name}.safetensors").stat().st_size for name in ("adapters", "state")
    )
    needed = disk_needed(config, config.schedule(11), adapter_bytes=adapter, state_bytes=state)
    files = [path for path in run.path.rglob("*") if path.is_file()]
    left = sum(path.stat().st_size for path in [*files, alone.job_log(run.job_id)])
    assert left < needed < left + 20_000_000


def test_the_disk_is_compared_with_what_is_needed(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert check_disk(tmp_path, free // 4) is None
    assert "Disk space is tight" in (check_disk(tmp_path, int(free * 0.9)) or "")
    with pytest.raises(WorkspaceError, match="Not enough disk space") as caught:
        check_disk(tmp_path, free * 2)
    assert "keep_checkpoints" in (caught.value.hint or "")


def test_what_a_resumed_run_holds_already_is_not_needed_again(tmp_path: Path) -> None:
    held = tmp_path / "checkpoint" / "state.safetensors"
    held.parent.mkdir()
    free = shutil.disk_usage(tmp_path).free
    with held.open("wb") as file:
        file.truncate(3 * free)  # a hole, which takes no space
    assert check_disk(tmp_path, int(1.5 * free)) is None
