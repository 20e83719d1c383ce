"""A job on a disk of its own that fills up once the job has a checkpoint.

``unshare --user --map-root-user --mount python -P full_disk.py RUN_DIRECTORY``: the disk is a tmpfs
over the folder of the runs, which only this process and its child see; what is left on it in the
end is copied back. The exit code is the job's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.helpers.runs import CHILD
from tests.helpers.waiting import wait_until

SIZE = "64m"
ROOM = 1 << 20


def fill(path: Path) -> None:
    """Write to ``path`` until the disk is full to the last page."""
    with path.open("wb", buffering=0) as file:
        # Most of it at once: writing takes longer than what the disk is to fill up in. Not all:
        # where others write meanwhile that fails, and all is free again.
        most = shutil.disk_usage(path.parent).free - ROOM
        if most > 0:
            os.posix_fallocate(file.fileno(), 0, most)
            file.seek(most)
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return


def main() -> int:
    run = Path(sys.argv[1])
    runs = run.parent
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "runs"
        shutil.copytree(runs, kept)
        mount = shutil.which("mount") or "mount"
        options = ["-t", "tmpfs", "-o", f"size={SIZE}", "farense-test", str(runs)]
        subprocess.run([mount, *options], check=True)
        shutil.copytree(kept, runs, dirs_exist_ok=True)
        child = subprocess.Popen([*CHILD, str(run)])
        wait_until(lambda: list(run.glob("checkpoint_*")) or child.poll(), "a checkpoint")
        fill(runs / "filler")
        code = child.wait()
        (runs / "filler").unlink()
        left = Path(folder) / "left"
        shutil.copytree(runs, left)
        subprocess.run([shutil.which("umount") or "umount", "-l", str(runs)], check=True)
        shutil.copytree(left, runs, dirs_exist_ok=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
