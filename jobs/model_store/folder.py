"""A model folder as mlx-lm loads it: is it whole, is it allowed, is it still the same.

Only headers are read and no MLX is imported, so that a client can ask before a job exists.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.config.lora_keys import Reach, check_num_layers, reached
from jobs.errors import ConfigError, ModelError
from jobs.model_store.safetensors_header import TensorEntry, raw_header, read_header
from jobs.model_store.size import PlainTensor, plain_tensors
from jobs.storage.files import add_part, read_json
from jobs.suggest import did_you_mean

if TYPE_CHECKING:
    from jobs.config.config import LoraConfig

# Where the folders of the presets come from.
PULLED_BY = {
    "smollm2-135m-4bit": "farense model pull smollm2-135m",
    "mistral-7b-4bit": (
        "farense model pull mlx-community/Mistral-7B-Instruct-v0.3-4bit --as mistral-7b-4bit"
    ),
}

# Keys by which a configuration asks for Python code of its own to be run.
CODE_KEYS = ("auto_map", "model_file")

# The weight of a layer within a block, as mlx-lm's models name it.
LAYER = re.compile(r".*\blayers\.(?P<block>\d+)\.(?P<path>.+)\.weight")
# One of the experts of a mixture, where a file holds them one by one.
EXPERT = re.compile(r"\bexperts\.\d+\.")

WEIGHTS = "model*.safetensors"  # what mlx-lm loads
INDEX = "model.safetensors.index.json"
IDENTITY_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
# What else turns text into tokens or tells where answers end, by patterns. Jobs of older versions
# know nothing of these: they stand in a part of the fingerprint of their own.
MORE_IDENTITY_FILES = (
    *("generation_config.json", "hf_quant_config.json", "additional_chat_templates/*.jinja"),
    *("tokenizer.model", "*.tiktoken", "tekken.json", "vocab.json", "merges.txt", "vocab.txt"),
)
EDGE_BYTES = 1 << 20


def check_model(path: Path) -> None:
    """Check that a model folder is whole and needs no code of its own. Reads headers only.

    Raises:
        ModelError: there is no such folder; config, weights, a shard or the tokenizer are missing
            or damaged; the configuration asks for remote code.
    """
    read_model(path)
    _check_tokenizer(path)


def check_unchanged(path: Path, expected: str) -> None:
    """Check that a model folder is whole and the one that a job was ordered with.

    Args:
        expected: its fingerprint at that time; empty where it is not known.

    Raises:
        ModelError: as :func:`check_model`, or it is another model.
    """
    check_model(path)
    if expected and not same_model(fingerprint(path), expected):
        raise ModelError(
            f"The model in {path} has changed since this job was enqueued.",
            "Put the old model back, or enqueue the job again.",
        )


def fingerprint(path: Path) -> str:
    """Return what identifies the model in a folder: two SHA-256 in hexadecimal, a dash between.

    The first covers the configuration and the tokenizer whole, and of each weight file the name,
    the size, the header, and the first and last MiB of the file: fast for weights of many
    gigabytes. Another model, another quantization, further training of all layers, missing or
    truncated files are caught; a change inside a weight file that keeps its size and both ends is
    not. The second covers :data:`MORE_IDENTITY_FILES`.

    Raises:
        ModelError: there is no such folder, or a file is damaged or cannot be read.
    """
    digest, more = hashlib.sha256(), hashlib.sha256()
    try:
        _must_exist(path)
        for name in IDENTITY_FILES:
            if (file := path / name).is_file():
                add_part(digest, name, file.read_bytes())
        for file in sorted(path.glob(WEIGHTS)):
            size = file.stat().st_size
            add_part(digest, file.name, size.to_bytes(8, "little") + raw_header(file))
            with file.open("rb") as weights:
                add_part(digest, "first", weights.read(EDGE_BYTES))
                weights.seek(max(0, size - EDGE_BYTES))
                add_part(digest, "last", weights.read(EDGE_BYTES))
        for file in sorted({file for name in MORE_IDENTITY_FILES for file in path.glob(name)}):
            add_part(more, file.relative_to(path).as_posix(), file.read_bytes())
    except OSError as error:
        raise _unreadable(path, error) from error
    return f"{digest.hexdigest()}-{more.hexdigest()}"


def same_model(one: str, other: str) -> bool:
    """Tell whether two fingerprints are of one model, as far as both say.

    Those that older versions wrote have the first part alone.
    """
    return all(a == b for a, b in zip(one.split("-"), other.split("-"), strict=False))


def read_model(path: Path) -> tuple[dict[str, Any], dict[str, TensorEntry]]:
    """Return the config of a model folder and its tensors by name; its tokenizer is not read.

    Raises:
        ModelError: as :func:`check_model` does.
    """
    try:
        _must_exist(path)
        return check_config(path), _tensors(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def folder_bytes(path: Path) -> int:
    """Return what all files of a model folder take on disk, links to files followed."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def check_lora(path: Path, lora: LoraConfig) -> Reach | None:
    """Check, from the headers alone, that the model has the layers that ``lora`` adapts.

    Returns:
        What the keys reach; None of a model whose tensors are not named as usual, which is left to
        the training process.

    Raises:
        ConfigError: more layers than the model has blocks, or a key that names no layer.
    """
    config, tensors = read_model(path)
    blocks = adaptable_layers(config, plain_tensors(tensors, config))
    if not blocks:
        return None
    check_num_layers(lora.num_layers, len(blocks), str(path))
    try:
        return reached(
            {number: blocks[number] for number in sorted(blocks)[-lora.num_layers :]}, lora.keys
        )
    except ConfigError as error:
        raise ConfigError(f"{error.message.rstrip('.')} of {path}.", error.hint) from error


