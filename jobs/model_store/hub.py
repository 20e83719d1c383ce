"""Models from the Hugging Face hub: safetensors and configuration, never code.

What is said of the hub's errors is the same for its data sets (:mod:`jobs.importing.hub_data`).

Importing this module loads huggingface_hub; only a pull that goes there does.
"""

from __future__ import annotations

import glob
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub import HfApi, ModelInfo, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    XetDownloadError,
)
from huggingface_hub.utils.tqdm import disable_progress_bars

from jobs.errors import InvalidInput, ModelError, NetworkError
from jobs.model_store.architectures import check_trainable
from jobs.model_store.folder import WEIGHTS
from jobs.storage.formatting import size_text

# Of the top folder of a repository: what mlx-lm loads, and no program and no pickle.
WANTED = (WEIGHTS, "*.json", "*.jinja", "tokenizer.model")
CONFIGS = ("config.json", "tokenizer_config.json")
ANSWER_SECONDS = 10.0


def fetch_repository(repository: str, folder: Path, report: Callable[[str], None]) -> None:
    """Download the model ``repository`` into ``folder``.

    The configuration comes first and is checked before the weights are asked for. What an earlier,
    interrupted call left in ``folder`` is used again.

    Args:
        repository: ``organization/name``.
        folder: made where it is missing; complete only when this function returns.
        report: told each stage, in a line for people.

    Raises:
        NetworkError: the hub cannot be reached, or the download broke off.
        ModelError: there is no such model, it is not open to this user, it has no safetensors
            weights, it asks for code of its own, or mlx-lm cannot train its architecture.
    """
    quiet()
    with explained(repository):
        report(f"Asking the Hugging Face hub for {repository} ...")
        info = HfApi().model_info(repository, files_metadata=True, timeout=ANSWER_SECONDS)
        sizes = _wanted(info)
        if not any(fnmatch(name, WEIGHTS) for name in sizes):
            raise ModelError(
                f"{repository} has no weights that farense accepts: expected {WEIGHTS}.",
                _other_weights(info),
            )
        _download(info, [name for name in CONFIGS if name in sizes], folder)
        # Before gigabytes are downloaded: whether it can be used at all.
        check_trainable(folder, ())
        report(f"Downloading {len(sizes)} files, {size_text(sum(sizes.values()))} ...")
        _download(info, list(sizes), folder)
    _finish(folder, sizes.keys())


def fetch_file(repository: str, file: str, folder: Path, report: Callable[[str], None]) -> Path:
    """Download one file of a repository into ``folder``; return where it is.

    Raises:
        NetworkError, ModelError: as :func:`fetch_repository`; or there is no such file.
    """
    quiet()
    with explained(repository):
        report(f"Asking the Hugging Face hub for {repository} ...")
        info = HfApi().model_info(repository, files_metadata=True, timeout=ANSWER_SECONDS)
        sizes = {it.rfilename: it.size or 0 for it in info.siblings or []}
        if file not in sizes:
            raise ModelError(f"{repository} has no file {file}.", _other_weights(info))
        report(f"Downloading {size_text(sizes[file])} ...")
        _download(info, [file], folder)
    return folder / file


def _other_weights(info: ModelInfo) -> str:
    """Return what to take where a repository has not what was asked for."""
    ggufs = [it.rfilename for it in info.siblings or [] if it.rfilename.endswith(".gguf")]
    if ggufs:
        others = f" (of {len(ggufs)}: {', '.join(ggufs)[:300]})" if len(ggufs) > 1 else ""
        return f"It has GGUFs: farense model pull {info.id}/{ggufs[0]}{others}"
    return "Models converted for MLX are at https://huggingface.co/mlx-community"


def _wanted(info: ModelInfo) -> dict[str, int]:
    """Return the files to download with their sizes in bytes."""
    return {
        file.rfilename: file.size or 0
        for file in info.siblings or []
        if "/" not in file.rfilename and any(fnmatch(file.rfilename, pattern) for pattern in WANTED)
    }


def _download(info: ModelInfo, names: list[str], folder: Path) -> None:
    snapshot_download(
        info.id,
        revision=info.sha,  # a commit: both downloads are of one version
        local_dir=folder,
        allow_patterns=[glob.escape(name) for name in names],
        etag_timeout=ANSWER_SECONDS,
    )


def _finish(folder: Path, names: Set[str]) -> None:
    """Remove all but the downloaded files, and have their content on disk."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in names:  # left by an interrupted pull of another model
            path.unlink()
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())


def quiet() -> None:
    """Let the hub's library say nothing of its own, but for bars where somebody looks."""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        disable_progress_bars()


@contextmanager
def explained(
    repository: str,
    what: str = "model",
    refused: type[InvalidInput] = ModelError,
    place: str = "",
) -> Iterator[None]:
    """Turn the hub's errors into ours, one line each.

    Args:
        what: the repository holds.
        refused: is raised where the hub has no such thing for this user.
        place: of its page, before its name.
    """
    try:
        yield
    except HFValidationError as error:
        raise refused(f"{repository!r} is not the name of a {what}: {_line(error)}") from error
    except GatedRepoError as error:
        raise refused(
            f"{repository} is open only to those who accepted its terms.",
            f"Accept them at https://huggingface.co/{place}{repository}, make a token there, and "
            "set HF_TOKEN to it.",
        ) from error
    except RepositoryNotFoundError as error:
        raise refused(
            f"The Hugging Face hub has no {what} {repository}, or it is private.",
            f"Check the name; for a private {what} set HF_TOKEN.",
        ) from error
    except OfflineModeIsEnabled as error:
        raise NetworkError(
            f"{repository} cannot be downloaded: HF_HUB_OFFLINE is set.", "Unset it and try again."
        ) from error
    except (
        HTTPError,
        EntryNotFoundError,
        FileMetadataError,
        XetDownloadError,
        ConnectionError,
        TimeoutError,
    ) as error:
        raise NetworkError(
            f"{repository} could not be downloaded from the Hugging Face hub: {_line(error)}",
            "Check the network connection and try again.",
        ) from error


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
