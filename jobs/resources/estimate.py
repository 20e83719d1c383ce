"""What a run will take, estimated before it exists: from the headers of its model and its config.

The weights are counted. What a step takes beside them follows from a formula that was fitted to
SmolLM2-135M on a CPU (within a tenth, 4 to 16 adapted blocks, 1,000 tokens at most; an eighth too
much at 2,000, where attention adds nothing that grows with the square): elsewhere it is the right
order of magnitude, no more. What DoRA takes besides is counted, and measured there.
Sizes are in bytes. Imports no MLX.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from jobs.config.config import LoraConfig, TrainConfig, config_from
from jobs.config.lora_keys import reached
from jobs.data.lengths import Length
from jobs.errors import ConfigError, FarenseError
from jobs.model.slice_size import SLICE_BYTES, slice_rows
from jobs.model_store.folder import adaptable_layers, read_model
from jobs.model_store.place import name_in_job
from jobs.model_store.size import PlainTensor, plain_tensors
from jobs.paths import JOB_ID, Workspace
from jobs.prefix.cache import PrefixCache
from jobs.resources.preflight import disk_needed
from jobs.resources.ways import ways
from jobs.spec import read_spec
from jobs.storage.files import sha256_of, whole_lines

# What the memory of a run depends on, beside its data.
MEMORY_SETTINGS = (
    *("model", "prompt_format", "chat_template", "thinking", "mask_prompt", "lora"),
    *("batch_size", "gradient_accumulation"),
    *("max_seq_length", "memory", "grad_checkpoint", "prefix_cache_gb"),
)
# Runs that are looked through for a measured need, the newest first.
RUNS = 50

BLOCK = re.compile(r"\blayers\.(\d+)\.")
DTYPE_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4}
DTYPE_BYTES |= {"F16": 2, "BF16": 2, "I16": 2, "U16": 2}
FLOAT32 = 4
# Fitted: numbers kept for the backward pass, for each token in each adapted block, as a multiple of
# the widths of the states and of the MLP; and for each target that meets the vocabulary at the same
# time, of its size.
PER_WIDTH = 6.0
PER_VOCABULARY = 7.5


@dataclass(frozen=True)
class DataSize:
    """How large the examples are, in tokens.

    Attributes:
        tokens: of all examples, training and validation.
        longest: of one, as far as ``max_seq_length`` lets it.
        learned: which share of the tokens are targets.
    """

    tokens: int
    longest: int
    learned: float

    @classmethod
    def of(cls, files: Sequence[Sequence[Length]], config: TrainConfig) -> DataSize:
        """Return how large the examples of files are, training first, once they are cut."""
        limit = config.max_seq_length
        kept = [[row for row in rows if row.completion_start < limit] for rows in files]
        sizes = [[min(row.whole, limit) for row in rows] for rows in kept]
        targets: float = sum(sizes[0]) - len(kept[0])
        if config.loss_on != "everything":
            # Of an example that is cut, answers are taken to lie evenly behind the first prompt.
            targets = sum(
                row.learned
                * (min(row.whole, limit) - row.completion_start)
                / (row.whole - row.completion_start)
                for row in kept[0]
            )
        learned = targets / max(1, sum(sizes[0]))
        return cls(sum(map(sum, sizes)), max(sizes[0], default=0), learned)


@dataclass(frozen=True)
class Needs:
    """What a run will take.

    Attributes:
        weights: all weights, as they are held in memory.
        kept: those that every step needs: the adapted blocks and the head.
        step: what training steps take beside the weights.
        adapter, state: the arrays of the adapter; those of the optimizer and of the gradients.
        cache: the prefix states of all examples on disk; 0 where no block is frozen.
    """

    weights: int
    kept: int
    step: int
    adapter: int
    state: int
    cache: int

    def memory(self, *, cached: bool) -> int:
        """Return the most memory that is held at once; ``cached``: with a prefix cache.

        The cache is filled with all weights in memory, before the first step.
        """
        trained = self.adapter + self.state
        if not cached:
            return self.weights + trained + self.step
        return trained + max(self.weights, self.kept + self.step)


def estimate(
    path: Path, config: TrainConfig, data: DataSize, *, as_stored: bool, lanes: int
) -> Needs:
    """Return what a run of ``config`` will take.

    Args:
        path: the model folder.
        data: of the preset.
        as_stored: quantized weights stay as they are; on a CPU all weights become float32.
        lanes: how many micro-batches are computed at the same time.

    Raises:
        ModelError: the folder holds no whole model.
    """
    description, tensors = read_model(path)
    plain = plain_tensors(tensors, description)
    weights = (
        {name: entry.elements * DTYPE_BYTES.get(entry.dtype, 1) for name, entry in tensors.items()}
        if as_stored
        else {name: FLOAT32 * tensor.elements for name, tensor in plain.items()}
    )
    blocks = 1 + max(
        (number for name in tensors if (number := _block(name)) is not None), default=0
    )
    boundary = max(0, blocks - config.lora.num_layers)
    shapes = _adapted_shapes(config.lora, boundary, plain, description)
    adapter = FLOAT32 * sum(_parameters(config.lora, shape) for shape in shapes)
    # DoRA keeps what each layer gives, for the gradient of its magnitudes.
    kept = sum(shape[-2] for shape in shapes) if config.lora.kind == "dora" else 0
    hidden, number_bytes = _setting(description, "hidden_size"), 2 if as_stored else FLOAT32
    return Needs(
        weights=sum(weights.values()),
        kept=_kept(weights, boundary) if boundary else sum(weights.values()),
        step=lanes * _step(description, config, data, number_bytes, kept),
        adapter=adapter,
        state=(2 + lanes) * adapter,
        cache=data.tokens * hidden * number_bytes if boundary else 0,
    )


def estimate_within(
    path: Path,
    config: TrainConfig,
    data: DataSize,
    plain: Needs,
    *,
    as_stored: bool,
    lanes: int,
    most: int | None,
) -> Needs:
    """Return what a run will take that chooses its way of computing by the memory there is.

    Args:
        plain: what it takes in the plain way, as :func:`estimate` returns it.
        most: the memory, bytes; None where that is not known.

    Returns:
        That of the first way that fits, else of the last, which takes least.
    """
    cached = plain.cache > 0 and config.prefix_cache_gb != 0
    tried = [plain]
    for way in ways(lanes, config.grad_checkpoint)[1:]:
        if most is None or tried[-1].memory(cached=cached) <= most:
            return tried[-1]
        changed = config.model_copy(update={"grad_checkpoint": way.again})
        tried.append(estimate(path, changed, data, as_stored=as_stored, lanes=way.streams))
    return tried[-1]


def _step(
    description: Mapping[str, Any],
    config: TrainConfig,
    data: DataSize,
    number_bytes: int,
    outputs: int,
) -> int:
    """Return what one micro-batch of the longest examples takes.

    Args:
        outputs: numbers that all adapted layers together keep for each token.
    """
    tokens = config.batch_size * data.longest
    hidden = _setting(description, "hidden_size")
    block = PER_WIDTH * (hidden + _setting(description, "intermediate_size"))
    layers = config.lora.num_layers
    # Checkpointed blocks keep what enters them, and one of them at a time the rest.
    kept = block + layers * hidden if config.grad_checkpoint else layers * block
    kept += outputs / layers if config.grad_checkpoint else outputs
    vocabulary = _setting(description, "vocab_size")
    rows = slice_rows(math.ceil(tokens * data.learned), vocabulary, SLICE_BYTES)
    logits = PER_VOCABULARY * min(tokens * data.learned, rows) * vocabulary
    return int(tokens * number_bytes * kept + FLOAT32 * logits)


def _kept(weights: Mapping[str, int], boundary: int) -> int:
    """Return the bytes of all above the boundary; an embedding counts where it is the head too."""
    tied = not any("lm_head" in name for name in weights)
    return sum(
        size
        for name, size in weights.items()
        if (tied or "embed_tokens" not in name) and _above(name, boundary)
    )


def _above(name: str, boundary: int) -> bool:
    block = _block(name)
    return block is None or block >= boundary


def _block(name: str) -> int | None:
    found = BLOCK.search(name)
    return int(found[1]) if found else None


def _adapted_shapes(
    lora: LoraConfig,
    boundary: int,
    plain: Mapping[str, PlainTensor],
    description: Mapping[str, Any],
) -> list[tuple[int, ...]]:
    """Return the shapes of the adapted weights: [out, in], those of experts with more before."""
    blocks = adaptable_layers(description, plain)
    above = {block: layers for block, layers in blocks.items() if block >= boundary}
    try:
        reach = reached(above, lora.keys)
    except ConfigError:
        return []  # told where the keys are checked
    return [
        plain[name].shape
        for path, numbers in reach.adapted.items()
        for number in numbers
        for name in above[number][path]
    ]


def _parameters(lora: LoraConfig, shape: tuple[int, ...]) -> int:
    """Return the numbers in the adapter of a weight."""
    *experts, outputs, inputs = shape
    magnitudes = outputs if lora.kind == "dora" else 0
    return lora.rank * math.prod(experts) * (inputs + outputs) + magnitudes


def _setting(description: Mapping[str, Any], name: str) -> int:
    """Return a number of a model's config; 0 where an architecture calls it otherwise."""
    value = description.get(name)
    return value if isinstance(value, int) else 0


