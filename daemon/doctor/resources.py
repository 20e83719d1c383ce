"""What `farense doctor` looks at for the room of a run: memory and disk, needed and there."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson

from daemon.doctor.findings import Finding, ok, problem, warning
from jobs.config.config import TrainConfig, config_from
from jobs.errors import FarenseError
from jobs.model_store.downloads import DOWNLOADS
from jobs.model_store.place import name_in_job
from jobs.paths import JOB_ID, Workspace
from jobs.prefix.budget import size_text
from jobs.prefix.cache import PrefixCache
from jobs.resources.estimate import Needs
from jobs.resources.out_of_memory import advice
from jobs.resources.preflight import TIGHT, MemoryLimits, disk_needed
from jobs.spec import read_order
from jobs.storage.files import sha256_of, whole_lines

# What the memory of a run depends on, beside its data.
MEMORY_SETTINGS = (
    *("model", "prompt_format", "chat_template", "thinking", "mask_prompt", "lora"),
    *("batch_size", "gradient_accumulation"),
    *("max_seq_length", "grad_checkpoint", "prefix_cache_gb"),
)
# Runs that are looked through for a measured need, the newest first.
RUNS = 50
TOO_LITTLE_DISK = "Free some space, or lower keep_checkpoints, lora.rank or prefix_cache_gb."


def memory_finding(
    needs: Needs, limits: MemoryLimits, config: TrainConfig, *, metal: bool, measured: int | None
) -> Finding:
    """Compare the memory that a run needs with what there is.

    Args:
        needs: estimated.
        measured: the peak of an earlier run of the same settings, bytes; None without one.
    """
    cached = needs.cache > 0 and config.prefix_cache_gb != 0
    needed = measured or needs.memory(cached=cached)
    text = _memory_text(needs, needed, cached=cached, metal=metal, measured=measured is not None)
    if limits.whole is not None and needed > limits.whole:
        return problem(
            "memory",
            f"{text}; this machine gives {size_text(limits.whole)}.",
            f"Take a smaller model. {advice(config.model_dump(), 0)}",
        )
    if limits.available is None:
        return ok("memory", text)
    there = f"{text}; {size_text(limits.available)} available now"
    if needed > TIGHT * limits.available:
        return warning("memory", f"{there}: tight.", advice(config.model_dump(), 0))
    return ok("memory", there)


def _memory_text(needs: Needs, needed: int, *, cached: bool, metal: bool, measured: bool) -> str:
    if measured:
        return f"{size_text(needed)}, measured in an earlier run"
    held = "as stored" if metal else "as float32, as a CPU needs them"
    stay = f", {size_text(needs.kept)} of them once the prefix cache is filled" if cached else ""
    weights = f"weights {held}: {size_text(needs.weights)}{stay}"
    return f"about {size_text(needed)} (an estimate; {weights})"


def measured_memory(workspace: Workspace, config: TrainConfig) -> int | None:
    """Return MLX's peak in earlier runs of these settings and data, bytes; None without one."""
    train = sha256_of(workspace.root / config.data.train)
    wanted = {name: getattr(config, name) for name in MEMORY_SETTINGS}
    wanted["model"] = name_in_job(workspace, config.model)
    peaks = []
    for path in _newest_runs(workspace):
        run = workspace.run(path.name)
        try:
            order = read_order(run)
            settings = config_from(order.config, str(run.job))
        except FarenseError:  # of another version, or damaged: it tells nothing
            continue
        same = all(getattr(settings, name) == value for name, value in wanted.items())
        if same and order.train.sha256 == train and run.metrics.exists():
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


def disk_finding(needed: int, free: int) -> Finding:
    """Compare what a run will hold on disk with what is free."""
    text = f"checkpoints, metrics and cache take up to {size_text(needed)}, {size_text(free)} free"
    if needed > free:
        return problem("disk", f"Not enough: {text}.", TOO_LITTLE_DISK)
    if 2 * needed > free:
        return warning("disk", f"Tight: {text}.", TOO_LITTLE_DISK)
    return ok("disk", text)


def download_finding(name: str, free: int) -> Finding:
    """Tell whether a model that is not here would fit on the disk."""
    there = f"{size_text(free)} free"
    size = DOWNLOADS.get(name)
    if size is None:
        return warning(
            "disk",
            f"{there}; what {name} and its run take is known once it is here.",
            "Get the model, then ask again: farense doctor",
        )
    text = (
        f"{name} is {size_text(size.fetched)} to download and {size_text(size.folder)} in models/; "
        f"pulling it needs {size_text(size.room)} of disk space, {there}"
    )
    if free < size.room:
        return problem("disk", f"{text}.", "Free some space.")
    if free < size.converted:
        return warning(
            "disk",
            f"{text}; fetching its full weights and converting them would need "
            f"{size_text(size.converted)}.",
            "Pull it in 4 bits, or free some space.",
        )
    return ok("disk", text)


def free_bytes(folder: Path) -> int:
    """Return what is free on the disk of a folder, also where it is still to be made."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
