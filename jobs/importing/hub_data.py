"""Data sets of the Hugging Face hub: which of their files to read. Their data, never their code.

Importing this module loads huggingface_hub; only an import that goes there does.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetInfo, HfApi, hf_hub_download
from huggingface_hub.errors import RevisionNotFoundError

from jobs.errors import DataError
from jobs.model_store.hub import ANSWER_SECONDS, explained, quiet
from jobs.storage.formatting import counted, size_text
from jobs.storage.values import printable
from jobs.suggest import did_you_mean

# By how well their columns are kept; where the same data lie in two forms, the first is read.
ENDINGS = (".parquet", ".jsonl", ".jsonl.gz", ".ndjson", ".json", ".csv", ".csv.gz", ".tsv")
# What describes a data set and is none of its data.
NO_DATA = ("dataset_infos.json", "dataset_info.json", "metadata.json", "config.json")
# The hub's own copy of a data set that is in other forms, or made by a program.
CONVERTED = "refs/convert/parquet"
CONVERTED_FILE = re.compile(r"([^/]+)/(?:partial-)?([^/]+)/\d+\.parquet")
# How people call splits in the names of files, as the `datasets` library understands them.
SPLITS = {
    "train": "train|training",
    "validation": "validation|valid|val|dev",
    "test": "test|testing|eval|evaluation",
}
WHOLE = "default"

# Parts of a data set, by name, each with its splits and their files.
Parts = dict[str, dict[str, list[str]]]


@contextmanager
def fetched(
    name: str, config: str | None, folder: Path, report: Callable[[str], None]
) -> Iterator[dict[Path, str]]:
    """Download the files of a split; they are removed at the end, unless it is an error.

    Args:
        name: ``owner/name`` or ``owner/name:split``.
        config: which part of it.
        folder: below which they are downloaded; what an earlier, interrupted call left is used.
        report: told each stage, in a line for people.

    Raises:
        NetworkError: the hub cannot be reached, or the download broke off.
        DataError: there is no such data set, part or split, or none of its files can be read.
    """
    repository, _, split = name.partition(":")
    quiet()
    with explained(repository, "data set", DataError, "datasets/"):
        report(f"Asking the Hugging Face hub for the data set {repository} ...")
        info, parts = _parts(repository)
        typed = "farense data import "
        part = _chosen(repository, "part", parts, config, f"{typed}hf:{name} --config ")
        taken = "train" if not split and "train" in parts[part] else split
        typed += f"--config {config} " if config else ""
        split = _chosen(repository, "split", parts[part], taken or None, f"{typed}hf:{repository}:")
        files = parts[part][split]
        sizes = {it.rfilename: it.size or 0 for it in info.siblings or []}
        others = f", of {', '.join(parts[part])}" if len(parts[part]) > 1 else ""
        size = size_text(sum(sizes[file] for file in files))
        count = counted(len(files), "file")
        report(printable(f"Downloading the split {split}{others}: {count}, {size} ..."))
        target = folder / "hub" / f"{repository.replace('/', '--')}-{(info.sha or '')[:12]}"
        found = {
            Path(_download(info, file, target)): f"hf:{repository}:{split} ({file})"
            for file in files
        }
    yield found
    shutil.rmtree(target, ignore_errors=True)


def _download(info: DatasetInfo, file: str, target: Path) -> str:
    return hf_hub_download(
        info.id,
        file,
        repo_type="dataset",
        revision=info.sha,  # a commit: all files are of one version
        local_dir=target,
        etag_timeout=ANSWER_SECONDS,
    )


def _parts(repository: str) -> tuple[DatasetInfo, Parts]:
    """Return a data set's description, and its files that can be read by parts and splits."""
    api = HfApi()
    info = api.dataset_info(repository, files_metadata=True, timeout=ANSWER_SECONDS)
    names = [it.rfilename for it in info.siblings or []]
    configs = getattr(info.card_data, "configs", None)
    if parts := declared(configs, names) or named(names):
        return info, parts
    try:
        info = api.dataset_info(
            repository, revision=CONVERTED, files_metadata=True, timeout=ANSWER_SECONDS
        )
    except RevisionNotFoundError as error:
        raise DataError(
            f"{repository} has no file that farense reads, and the hub has no Parquet of it.",
            f"farense reads {', '.join(ENDINGS)}; code of a data set is never run.",
        ) from error
    found: Parts = {}
    for it in info.siblings or []:
        if file := CONVERTED_FILE.fullmatch(it.rfilename):
            found.setdefault(file[1], {}).setdefault(file[2], []).append(file[0])
    if not found:
        raise DataError(f"{repository} holds no data.", "Look at it on the hub.")
    return info, found


def declared(configs: Any, names: Sequence[str]) -> Parts:
    """Return the parts that a data set's card lists; nothing where it names no files of theirs."""
    found: Parts = {}
    for config in configs if isinstance(configs, list) else []:
        if not isinstance(config, dict) or not (files := config.get("data_files")):
            continue
        given = files if isinstance(files, list) else [files]
        for entry in given:
            entry = entry if isinstance(entry, dict) else {"split": "train", "path": entry}
            paths = entry.get("path")
            patterns = paths if isinstance(paths, list) else [paths]
            matched = [
                name
                for name in names
                if name.lower().endswith(ENDINGS)
                and any(fnmatch(name, str(pattern).removeprefix("./")) for pattern in patterns)
            ]
            if matched:
                part = found.setdefault(str(config.get("config_name", WHOLE)), {})
                part.setdefault(str(entry.get("split", "train")), []).extend(sorted(matched))
    return found


def named(names: Sequence[str]) -> Parts:
    """Return the splits of a data set by the names of its files; what names none is ``train``."""
    usable = [name for name in names if name.rpartition("/")[2] not in NO_DATA]
    for ending in ENDINGS:
        files = sorted(name for name in usable if name.lower().endswith(ending))
        if files:
            splits: dict[str, list[str]] = {}
            for file in files:
                splits.setdefault(_split_of(file), []).append(file)
            return {WHOLE: splits}
    return {}


def _split_of(file: str) -> str:
    for split, words in SPLITS.items():
        if re.search(rf"(?:^|[/._\- 0-9])(?:{words})(?:[/._\- 0-9]|$)", file.lower()):
            return split
    return "train"


def _chosen(
    repository: str, what: str, known: Mapping[str, Any], wanted: str | None, typed: str
) -> str:
    """Return the part or split that is wanted, or the only one.

    Args:
        typed: what a person types before its name.

    Raises:
        DataError: there are several, or it is none of them.
    """
    names = ", ".join(known)
    if wanted in known:
        return str(wanted)
    if wanted is None and len(known) == 1:
        return next(iter(known))
    example = f"{typed}{next(iter(known))}"
    if wanted is None:
        raise DataError(
            f"{repository} has several {what}s: {printable(names)}.", f"Choose one: {example}"
        )
    raise DataError(
        f"{repository} has no {what} {printable(wanted)}; there is {printable(names)}.",
        printable(did_you_mean(wanted, known)) or f"Choose one: {example}",
    )
