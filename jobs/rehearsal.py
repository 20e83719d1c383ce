"""A rehearsal of a job's start, before the job is queued: all that its model and data can refuse.

The tokenizer is loaded and the data are encoded, the model is built as mlx-lm builds it, its layers
are looked at; weights are read by nobody. That takes MLX and seconds, so ``python -P -m
jobs.rehearsal`` does it, once for all jobs that are queued together. The tokens are kept, and the
job need not encode them again; what was found of the model is kept under all that it depends on.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from jobs import caches
from jobs.backend.device import Device
from jobs.config.config import LoraConfig
from jobs.data.lengths import Length
from jobs.data.prompts import PromptFormat
from jobs.data.token_cache import PACKAGES, kept_lengths
from jobs.data.tokenizer import TemplateSettings
from jobs.errors import JobFailed, WorkspaceError
from jobs.model_store.folder import fingerprint
from jobs.model_store.safetensors_header import TensorEntry
from jobs.other_process import UnansweredError, ask_apart, tell
from jobs.paths import Workspace
from jobs.storage.files import keep_newest, read_json, write_json

LONGEST_SECONDS = 1_800.0
KEPT_FILES = 64
LAYOUT = 2
# More than any machine computes at a time: the answer is how many lanes there can be.
MANY_LANES = 4_096


@dataclass(frozen=True)
class Part:
    """What is rehearsed of a job.

    Attributes:
        model: the folder, which was checked (:func:`jobs.model_store.folder.check_model`).
        files: JSON Lines, each with the SHA-256 of its content.
    """

    model: Path
    prompt_format: PromptFormat
    template: TemplateSettings
    files: tuple[tuple[Path, str], ...]


@dataclass(frozen=True)
class Layer:
    """A layer that can be adapted.

    Attributes:
        name: in the whole model, as an adapter's arrays are named after it.
        experts: of a mixture, how many; else None.
        bits: of each number of a quantized weight; else None.
    """

    name: str
    outputs: int
    inputs: int
    experts: int | None = None
    bits: int | None = None

    def arrays(self, lora: LoraConfig) -> dict[str, TensorEntry]:
        """Return what an adapter of this layer holds, as mlx-lm makes it."""
        rank = lora.rank
        shapes: dict[str, tuple[int, ...]]
        shapes = {"lora_a": (self.inputs, rank), "lora_b": (rank, self.outputs)}
        if lora.kind == "dora":
            shapes["m"] = (self.outputs,)
        if self.experts is not None:
            shapes = {
                "lora_a": (self.experts, rank, self.inputs),
                "lora_b": (self.experts, self.outputs, rank),
            }
        return {f"{self.name}.{part}": TensorEntry("F32", shapes[part]) for part in shapes}


@dataclass(frozen=True)
class ModelFacts:
    """What a rehearsal finds of a model.

    Attributes:
        remarks: what a person should know of the prompts that its template writes.
        layers: number of each block -> path within it -> the layer there.
        unbatched: why it cannot be evaluated; None where it can.
        device: what would train it here, with all lanes that there can be.
    """

    remarks: tuple[str, ...]
    layers: dict[int, dict[str, Layer]]
    unbatched: str | None
    device: Device


@dataclass(frozen=True)
class Rehearsed:
    """What a rehearsal found.

    Attributes:
        lengths: of the examples in each file, in tokens; in the order of :attr:`Part.files`.
    """

    model: ModelFacts
    lengths: tuple[list[Length], ...]


def rehearse(parts: Sequence[Part], workspace: Workspace) -> list[Rehearsed]:
    """Return what rehearsals of ``parts`` find; what was found before is not done again.

    Raises:
        InvalidInput: a file, the tokenizer, its template or the model cannot be used; the message
            is the job's.
        JobFailed: the process could not be started, did not end, or ended without an answer.
    """
    known = [_known(part, workspace) for part in parts]
    missing = [part for part, found in zip(parts, known, strict=True) if found is None]
    made = iter(_ask(missing, workspace) if missing else ())
    return [found or next(made) for found in known]


def _ask(parts: Sequence[Part], workspace: Workspace) -> list[Rehearsed]:
    question = {"workspace": str(workspace.root), "parts": [_plain(part) for part in parts]}
    try:
        answer = ask_apart("jobs.rehearsal", question, LONGEST_SECONDS)
    except UnansweredError as error:
        models = ", ".join(sorted({part.model.name for part in parts}))
        raise JobFailed(
            f"The process that checks {models} and the data with MLX gave no answer: {error}.",
            "Nothing was queued. Try again; if it happens again: farense doctor",
        ) from error
    return [
        Rehearsed(_facts_from(model), tuple([Length(*pair) for pair in file] for file in lengths))
        for model, lengths in answer
    ]


def _known(part: Part, workspace: Workspace) -> Rehearsed | None:
    """Return what earlier rehearsals found; None where any of it is not kept."""
    lengths = [
        kept_lengths(digest, part.model, part.prompt_format, workspace.token_cache, part.template)
        for _, digest in part.files
    ]
    whole = tuple(found for found in lengths if found is not None)
    facts = _kept_facts(part, workspace) if len(whole) == len(lengths) else None
    return None if facts is None else Rehearsed(facts, whole)


def _kept_facts(part: Part, workspace: Workspace) -> ModelFacts | None:
    file = _file(part, workspace)
    try:
        facts = _facts_from(read_json(file))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # torn: made anew
        return None
    with contextlib.suppress(OSError):  # it was used
        os.utime(file)
    return facts


def _file(part: Part, workspace: Workspace) -> Path:
    settings = asdict(part.template) | {"prompt_format": part.prompt_format}
    del settings["date"]  # nothing that is said depends on which day it is
    inputs: dict[str, bytes | str] = {
        "layout": str(LAYOUT),
        "prompt settings": caches.mapping_input(settings),
        "model files": caches.model_files_input(part.model, ()),
        "fingerprint": fingerprint(part.model),
        "machine": f"{platform.node()} {platform.machine()} {_memory()}",
        "packages": caches.packages_input(("mlx", *PACKAGES)),
        "code": _code(),
    }
    return workspace.rehearsals / f"{caches.key_of(caches.REHEARSALS, inputs)}.json"


@functools.cache
def _code() -> bytes:
    return caches.code_input()


def _memory() -> int:
    """Return the bytes of memory that the machine has; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 0


