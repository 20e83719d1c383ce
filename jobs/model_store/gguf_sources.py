"""GGUFs that a person names: on disk, or in a repository of the hub.

Importing this module loads neither MLX nor the hub's library: ``farense model list`` does.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from jobs.errors import ModelError

SUFFIX = ".gguf"
ON_HUB = re.compile(
    r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)/(?P<file>[\w][\w./-]*\.gguf)", re.ASCII
)
# One of several files of a model that was too large for one.
PART = re.compile(r"-\d{5}-of-(?P<count>\d{5})\.gguf$")
OTHERS = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)


def is_gguf_on_disk(name: str) -> bool:
    """Tell whether a name is the path of a GGUF that is there."""
    return name.endswith(SUFFIX) and Path(name).expanduser().is_file()


def gguf_on_hub(name: str) -> tuple[str, str] | None:
    """Return repository and file, where a name has the form ``organization/name/file.gguf``."""
    found = ON_HUB.fullmatch(name)
    if found is None or ".." in name:
        return None
    return found["repository"], found["file"]


def usual_name(name: str) -> str:
    """Return the name of the folder that a GGUF is made into, where nobody gives another."""
    return OTHERS.sub("_", Path(name).name.removesuffix(SUFFIX)).lstrip("._-")[:100]


def convert_from_disk(source: Path, folder: Path, report: Callable[[str], None]) -> None:
    """Make a GGUF into a model folder; what is in ``folder`` is removed first.

    Raises:
        ModelError: it is not a GGUF, of a kind that MLX cannot read, or a part of one.
        WorkspaceError: the folder cannot be written.
    """
    from jobs.model_store.gguf import convert_gguf  # noqa: PLC0415 - loads MLX

    if part := PART.search(source.name):
        raise ModelError(
            f"{source.name} is one of {int(part['count'])} parts of a model.",
            "Join them: llama-gguf-split --merge, of llama.cpp.",
        )
    report(f"Making an MLX model folder of {source.name} ...")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    convert_gguf(source, folder)


def convert_from_hub(
    repository: str, file: str, folder: Path, report: Callable[[str], None]
) -> None:
    """Download a GGUF and make it into a model folder.

    What was downloaded stays beside the folder until it is converted: a broken download goes on.

    Raises:
        NetworkError: the hub cannot be reached, or the download broke off.
        ModelError, WorkspaceError: as :func:`convert_from_disk`.
    """
    from jobs.model_store.hub import fetch_file  # noqa: PLC0415 - loads huggingface_hub

    beside = folder.with_name(f"{folder.name}.gguf")
    try:
        convert_from_disk(fetch_file(repository, file, beside, report), folder, report)
    except ModelError:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    shutil.rmtree(beside, ignore_errors=True)
