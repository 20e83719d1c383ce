"""Whether a job's data become something to learn, asked before it is queued.

What the tokenizer and the chat template refuse is refused here, by the file and line that the
person knows. The tokens are kept: the job need not encode them again.
"""

from __future__ import annotations

from pathlib import Path

from jobs.encode import encode_apart
from jobs.errors import DataError
from jobs.files import sha256_of
from jobs.lengths import Length, summarize
from jobs.prompts import PromptFormat
from jobs.token_cache import encoded
from jobs.tokenizer import TemplateSettings, Tokenizer


class _NotKeptError(Exception):
    """The cache has no tokens of this file."""


def check_fit(
    file: Path,
    model: Path,
    prompt_format: PromptFormat,
    max_seq_length: int,
    cache: Path,
    template: TemplateSettings,
) -> str | None:
    """Return what a person should know of examples that ``max_seq_length`` cuts; None for nothing.

    Args:
        file: JSON Lines, as the person named it.
        cache: the folder of :mod:`jobs.token_cache`.

    Raises:
        InvalidInput: the tokenizer or its template refuses the file, or no example is left.
        JobFailed: the process that tokenizes does not answer.
    """
    try:
        digest = sha256_of(file)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}.") from error
    lengths = _lengths(file, digest, model, prompt_format, cache, template)
    found = summarize(lengths, "tokens", max_seq_length)
    left_out, truncated = found.left_out or 0, found.truncated or 0
    if left_out == len(lengths):
        raise DataError(
            f"{file}: no example is left to learn from: the prompts alone fill "
            f"max_seq_length={max_seq_length}.",
            f"The longest example has {found.longest} tokens: --set max_seq_length={found.longest}",
        )
    if not left_out and not truncated:
        return None
    return (
        f"{file}: of {len(lengths)} examples max_seq_length={max_seq_length} cuts {truncated} "
        f"short and leaves out {left_out}; the longest has {found.longest} tokens."
    )


def _lengths(
    file: Path,
    digest: str,
    model: Path,
    prompt_format: PromptFormat,
    cache: Path,
    template: TemplateSettings,
) -> list[Length]:
    try:
        rows = encoded(file, digest, model, prompt_format, _no_tokenizer, cache, template)
    except _NotKeptError:
        return encode_apart(file, digest, model, prompt_format, cache, template)
    return [Length(len(row.tokens), row.completion_start) for row in rows]


def _no_tokenizer() -> Tokenizer:
    raise _NotKeptError
