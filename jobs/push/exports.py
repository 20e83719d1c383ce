"""Which export of a job goes to the hub: the newest of its kind that holds its best adapter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import InvalidInput
from jobs.export.folder import marker_of
from jobs.export.kinds import ADAPTER, FUSED, GGUF, GGUF_LORA, PEFT, REQUANTIZED
from jobs.paths import Workspace
from jobs.storage.files import sha256_of

# What `farense export` is told beside the job, of each kind.
OPTIONS: dict[str, tuple[str, ...]] = {
    ADAPTER: (),
    PEFT: ("--peft",),
    FUSED: ("--fuse",),
    REQUANTIZED: ("--fuse", "--requantize"),
    GGUF_LORA: ("--gguf-lora",),
}


def options_of(kind: str) -> tuple[str, ...]:
    """Return what `farense export` is told beside the job to write an export of a kind."""
    if kind in OPTIONS:
        return OPTIONS[kind]
    precision = next(precision for precision, name in GGUF.items() if name == kind)
    return ("--gguf", precision)


@dataclass(frozen=True)
class ExportFolder:
    """A folder that an export wrote.

    Attributes:
        fingerprint: of the base model; empty where nothing says it.
        exported_at: ISO 8601, UTC.
    """

    path: Path
    kind: str
    adapter_sha256: str
    fingerprint: str
    exported_at: str


def current_export(workspace: Workspace, job: str, kind: str) -> ExportFolder | None:
    """Return a job's newest export of a kind that holds its best adapter as it is now, if any.

    Raises:
        InvalidInput: the adapter in it was changed after the export.
    """
    best = sha256_of(workspace.run(job).adapter_weights)
    found = [
        export
        for export in exports_of(workspace, job)
        if export.kind == kind and export.adapter_sha256 == best
    ]
    if not found:
        return None
    newest = max(found, key=lambda export: export.exported_at)
    adapter = newest.path / "adapters.safetensors"
    if kind == ADAPTER and adapter.is_file() and sha256_of(adapter) != best:
        raise InvalidInput(
            f"{adapter} is not the adapter that was exported: it was changed.",
            f"Write it anew: farense export {job} --to {newest.path.name}",
        )
    return newest


def exports_of(workspace: Workspace, job: str) -> Iterator[ExportFolder]:
    """Yield the folders below ``output/`` that are exports of a job."""
    folders = sorted(workspace.output.iterdir()) if workspace.output.is_dir() else []
    for folder in folders:
        marker = {name: str(value) for name, value in marker_of(folder).items()}
        if marker.get("job") == job and not folder.name.startswith("."):
            yield ExportFolder(
                folder,
                marker.get("kind", ""),
                marker.get("adapter_sha256", ""),
                marker.get("model_fingerprint", ""),
                marker.get("exported_at", ""),
            )
