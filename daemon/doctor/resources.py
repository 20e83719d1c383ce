"""What `farense doctor` looks at for the room of a run: memory and disk, needed and there."""

from __future__ import annotations

from daemon.doctor.findings import Finding, ok, problem, warning
from jobs.config.config import TrainConfig
from jobs.model_store.downloads import DOWNLOADS
from jobs.resources.estimate import Needs
from jobs.resources.out_of_memory import advice
from jobs.resources.preflight import TIGHT, MemoryLimits
from jobs.resources.ways import Room
from jobs.storage.formatting import size_text

TOO_LITTLE_DISK = "Free some space, or lower keep_checkpoints, lora.rank or prefix_cache_gb."


def memory_finding(
    needs: Needs,
    limits: MemoryLimits,
    config: TrainConfig,
    *,
    as_stored: bool,
    measured: int | None,
    plain: Needs | None = None,
) -> Finding:
    """Compare the memory that a run needs with what there is.

    Args:
        needs: estimated, in the way that the run will choose.
        plain: likewise, in the plain way; left out where that is the one.
        measured: the peak of an earlier run of the same settings, bytes; None without one.
    """
    cached = needs.cache > 0 and config.prefix_cache_gb != 0
    needed = measured or needs.memory(cached=cached)
    text = _memory_text(
        needs, needed, cached=cached, as_stored=as_stored, measured=measured is not None
    )
    if plain is not None and plain != needs and measured is None:
        more = size_text(plain.memory(cached=cached))
        text += f"; computed in a slower way, as the plain one would take {more}"
    room = Room(limits, config.memory_bytes)
    if not room.holds(needed):
        return problem(
            "memory",
            f"{text}; that does not fit into {room.text}.",
            f"Take a smaller model. {advice(config.model_dump(), 0)}",
        )
    if limits.available is None:
        return ok("memory", text)
    there = f"{text}; {size_text(limits.available)} available now"
    if needed > TIGHT * limits.available:
        return warning("memory", f"{there}: tight.", advice(config.model_dump(), 0))
    return ok("memory", there)


def _memory_text(
    needs: Needs, needed: int, *, cached: bool, as_stored: bool, measured: bool
) -> str:
    if measured:
        return f"{size_text(needed)}, measured in an earlier run"
    held = "as stored" if as_stored else "as float32, as a CPU needs them"
    stay = f", {size_text(needs.kept)} of them once the prefix cache is filled" if cached else ""
    weights = f"weights {held}: {size_text(needs.weights)}{stay}"
    return f"about {size_text(needed)} (an estimate; {weights})"


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
