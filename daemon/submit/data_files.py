"""The data files that a config names: where they are, and how many examples they hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.errors import DataError
from jobs.paths import Workspace
from jobs.storage.files import sha256_of

if TYPE_CHECKING:
    from jobs.config.config import TrainConfig
    from jobs.data.prompts import PromptFormat


@dataclass(frozen=True)
class Count:
    """The examples in a data file, and those of them that ask something."""

    examples: int
    questions: int


def sources(config: TrainConfig, workspace: Workspace) -> tuple[Path, Path | None]:
    """Return the data files of a config, for training and for validation.

    Raises:
        DataError: one is not there.
    """
    train, valid = config.data.train, config.data.valid
    paths = workspace.root / train, workspace.root / valid if valid else None
    for path in filter(None, paths):
        if not _is_file(path):
            raise DataError(
                f"There is no data file {path}.",
                f"Paths in a config are relative to the workspace, {workspace.root}, or absolute.",
            )
    return paths


def count(path: Path, prompt_format: PromptFormat | None = None) -> Count:
    """Return how many examples a data file holds, and how many of them ask something.

    Args:
        prompt_format: in which each of them is to be written; None where that is all the same.

    Raises:
        DataError: it has lines that cannot be used.
    """
    from jobs.data.examples import Dialogue, read_examples  # noqa: PLC0415 - `status` needs neither
    from jobs.data.prompts import check_prompt_format  # noqa: PLC0415

    rows = read_examples(path)
    if prompt_format is not None:
        check_prompt_format(rows, prompt_format)
    return Count(len(rows), sum(isinstance(row, Dialogue) for row in rows))


def _is_file(path: Path) -> bool:
    """Tell whether there is a regular file: from /dev/zero one would read for ever."""
    try:
        return path.is_file()
    except OSError:
        return False


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