def measured_memory(workspace: Workspace, config: TrainConfig) -> int | None:
    """Return MLX's peak in earlier runs of these settings and data, bytes; None without one."""
    train = sha256_of(workspace.root / config.data.train)
    wanted = {name: getattr(config, name) for name in MEMORY_SETTINGS}
    wanted["model"] = name_in_job(workspace, config.model)
    peaks = []
    for path in _newest_runs(workspace):
        run = workspace.run(path.name)
        try:
            spec = read_spec(run)
            settings = config_from(spec.config, str(run.job))
        except FarenseError:  # of another version, or damaged: it tells nothing
            continue
        same = all(getattr(settings, name) == value for name, value in wanted.items())
        if same and spec.train.sha256 == train and run.metrics.exists():
            peaks += [orjson.loads(line).get("memory_mb") or 0 for line in whole_lines(run.metrics)]
    return int(max(peaks, default=0) * 1e6) or None


def _newest_runs(workspace: Workspace) -> list[Path]:
    if not workspace.runs.is_dir():
        return []
    found = [path for path in workspace.runs.iterdir() if JOB_ID.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.name, reverse=True)[:RUNS]


def run_disk_needed(needs: Needs, config: TrainConfig, workspace: Workspace, examples: int) -> int:
    """Return the most that a run, and what it adds to the prefix cache, will hold on disk."""
    cache = PrefixCache(workspace.prefix_cache, config.prefix_cache_gb)
    entries = cache.listing()
    held = sum(entry.bytes for entry in entries)
    # An entry that the budget does not allow is not written; older ones give way to a new one.
    fits = needs.cache <= cache.budget(entries)
    return disk_needed(
        config,
        config.schedule(examples),
        adapter_bytes=needs.adapter,
        state_bytes=needs.state,
        cache_bytes=max(0, needs.cache - held) if fits else 0,
    )
