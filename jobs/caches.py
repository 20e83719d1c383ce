"""What is kept from job to job, and all that each of it depends on: one table.

A key holds every input that the table lists and nothing else. A caller that gives other inputs
than the table says is a fault. What could matter counts unless a list here calls it harmless, so
that a new setting, or a file that a model brings, counts from its first day.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import orjson

from jobs.config.config import TrainConfig
from jobs.storage.files import add_part

Inputs = Mapping[str, bytes | str]


@dataclass(frozen=True)
class Kept:
    """One thing that is kept.

    Attributes:
        where: below the workspace; ``<key>`` is what :func:`key_of` returns.
        inputs: what it depends on, by name.
    """

    where: str
    inputs: tuple[str, ...]


PREFIX_STATES, TOKENS, BASELINE, ANSWERS = "prefix states", "tokens", "baseline", "answers"
WEIGHT_DIGESTS, KERNELS, REHEARSALS = "weight digests", "kernels", "rehearsals"

TABLE: dict[str, Kept] = {
    TOKENS: Kept(
        ".farense/tokens/<key>.npz",
        ("layout", "data", "prompt settings", "tokenizer files", "packages", "code"),
    ),
    PREFIX_STATES: Kept(
        ".farense/prefix_cache/<key>/",
        (
            *("layout", "tokens", "weights", "model files", "boundary", "form"),
            *("packages", "machine", "threads", "code"),
        ),
    ),
    BASELINE: Kept(
        ".farense/baselines/<key>.json",
        (
            *("examples", "weights", "model files", "settings", "form", "cut"),
            *("environment", "lanes", "code"),
        ),
    ),
    REHEARSALS: Kept(
        ".farense/rehearsals/<key>.json",
        ("layout", "prompt settings", "model files", "fingerprint", "machine", "packages", "code"),
    ),
    # Under no key, but in the run directory: the first line of the file holds the inputs.
    ANSWERS: Kept(
        "checkpoints_qlora/<job>/evaluation/answers.jsonl",
        (
            *("adapter", "data", "model", "weights", "model files", "settings", "template"),
            *("max_new_tokens", "batch_size", "versions", "packages", "code"),
        ),
    ),
    # Each file's digest stands under its path for as long as these stay.
    WEIGHT_DIGESTS: Kept(".farense/weight_digests.json", ("size", "modified", "changed", "inode")),
    # MLX's own: it names a library by what is computed, below a folder of its version.
    KERNELS: Kept(".farense/tmp/mlx/<version>/cpu/", ("mlx", "operations")),
}

# Settings that cannot change what the model gives before training. All others count. Those of
# prompts change the tokens, and count with them too.
TRAINING_ONLY = {
    *("data", "model", "seed", "batch_size", "gradient_accumulation", "learning_rate"),
    *("lr_schedule", "min_learning_rate", "warmup_steps", "warmup_ratio"),
    *("adam_bias_correction", "weight_decay", "max_grad_norm", "num_epochs"),
    *("max_steps", "save_steps", "eval_steps", "log_steps", "keep_checkpoints"),
    *("early_stopping_patience", "early_stopping_min_delta", "on_divergence", "on_oom"),
    # What is chosen by memory counts as a part of the environment and of the lanes.
    *("memory", "stall_minutes", "max_hours", "trackers"),
}
TRAINING_ONLY_LORA = {"rank", "scale", "alpha", "rslora", "dropout"}

# Files of a model folder that do not change what it computes from token ids. All others count: its
# weights by their digest, the rest by their content.
WEIGHT_FILES = ("*.safetensors", "*.gguf", "*.bin", "*.pt", "*.pth", "*.onnx", "*.h5", "*.msgpack")
TOKENIZER_ONLY = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template.*", "additional_chat_templates/*", "vocab.json", "merges.txt", "vocab.txt"),
    *("*.model", "*.tiktoken"),
)
NO_PART = ("*.md", "LICENSE*", "NOTICE*", ".*")


def key_of(what: str, inputs: Inputs) -> str:
    """Return the key of something that is kept: 64 hexadecimal digits.

    Args:
        what: a name in :data:`TABLE`.
        inputs: all that it depends on.

    Raises:
        ValueError: ``inputs`` are not those that the table lists.
    """
    check_inputs(what, inputs)
    digest = hashlib.sha256()
    for name in TABLE[what].inputs:
        value = inputs[name]
        add_part(digest, name, value.encode() if isinstance(value, str) else value)
    return digest.hexdigest()


def check_inputs(what: str, inputs: Mapping[str, Any]) -> None:
    """Check that ``inputs`` are those that the table lists.

    Raises:
        ValueError: they are not.
    """
    if differing := sorted(set(inputs) ^ set(TABLE[what].inputs)):
        raise ValueError(f"the inputs of {what} are not those of the table: {differing}")


def settings_input(config: TrainConfig) -> bytes:
    """Return the settings on which the losses before training may depend."""
    return mapping_input(settings_before_training(config))


def settings_before_training(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that do more than train: those of prompts, lengths, precision, ..."""
    settings = config.model_dump(mode="json", exclude=TRAINING_ONLY)
    settings["lora"] = config.lora.model_dump(mode="json", exclude=TRAINING_ONLY_LORA)
    return settings


def mapping_input(values: Mapping[str, Any]) -> bytes:
    """Return plain data as bytes that do not depend on its order."""
    return orjson.dumps(dict(values), option=orjson.OPT_SORT_KEYS)


def tokens_input(tokens: Sequence[Sequence[int]]) -> bytes:
    """Return a digest of lists of token ids."""
    digest = hashlib.sha256()
    for ids in tokens:
        content = np.asarray(ids, dtype="<i8").tobytes()
        # With its length, so that no two lists run together into the same bytes.
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.digest()


def model_files_input(folder: Path, harmless: Sequence[str] = TOKENIZER_ONLY) -> bytes:
    """Return a digest of the files of a model folder, its weights and harmless ones left out.

    Args:
        harmless: patterns of names, relative to ``folder``, beside those that never matter.
    """
    digest = hashlib.sha256()
    for name, file in model_files(folder, harmless):
        add_part(digest, name, file.read_bytes())
    return digest.digest()


def packages_input(names: Sequence[str]) -> bytes:
    """Return the installed versions of packages, which stay as they are while a process runs."""
    return mapping_input({name: _version(name) for name in names})


@functools.cache
def _version(name: str) -> str:
    return importlib.metadata.version(name)


def code_input(modules: Sequence[ModuleType] | None = None) -> bytes:
    """Return a digest of the code in ``modules``, or of all that jobs run.

    The code counts by its content, since nobody would remember to raise a number with every change.
    """
    package = Path(__file__).parent
    files = (
        sorted(package.rglob("*.py"))
        if modules is None
        else [Path(str(module.__file__)) for module in modules]
    )
    digest = hashlib.sha256()
    for file in files:
        add_part(digest, str(file.relative_to(package)), file.read_bytes())
    return digest.digest()


def model_files(folder: Path, harmless: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Yield the files that :func:`model_files_input` counts, by their names in the folder."""
    patterns = (*WEIGHT_FILES, *NO_PART, *harmless)
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_file() and not any(fnmatch(name, pattern) for pattern in patterns):
            yield name, file
