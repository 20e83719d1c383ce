"""An adapter that training starts from: ours, mlx-lm's or PEFT's, brought into one form. No MLX.

A folder is one of::

    <a run directory>     adapters/adapters.safetensors, and job.json, which says on which model
    <an export of ours>   adapters.safetensors, and farense_export.json
    <mlx-lm's>            adapters.safetensors, adapter_config.json
    <PEFT's>              adapter_model.safetensors, adapter_config.json: A and B transposed
                          (jobs/export/peft.py), scale = lora_alpha / r, with rsLoRA / sqrt(r)

Frozen for a job it is one safetensors file of float32 arrays in mlx-lm's names and order of
dimensions; what is to be known besides stands in its metadata, under ``farense``.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from jobs.errors import InvalidInput, ModelError
from jobs.model_store.safetensors_header import TensorEntry
from jobs.paths import RunDirectory
from jobs.spec import read_spec
from jobs.storage.values import finite, printable, well_typed

Arrays = dict[str, NDArray[np.float32]]

FARENSE, MLX_LM, PEFT = "farense", "mlx-lm", "PEFT"
CONFIG, WEIGHTS, PEFT_WEIGHTS = (
    *("adapter_config.json", "adapters.safetensors"),
    "adapter_model.safetensors",
)
# As jobs/export/folder.py calls it.
EXPORT_MARKER = "farense_export.json"
# How PEFT names an array; some of its versions leave the adapter's name in.
PEFT_ARRAY = re.compile(
    r"base_model\.model\.(?P<layer>.+)\."
    r"(?P<part>lora_A|lora_B|lora_magnitude_vector)(\.default)?(\.weight)?"
)
PARTS = {"lora_A": "lora_a", "lora_B": "lora_b", "lora_magnitude_vector": "m"}
# What PEFT can train besides, of which there is nothing here: the setting, and what it means.
PEFT_OTHERS = {
    "modules_to_save": "layers that are trained whole",
    "alpha_pattern": "another lora_alpha for some layers",
    "fan_in_fan_out": "weights that are stored transposed",
    "lora_bias": "biases beside its matrices",
    "trainable_token_indices": "tokens that are trained",
}
DTYPES = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<u2"}
METADATA = "farense"
ALIGNED = 8


@dataclass(frozen=True)
class AdapterOrigin:
    """Where an adapter comes from, and what its arrays do not say.

    Attributes:
        form: whose it is: ``farense``, ``mlx-lm`` or ``PEFT``.
        source: the id of the job, or the name of the folder.
        scale: what the product of its matrices is multiplied with.
        sha256: of the file that it was read from.
        job: that trained it, where that is known.
        model: what it names as its model; None where it names none.
        model_fingerprint: of its model; None where that is not known.
    """

    form: str
    source: str
    scale: float
    sha256: str
    job: str | None = None
    model: str | None = None
    model_fingerprint: str | None = None


@dataclass(frozen=True)
class ForeignAdapter:
    """An adapter to start from: its arrays, float32, by mlx-lm's names."""

    arrays: Arrays
    origin: AdapterOrigin

    @property
    def shapes(self) -> dict[str, TensorEntry]:
        """What a header would say of the arrays."""
        return {name: TensorEntry("F32", array.shape) for name, array in self.arrays.items()}

    def content(self) -> bytes:
        """Return the file that is frozen for a job."""
        said = orjson.dumps(asdict(self.origin), option=orjson.OPT_SORT_KEYS).decode()
        header: dict[str, Any] = {"__metadata__": {"format": "mlx", METADATA: said}}
        parts, offset = [], 0
        for name, array in sorted(self.arrays.items()):
            data = array.astype("<f4").tobytes()
            ends = [offset, offset := offset + len(data)]
            header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": ends}
            parts.append(data)
        text = orjson.dumps(header)
        text += b" " * (-len(text) % ALIGNED)
        return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def read_foreign(path: Path) -> ForeignAdapter:
    """Return the adapter in a folder, or in a file that was frozen for a job.

    Raises:
        InvalidInput: there is none, or one of a kind from which nothing here can start.
        ModelError: it is damaged.
    """
    try:
        if path.is_file():
            return _frozen(path)
        if (path / "adapters" / WEIGHTS).is_file():
            return _of_run(RunDirectory(path))
        if (path / PEFT_WEIGHTS).is_file():
            return _of_peft(path)
        if (path / WEIGHTS).is_file():
            return _of_mlx_lm(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ModelError(f"The adapter in {path} cannot be read: {what}") from error
    pickled = (path / "adapter_model.bin").is_file()
    raise InvalidInput(
        f"There is no adapter in {path}.",
        "Save it again as safetensors: adapter_model.bin may run code, and is not read."
        if pickled
        else f"An adapter's folder has {CONFIG} and {WEIGHTS} (mlx-lm) or {PEFT_WEIGHTS} (PEFT).",
    )


def _frozen(path: Path) -> ForeignAdapter:
    arrays, metadata, _ = _tensors(path)
    if METADATA not in metadata:
        raise InvalidInput(
            f"{path} is a file, and what its arrays mean is not known.",
            f"Name the folder that it lies in, with its {CONFIG}.",
        )
    origin = AdapterOrigin(**orjson.loads(metadata[METADATA]))
    if not well_typed(origin):
        raise ValueError("its metadata are no adapter's")
    return ForeignAdapter(arrays, origin)


def _of_run(run: RunDirectory) -> ForeignAdapter:
    """Read the best adapter of a training job: at one moment, for it may be replaced."""
    spec = read_spec(run, copied=True)
    found = _of_mlx_lm(run.adapters)
    origin = replace(
        found.origin,
        form=FARENSE,
        source=spec.id,
        job=spec.id,
        model_fingerprint=spec.model_fingerprint or None,
    )
    return replace(found, origin=origin)


def _of_mlx_lm(folder: Path) -> ForeignAdapter:
    config = _object(folder / CONFIG)
    kind = config.get("fine_tune_type", "lora")
    if kind not in ("lora", "dora"):
        raise InvalidInput(
            f"{folder} holds no LoRA or DoRA adapter, but what mlx-lm calls {kind!r}.",
            "Start from the model that it gives: fuse it, and set model to that folder.",
        )
    arrays, _, digest = _tensors(folder / WEIGHTS)
    scale = _positive(config["lora_parameters"]["scale"], "scale")
    origin = AdapterOrigin(MLX_LM, _name(folder), scale, digest, model=_text(config.get("model")))
    if (folder / EXPORT_MARKER).is_file():
        marker = _object(folder / EXPORT_MARKER)
        job, fingerprint = (_text(marker.get(name)) for name in ("job", "model_fingerprint"))
        origin = replace(origin, form=FARENSE, job=job, model_fingerprint=fingerprint)
    return ForeignAdapter(arrays, origin)


def _of_peft(folder: Path) -> ForeignAdapter:
    config = _object(folder / CONFIG)
    _check_peft(folder, config)
    named, _, digest = _tensors(folder / PEFT_WEIGHTS)
    arrays: Arrays = {}
    for name, array in named.items():
        if (found := PEFT_ARRAY.fullmatch(name)) is None:
            raise InvalidInput(
                f"{folder} holds {name}, which is no matrix of LoRA or DoRA beside a projection.",
                "Adapt projections alone, and train it again with PEFT.",
            )
        key = f"{found['layer']}.{PARTS[found['part']]}"
        # Some versions give the magnitudes a second dimension.
        arrays[key] = array.reshape(-1) if found["part"] not in ("lora_A", "lora_B") else array.T
    rank = _positive(config["r"], "r")
    alpha = _positive(config["lora_alpha"], "lora_alpha")
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    base = _text(config.get("base_model_name_or_path"))
    return ForeignAdapter(arrays, AdapterOrigin(PEFT, _name(folder), scale, digest, model=base))


def _check_peft(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse what PEFT can and nothing here: the adapter would give something else."""
    if (kind := config.get("peft_type")) != "LORA":
        raise InvalidInput(f"{folder} holds no LoRA adapter, but what PEFT calls {kind!r}.")
    extra = [what for name, what in PEFT_OTHERS.items() if config.get(name)]
    if config.get("bias", "none") != "none":
        extra.append("biases")
    if extra:
        raise InvalidInput(
            f"The PEFT adapter in {folder} has more than farense trains: {', '.join(extra)}.",
            "Merge it into the model with PEFT, and set model to the result.",
        )


def _tensors(path: Path) -> tuple[Arrays, dict[str, str], str]:
    """Return the arrays of a safetensors file, its metadata and the SHA-256 of its content."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    if not 8 < start <= len(content):
        raise ValueError(f"{path.name} is no safetensors file, or is damaged")
    header = orjson.loads(content[8:start])
    metadata = header.pop("__metadata__", None) or {}
    arrays = {}
    for name, entry in header.items():
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{name} holds {entry['dtype']}, no numbers that can be trained")
        begin, end = entry["data_offsets"]
        numbers = np.frombuffer(content[start + begin : start + end], DTYPES[entry["dtype"]])
        if entry["dtype"] == "BF16":  # the upper half of a float32
            numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
        array = numbers.reshape(entry["shape"]).astype(np.float32)
        if not np.isfinite(array).all():
            raise ValueError(f"{name} has numbers that are not finite")
        arrays[name] = array
    return arrays, metadata, hashlib.sha256(content).hexdigest()


def _object(path: Path) -> dict[str, Any]:
    found = orjson.loads(path.read_bytes())
    if not isinstance(found, dict):
        raise TypeError(f"{path.name} holds no JSON object")
    return found


def _positive(value: Any, name: str) -> float:
    found = finite(value)
    if found is None or found <= 0:
        raise ValueError(f"its {name} is {value!r}, no number above 0")
    return found


def _text(value: Any) -> str | None:
    return printable(value) if isinstance(value, str) and value else None


def _name(folder: Path) -> str:
    return printable(folder.resolve().name)
