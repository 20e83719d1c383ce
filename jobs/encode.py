"""Encode a data file into the cache of tokens, in a process of its own.

It takes MLX and a tokenizer, which a coordinator of sweeps has no other use for, nor has a command
that queues a job. ``python -P -m jobs.encode FILE SHA256 MODEL FORMAT CACHE TEMPLATE`` encodes what
is not there yet and prints, as JSON, where each example's completion starts and where it ends, or
what refused the file. TEMPLATE is :class:`jobs.tokenizer.TemplateSettings` as JSON.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import cast

import orjson

from jobs.apart import UnansweredError, ask_apart, tell
from jobs.errors import JobFailed
from jobs.lengths import Length
from jobs.prompts import PromptFormat
from jobs.tokenizer import TemplateSettings

LONGEST_SECONDS = 1_800.0


def encode_apart(
    file: Path,
    sha256: str,
    model: Path,
    prompt_format: PromptFormat,
    cache: Path,
    template: TemplateSettings,
) -> list[Length]:
    """Encode a data file as its first job would; return the lengths of its examples in tokens.

    Args: as of :func:`jobs.token_cache.encoded`.

    Raises:
        InvalidInput: the file or the model's tokenizer cannot be used; the message is the job's.
        JobFailed: the process could not be started, did not end, or ended without an answer.
    """
    asked = [str(file), sha256, str(model), prompt_format, str(cache)]
    asked += [orjson.dumps(template).decode()]
    try:
        answer = ask_apart("jobs.encode", asked, LONGEST_SECONDS)
    except UnansweredError as error:
        raise JobFailed(
            f"{file} could not be checked by the process that tokenizes it: {error}.",
            "Nothing was queued. Try again; if it happens again: farense doctor",
        ) from error
    return [Length(whole, start) for whole, start in answer]


def _main() -> int:
    from jobs.model import load_tokenizer  # noqa: PLC0415 - takes two seconds
    from jobs.token_cache import encoded  # noqa: PLC0415

    file, sha256, model, prompt_format, cache, text = sys.argv[1:]
    template = TemplateSettings(**orjson.loads(text))
    form = cast(PromptFormat, prompt_format)
    folder = Path(model)

    def lengths() -> list[tuple[int, int]]:
        load = partial(load_tokenizer, folder, template)
        made = encoded(Path(file), sha256, folder, form, load, Path(cache), template)
        return [(len(example.tokens), example.completion_start) for example in made]

    return tell(lengths)


if __name__ == "__main__":
    sys.exit(_main())
