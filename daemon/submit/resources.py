"""Whether this machine has the room that a run will take, asked before the run is queued.

Refused is what cannot fit: the same comparison as in the job, with what is counted and not
estimated. What an estimate says, and what is tight, is told.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from jobs.backend.device import Device
from jobs.config.config import LoraConfig, TrainConfig
from jobs.config.lora_keys import Reach, check_dora, check_num_layers, reached
from jobs.errors import InvalidInput, WorkspaceError
from jobs.model_store.place import model_folder
from jobs.model_store.safetensors_header import TensorEntry
from jobs.paths import Workspace
from jobs.rehearsal import Rehearsed
from jobs.resources.estimate import (
    FLOAT32,
    MEMORY_SETTINGS,
    DataSize,
    Needs,
    estimate,
    estimate_within,
    measured_memory,
    run_disk_needed,
)
from jobs.resources.out_of_memory import advice
from jobs.resources.preflight import TIGHT, compare_disk, memory_limits
from jobs.resources.ways import Room
from jobs.storage.files import free_bytes
from jobs.storage.formatting import size_text

# What the room that a run takes depends on.
ROOM_SETTINGS = (
    *MEMORY_SETTINGS,
    *("data", "num_epochs", "max_steps", "eval_steps", "log_steps", "keep_checkpoints"),
)
MOMENTS = 2


@dataclass(frozen=True)
class RunUse:
    """What a job's process will do with its model.

    Attributes:
        trains: it trains it, and writes checkpoints.
        answers: it answers questions with it, now or in an evaluation afterwards.
    """

    trains: bool = True
    answers: bool = False


def check_room(
    config: TrainConfig,
    workspace: Workspace,
    found: Rehearsed,
    reach: Reach,
    use: RunUse,
    *,
    shared: bool,
) -> list[str]:
    """Return what a person should know of the room for a run.

    Args:
        reach: the layers that it adapts.
        shared: another machine may run it: nothing is refused.

    Raises:
        InvalidInput: the weights that are needed at one time are more than this machine's memory.
        WorkspaceError: the disk cannot hold what the run will write.
    """
    device = found.model.device
    lanes = lanes_of(device, config)
    size = DataSize.of(found.lengths, config)
    model = model_folder(workspace, config.model)
    needs = estimate(model, config, size, as_stored=device.as_stored, lanes=lanes)
    arrays = adapter_arrays(found, reach, config.lora).values()
    adapter = FLOAT32 * sum(array.elements for array in arrays)
    needs = replace(needs, adapter=adapter, state=(MOMENTS + lanes) * adapter)
    room = Room(memory_limits(*device.memory), config.memory_bytes)
    least = estimate_within(
        model, config, size, needs, as_stored=device.as_stored, lanes=lanes, most=room.most
    )
    said = _memory(config, workspace, (needs, least), room, use, shared)
    if use.trains:
        said += _disk(config, workspace, needs, len(found.lengths[0]), shared)
    return said


def lanes_of(device: Device, config: TrainConfig) -> int:
    """Return how many micro-batches of a run are computed at the same time."""
    return min(device.lanes, max(config.batch_size, config.gradient_accumulation))


def _memory(
    config: TrainConfig,
    workspace: Workspace,
    ways: tuple[Needs, Needs],
    room: Room,
    use: RunUse,
    shared: bool,
) -> list[str]:
    """Return what to tell of the memory.

    Args:
        ways: what the run takes in the plain way, and in that which it will choose.
    """
    needs, chosen = ways
    whole = room.limits.whole
    if whole is None or room.most is None:
        return []
    hint = f"Take a smaller model. {advice(config.model_dump(), 0)}"
    # Counted, not estimated: a step has these in memory, and an answer takes all the weights.
    step = needs.kept + (1 + MOMENTS) * needs.adapter if use.trains else 0
    least = max(step, needs.weights + needs.adapter if use.answers else 0)
    text = f"The weights that are needed at one time take {size_text(least)} of memory, and"
    if least > whole:
        text = f"{text} this machine gives {size_text(whole)}."
        if not shared:
            raise InvalidInput(text, hint)
        return [f"{text} Another machine has to run it."]
    if step > room.most:
        raise InvalidInput(f"{text} memory: {config.memory} allows less.", hint)
    cached = needs.cache > 0 and config.prefix_cache_gb != 0
    needed = needs.memory(cached=cached)
    if not use.trains or needed <= min(TIGHT * whole, room.most):
        return []
    if measured := measured_memory(workspace, config):
        needed = measured
    if needed <= min(TIGHT * whole, room.most):
        return []
    how = "measured in an earlier run" if measured else "an estimate"
    figures = f"The run takes about {size_text(needed)} of memory ({how})"
    given = f"this machine gives {size_text(whole)}"
    if room.cap is not None and room.cap < whole:
        given = f"memory: {config.memory} allows less"
    if not measured and needed > room.most >= (other := chosen.memory(cached=cached)):
        return [
            f"{figures}, and {given}: it may be computed in a slower way that takes less, about "
            f"{size_text(other)}."
        ]
    verdict = "it may run out of it" if needed > room.most else "that is tight"
    return [f"{figures}, and {given}: {verdict}. {advice(config.model_dump(), 0)}"]


def _disk(
    config: TrainConfig, workspace: Workspace, needs: Needs, examples: int, shared: bool
) -> list[str]:
    free = free_bytes(workspace.runs)
    whole = run_disk_needed(needs, config, workspace, examples)
    without_cache = run_disk_needed(replace(needs, cache=0), config, workspace, examples)
    try:
        warning = compare_disk(workspace.runs, free, whole)
    except WorkspaceError as error:
        # As the job does: the cache is let go first.
        try:
            warning = compare_disk(workspace.runs, free, without_cache)
        except WorkspaceError as without:
            if not shared:
                raise
            return [without.message]
        return [f"It will train without the prefix cache: {error.message}"]
    return [warning] if warning else []


def reach_of(found: Rehearsed, lora: LoraConfig, model: str) -> Reach:
    """Return the layers that a run adapts, by those that mlx-lm's own model has.

    Args:
        model: what to call it.

    Raises:
        ConfigError: it has no such layers, or some that DoRA cannot adapt.
    """
    blocks = found.model.layers
    check_num_layers(lora.num_layers, len(blocks), model)
    reach = reached({n: blocks[n] for n in sorted(blocks)[-lora.num_layers :]}, lora.keys)
    if lora.kind == "dora":
        layers = [(path, blocks[n][path]) for path, on in reach.adapted.items() for n in on]
        check_dora(
            [path for path, layer in layers if layer.experts is not None],
            [(path, layer.bits) for path, layer in layers if layer.bits is not None],
        )
    return reach


def adapter_arrays(found: Rehearsed, reach: Reach, lora: LoraConfig) -> dict[str, TensorEntry]:
    """Return the arrays of the adapter that a run makes, by their names."""
    layers = found.model.layers
    return {
        name: array
        for path, blocks in reach.adapted.items()
        for block in blocks
        for name, array in layers[block][path].arrays(lora).items()
    }
