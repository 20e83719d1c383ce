"""Encode a data file into the cache of tokens, in a process of its own.

It takes MLX and a tokenizer, which a coordinator of sweeps has no other use for.
``python -P -m jobs.encode FILE SHA256 MODEL FORMAT CACHE TEMPLATE`` encodes what is not there yet;
TEMPLATE is :class:`jobs.tokenizer.TemplateSettings` as JSON.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import cast

import orjson

from jobs.errors import FarenseError
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
) -> bool:
    """Encode a data file as its first job would; False where that failed.

    Args: as of :func:`jobs.token_cache.encoded`.
    """
    command = [sys.executable, "-P", "-m", "jobs.encode"]
    command += [str(file), sha256, str(model), prompt_format, str(cache)]
    command += [orjson.dumps(template).decode()]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=LONGEST_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _main() -> int:
    from jobs.model import load_tokenizer  # noqa: PLC0415 - takes two seconds
    from jobs.token_cache import encoded  # noqa: PLC0415

    file, sha256, model, prompt_format, cache, text = sys.argv[1:]
    template = TemplateSettings(**orjson.loads(text))
    form = cast(PromptFormat, prompt_format)
    folder = Path(model)
    try:
        load = partial(load_tokenizer, folder, template)
        encoded(Path(file), sha256, folder, form, load, Path(cache), template)
    except FarenseError as error:
        sys.stderr.write(f"{error.message}\n")
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