def _plain(part: Part) -> dict[str, Any]:
    return {
        "model": str(part.model),
        "prompt_format": part.prompt_format,
        "template": asdict(part.template),
        "files": [(str(path), digest) for path, digest in part.files],
    }


def _part_from(values: dict[str, Any]) -> Part:
    return Part(
        Path(values["model"]),
        cast(PromptFormat, values["prompt_format"]),
        TemplateSettings(**values["template"]),
        tuple((Path(path), digest) for path, digest in values["files"]),
    )


def _facts_from(values: dict[str, Any]) -> ModelFacts:
    device = values["device"]
    return ModelFacts(
        remarks=tuple(values["remarks"]),
        layers={
            int(block): {path: Layer(**layer) for path, layer in layers.items()}
            for block, layers in values["layers"].items()
        },
        unbatched=values["unbatched"],
        device=Device(**{**device, "memory": tuple(device["memory"])}),
    )


# From here on: in the process of its own.


def _answers(question: dict[str, Any]) -> list[tuple[dict[str, Any], list[list[list[int]]]]]:
    workspace = Workspace(Path(question["workspace"]))
    return [_rehearsed(_part_from(values), workspace) for values in question["parts"]]


def _rehearsed(part: Part, workspace: Workspace) -> tuple[dict[str, Any], list[list[list[int]]]]:
    from jobs.data.token_cache import encoded  # noqa: PLC0415
    from jobs.model.load import load_tokenizer  # noqa: PLC0415 - takes two seconds

    tokenizer = functools.cache(partial(load_tokenizer, part.model, part.template))
    lengths = []
    for path, digest in part.files:
        style, cache = part.prompt_format, workspace.token_cache
        rows = encoded(path, digest, part.model, style, tokenizer, cache, part.template)
        lengths.append([list(astuple(Length.of(row))) for row in rows])
    facts = _kept_facts(part, workspace)
    if facts is None:
        facts = _found(part, tokenizer())
        file = _file(part, workspace)
        with contextlib.suppress(WorkspaceError, OSError):  # found again the next time
            file.parent.parent.mkdir(mode=0o700, exist_ok=True)
            write_json(file, _facts_plain(facts))
            keep_newest(file.parent, KEPT_FILES)
    return _facts_plain(facts), lengths


def _found(part: Part, tokenizer: Any) -> ModelFacts:
    from jobs.backend.device import this_device  # noqa: PLC0415 - as above
    from jobs.data.prompt_check import prompt_warnings  # noqa: PLC0415
    from jobs.errors import ModelError  # noqa: PLC0415
    from jobs.evaluation.generation import check_batching  # noqa: PLC0415
    from jobs.model.load import adaptable, load_module  # noqa: PLC0415

    remarks = prompt_warnings(tokenizer, part.prompt_format)
    module = load_module(part.model)
    unbatched = None
    try:
        check_batching(module)
    except ModelError as error:
        unbatched = error.message
    names = {id(layer): name for name, layer in module.named_modules()}
    layers = {
        block: {path: _layer(names[id(layer)], layer) for path, layer in within.items()}
        for block, within in adaptable(module.layers).items()
    }
    return ModelFacts(remarks, layers, unbatched, this_device(MANY_LANES))


def _layer(name: str, layer: Any) -> Layer:
    """Return the shape of a layer as LoRA sees it: a quantized weight holds several numbers."""
    from jobs.backend.mlx import QuantizedSwitchLinear, SwitchLinear, nn  # noqa: PLC0415 - as above

    if isinstance(layer, SwitchLinear | QuantizedSwitchLinear):
        return Layer(name, layer.output_dims, layer.input_dims, layer.num_experts)
    outputs, inputs = layer.weight.shape
    if isinstance(layer, nn.QuantizedLinear):
        return Layer(name, outputs, inputs * 32 // layer.bits, bits=layer.bits)
    return Layer(name, outputs, inputs)


def _facts_plain(facts: ModelFacts) -> dict[str, Any]:
    values = asdict(facts)
    values["layers"] = {str(block): layers for block, layers in values["layers"].items()}
    return values


if __name__ == "__main__":
    sys.exit(tell(_answers))
