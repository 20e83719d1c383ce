"""The encoded examples of a data file, kept from job to job.

Loading a tokenizer and encoding take longer than a short job's first steps, and give the same
tokens for the same data, tokenizer and code. So they are kept under a name that says all three::

    .farense/tokens/<key>.npz
      key                 the file's own name: a file that was renamed is not believed
      tokens              int32, the token ids of all examples, one after the other
      ends                int64, where each example ends in ``tokens``
      completion_starts   int32, see :class:`jobs.data.tokenize.EncodedExample`
      gaps                int32 [N, 3], of each gap the example, the first index and the last's next
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import numpy as np

from jobs import caches
from jobs.data import examples, messages, prompts, reasoning, tokenize
from jobs.data import tokenizer as tokenizer_module
from jobs.data.chat import answer, template_takes, templating, turns
from jobs.data.examples import read_examples
from jobs.data.lengths import Length
from jobs.data.prompts import PromptFormat
from jobs.data.tokenize import EncodedExample, Gaps, encode_example
from jobs.data.tokenizer import CLOCK, TemplateSettings, Tokenizer
from jobs.errors import DataError, WorkspaceError
from jobs.storage.files import keep_newest, sha256_of, write_with

Found = TypeVar("Found")

KEPT_FILES = 32
LAYOUT = 2

# What turns a line of data into tokens. The code counts by its content, since nobody would
# remember to raise a number with every change.
CODE = (
    *(examples, messages, prompts, reasoning, tokenize, tokenizer_module),
    *(answer, template_takes, templating, turns),
)
PACKAGES = ("mlx-lm", "transformers", "tokenizers", "jinja2")


def encoded(
    path: Path,
    sha256: str,
    model_folder: Path,
    prompt_format: PromptFormat,
    load_tokenizer: Callable[[], Tokenizer],
    folder: Path,
    template: TemplateSettings | None = None,
) -> list[EncodedExample]:
    """Return the examples in ``path`` as token ids at their full length.

    Args:
        sha256: what the content of ``path`` must have.
        load_tokenizer: returns the tokenizer in ``model_folder``; called only when the examples
            are not in the cache.
        folder: of the cache; made where it is missing.
        template: the settings with which ``load_tokenizer`` loads it; None for those by default.

    Raises:
        DataError: the file is missing, has changed or has bad lines; or an example cannot be
            expressed in ``prompt_format``.
        ModelError: as ``load_tokenizer`` and :func:`jobs.data.tokenize.encode_example` do.
    """
    key = _key(sha256, model_folder, prompt_format, template or TemplateSettings())
    file = folder / f"{key}.npz"
    stored = _read(file, key, _parse)
    rows = read_examples(path) if stored is None else []
    # After the reading: what was encoded and is kept under this digest had it.
    _check_unchanged(path, sha256)
    if stored is not None:
        return stored
    tokenizer = load_tokenizer()
    made = [encode_example(row, tokenizer, prompt_format) for row in rows]
    with contextlib.suppress(WorkspaceError):  # full or read-only disk: encoded again next time
        _write(file, key, made)
        keep_newest(folder, KEPT_FILES)
    return made


def kept_lengths(
    sha256: str,
    model_folder: Path,
    prompt_format: PromptFormat,
    folder: Path,
    template: TemplateSettings,
) -> list[Length] | None:
    """Return the lengths of examples that :func:`encoded` keeps; None where it has none of them.

    Args: as there; whether the file still has ``sha256`` is not looked at.
    """
    key = _key(sha256, model_folder, prompt_format, template)
    return _read(folder / f"{key}.npz", key, _parse_lengths)


def _key(
    sha256: str, model_folder: Path, prompt_format: PromptFormat, template: TemplateSettings
) -> str:
    return caches.key_of(
        caches.TOKENS,
        {
            "layout": str(LAYOUT),
            "data": sha256,
            "prompt settings": caches.mapping_input(
                {
                    **asdict(template),
                    "prompt_format": prompt_format,
                    "date": _day(model_folder, template),
                }
            ),
            "tokenizer files": caches.model_files_input(model_folder, ()),
            "packages": caches.packages_input(PACKAGES),
            "code": caches.code_input(CODE),
        },
    )


def _day(model_folder: Path, template: TemplateSettings) -> str | None:
    """Return the day on which tokens depend: most templates write none."""
    clock = CLOCK.encode()
    if not any(clock in file.read_bytes() for _, file in caches.model_files(model_folder, ())):
        return None
    return template.date or datetime.now().date().isoformat()


def _check_unchanged(path: Path, sha256: str) -> None:
    try:
        found = sha256_of(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    if found != sha256:
        raise DataError(
            f"{path} has changed since this job was enqueued.", "Enqueue the job again."
        )


def _read(file: Path, key: str, parse: Callable[[Path, str], list[Found]]) -> list[Found] | None:
    """Return what is stored and mark it as used; None where there is no whole file."""
    try:
        found = parse(file, key)
    # zipfile, its decompressors and numpy raise errors of many kinds on a torn or foreign file.
    # Whatever it was: None, and the file is made anew.
    except Exception:
        return None
    with contextlib.suppress(OSError):  # a cache that cannot be written is still good to read
        os.utime(file)
    return found


def _parse_lengths(file: Path, key: str) -> list[Length]:
    with np.load(file, allow_pickle=False) as arrays:
        if str(arrays["key"]) != key:
            raise ValueError("renamed")
        ends, starts = arrays["ends"].tolist(), arrays["completion_starts"].tolist()
        between = [0] * len(ends)
        for example, first, end in arrays["gaps"].tolist():
            between[example] += end - first
    bounds = itertools.pairwise([0, *ends])
    return [
        Length(end - begin, start, gap)
        for (begin, end), start, gap in zip(bounds, starts, between, strict=True)
    ]


def _parse(file: Path, key: str) -> list[EncodedExample]:
    with np.load(file, allow_pickle=False) as arrays:
        if str(arrays["key"]) != key:
            raise ValueError("renamed")
        tokens, ends = arrays["tokens"].tolist(), arrays["ends"].tolist()
        completion_starts = arrays["completion_starts"].tolist()
        gaps: list[Gaps] = [()] * len(ends)
        for example, first, end in arrays["gaps"].tolist():
            gaps[example] += ((first, end),)
    if ends[-1] != len(tokens):
        raise ValueError("of another length")
    bounds = itertools.pairwise([0, *ends])
    return [
        EncodedExample(tuple(tokens[start:end]), completion_start, between)
        for (start, end), completion_start, between in zip(
            bounds, completion_starts, gaps, strict=True
        )
    ]


def _write(file: Path, key: str, encoded_examples: list[EncodedExample]) -> None:
    arrays = {
        "key": np.array(key),
        "tokens": np.array(
            [token for example in encoded_examples for token in example.tokens], np.int32
        ),
        "ends": np.cumsum([len(example.tokens) for example in encoded_examples], dtype=np.int64),
        "completion_starts": np.array(
            [example.completion_start for example in encoded_examples], np.int32
        ),
        "gaps": np.array(
            [(n, *gap) for n, example in enumerate(encoded_examples) for gap in example.gaps],
            np.int32,
        ).reshape(-1, 3),
    }
    with contextlib.suppress(OSError):  # the private folder, where no daemon has made it yet
        file.parent.parent.mkdir(mode=0o700, exist_ok=True)
    write_with(file, lambda stream: np.savez(stream, allow_pickle=False, **arrays))
