"""The data files that a config names: where they are, and how many examples they hold."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.runs.private_folder import temporary_folder
from jobs.config.share import Share, percent
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


@dataclass(frozen=True)
class FilePart:
    """A part of a data file, in a file of its own whose lines have the same numbers.

    Attributes:
        whole: the file of which it is a part.
        share: how much of it, for people.
    """

    whole: Path
    share: str


class DataFiles:
    """The data files that configs name. A file of which a share is for validation is split once.

    Attributes:
        parts: what a file was split into; these files last as long as this object.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._split: dict[tuple[Path, str, int], tuple[Path, Path]] = {}
        self.parts: dict[Path, FilePart] = {}

    def of(self, config: TrainConfig) -> tuple[Path, Path | None]:
        """Return the files of a config, for training and for validation.

        Raises:
            DataError: one is not there, or it cannot be split.
            WorkspaceError: the parts cannot be written.
        """
        named = named_files(config, self._workspace)
        if share := percent(config.data.valid or ""):
            return self._parts_of(named[0], share, config.seed)
        return named[0], named[1] if len(named) > 1 else None

    def _parts_of(self, path: Path, share: Share, seed: int) -> tuple[Path, Path]:
        from jobs.data.valid_split import split_file  # noqa: PLC0415 - loads NumPy

        key = (path, share.text, seed)
        if key not in self._split:
            folder = Path(tempfile.mkdtemp(dir=temporary_folder(self._workspace), prefix="split-"))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            train, valid = split_file(path, share, seed, folder)
            self.parts |= {train: FilePart(path, share.rest), valid: FilePart(path, share.text)}
            self._split[key] = train, valid
        return self._split[key]


def named_files(config: TrainConfig, workspace: Workspace) -> list[Path]:
    """Return the one or two data files that a config names.

    Raises:
        DataError: one is not there.
    """
    valid = config.data.valid
    names = [config.data.train, *([valid] if valid and not percent(valid) else [])]
    paths = [workspace.root / name for name in names]
    for path in paths:
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