def adaptable_layers(
    config: Mapping[str, Any], tensors: Mapping[str, PlainTensor]
) -> dict[int, dict[str, list[str]]]:
    """Return, block by block, the layers that an adapter may reach, by the tensors they stand in.

    Args:
        config: of the model; tells how many blocks are loaded (some files hold one more, which
            predicts further tokens).
        tensors: as if none were quantized.

    Returns:
        Number of the block -> path within it -> names of its weights. Experts that a file holds one
        by one are one layer, as mlx-lm stacks them.
    """
    text = config.get("text_config")
    loaded = (text if isinstance(text, dict) else config).get("num_hidden_layers")
    blocks: dict[int, dict[str, list[str]]] = {}
    for name, entry in tensors.items():
        found = LAYER.fullmatch(name)
        if found is None or not _is_projection(found["path"], entry):
            continue
        block = int(found["block"])
        if not isinstance(loaded, int) or block < loaded:
            path = EXPERT.sub("switch_mlp.", found["path"])
            blocks.setdefault(block, {}).setdefault(path, []).append(name)
    return blocks


def _is_projection(path: str, entry: PlainTensor) -> bool:
    """Tell a matrix, or those of all experts, from norms and convolutions."""
    return len(entry.shape) == 2 or (len(entry.shape) == 3 and "conv" not in path)


def check_config(path: Path) -> dict[str, Any]:
    """Return the ``config.json`` of a model folder; neither it nor the tokenizer's asks for code.

    Raises:
        ModelError: it is missing, damaged, not a model's, or asks for code of its own.
        OSError: it cannot be read.
    """
    config = _json_object(path / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise ModelError(f"{path / 'config.json'} names no model_type: not a language model's.")
    if (path / "tokenizer_config.json").is_file():
        _json_object(path / "tokenizer_config.json")
    return config


def _must_exist(path: Path) -> None:
    if path.is_dir():
        return
    if path.is_symlink():
        raise ModelError(
            f"{path} is a link to {path.readlink()}, and there is no folder.",
            "Mount the disk that it is on, or replace the link.",
        )
    hint = "`farense model list` shows what is here, `farense model pull` gets more."
    if (path.parent / "models" / path.name).is_dir():
        hint = f"Did you mean models/{path.name}?"
    elif path.name in PULLED_BY:
        hint = f"Get it: {PULLED_BY[path.name]}"
    elif path.parent.is_dir():
        here = sorted(folder.name for folder in path.parent.iterdir() if folder.is_dir())
        hint = f"{did_you_mean(path.name, here)} {hint}".lstrip()
    raise ModelError(f"There is no model folder {path}.", hint)


def _json_object(file: Path) -> dict[str, Any]:
    """Return the JSON object in a configuration file that asks for no code."""
    if not file.is_file():
        raise ModelError(
            f"{file.parent} has no {file.name}: it is not a whole model folder.",
            "Pull the model again, or copy the whole folder.",
        )
    try:
        # Not orjson: some published configs hold Infinity.
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{file} does not hold valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{file} does not hold a JSON object.")
    for key in CODE_KEYS:
        if values.get(key):
            raise ModelError(
                f"{file} asks for Python code of its own to be run ({key}): refused.",
                "Take a model of an architecture that mlx-lm knows.",
            )
    return values


def _tensors(path: Path) -> dict[str, TensorEntry]:
    """Return the tensors of all weight files; those that the index names must be there."""
    shards = {file.name: read_header(file) for file in sorted(path.glob(WEIGHTS))}
    if (path / INDEX).is_file():
        _check_index(path / INDEX, shards)
    if not any(shards.values()):
        raise ModelError(
            f"{path} has no weights: expected files named {WEIGHTS}.",
            "Only safetensors weights are used; remove the folder and pull the model again.",
        )
    return {name: entry for shard in shards.values() for name, entry in shard.items()}


def _check_index(index: Path, shards: dict[str, dict[str, TensorEntry]]) -> None:
    weight_map = _json_object(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise ModelError(f"{index} has no weight_map.")
    for tensor, shard in weight_map.items():
        if tensor not in shards.get(str(shard), {}):
            missing = f"tensor {tensor} in {shard}" if shard in shards else f"file {shard}"
            raise ModelError(
                f"{index.parent} is not whole: there is no {missing}, which {index.name} names.",
                "Remove the folder and pull the model again.",
            )


def _check_tokenizer(path: Path) -> None:
    tokenizer = path / "tokenizer.json"
    if not tokenizer.is_file():
        raise ModelError(f"{path} has no tokenizer.json.", "Pull the model again.")
    try:
        read_json(tokenizer)
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:
        raise ModelError(f"{tokenizer} does not hold valid JSON: {error}") from error


def _unreadable(path: Path, error: OSError) -> ModelError:
    return ModelError(f"{path} cannot be read: {error.strerror or error}.")
