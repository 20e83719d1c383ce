"""Encode a data file into the cache of tokens, in a process of its own.

It takes MLX and a tokenizer, which a coordinator of sweeps has no other use for, nor has a command
that queues a job. ``python -P -m jobs.encode FILE SHA256 MODEL FORMAT CACHE TEMPLATE`` encodes what
is not there yet and prints, as JSON, where each example's completion starts and where it ends, or
what refused the file. TEMPLATE is :class:`jobs.tokenizer.TemplateSettings` as JSON.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import cast

import orjson

from jobs.errors import DataError, FarenseError, JobFailed, ModelError
from jobs.lengths import Length
from jobs.prompts import PromptFormat
from jobs.tokenizer import TemplateSettings

LONGEST_SECONDS = 1_800.0
KINDS: dict[str, type[FarenseError]] = {"DataError": DataError, "ModelError": ModelError}


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
    command = [sys.executable, "-P", "-m", "jobs.encode"]
    command += [str(file), sha256, str(model), prompt_format, str(cache)]
    command += [orjson.dumps(template).decode()]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=LONGEST_SECONDS)
    except OSError as error:
        raise _unanswered(file, f"it could not be started: {error.strerror or error}") from error
    except subprocess.TimeoutExpired as error:
        raise _unanswered(file, f"it had not ended after {LONGEST_SECONDS:.0f} s") from error
    try:
        answer = orjson.loads(done.stdout)
    except ValueError as error:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        why = f"it ended with code {done.returncode}" + "".join(f": {line}" for line in last)
        raise _unanswered(file, why) from error
    if done.returncode:
        kind = KINDS.get(answer["kind"], JobFailed)
        raise kind(answer["message"], answer["hint"])
    return [Length(whole, start) for whole, start in answer]


def _unanswered(file: Path, why: str) -> JobFailed:
    return JobFailed(
        f"{file} could not be checked by the process that tokenizes it: {why}.",
        "Nothing was queued. Try again; if it happens again: farense doctor",
    )


def _main() -> int:
    from jobs.model import load_tokenizer  # noqa: PLC0415 - takes two seconds
    from jobs.token_cache import encoded  # noqa: PLC0415

    file, sha256, model, prompt_format, cache, text = sys.argv[1:]
    template = TemplateSettings(**orjson.loads(text))
    form = cast(PromptFormat, prompt_format)
    folder = Path(model)
    try:
        load = partial(load_tokenizer, folder, template)
        made = encoded(Path(file), sha256, folder, form, load, Path(cache), template)
    except FarenseError as error:
        kind = type(error).__name__
        answer = {"kind": kind, "message": error.message, "hint": error.hint}
        sys.stdout.buffer.write(orjson.dumps(answer))
        return int(error.exit_code)
    lengths = [(len(example.tokens), example.completion_start) for example in made]
    sys.stdout.buffer.write(orjson.dumps(lengths))
    return 0


if __name__ == "__main__":
    sys.exit(_main())
