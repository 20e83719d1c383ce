"""From a training job to folders below ``output/`` that other programs load."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from jobs.config.config import TrainConfig, config_from
from jobs.errors import InvalidInput, ModelError
from jobs.export.card import Card, write_card
from jobs.export.folder import (
    MARKER,
    check_name,
    check_space,
    check_target,
    export_name,
    exporting,
    free_name,
    owner_of,
    replacing,
)
from jobs.export.fuse import FusedModel, fused_model
from jobs.export.ggufs import Ggufs, gguf_file
from jobs.export.kinds import (
    ADAPTER,
    FUSED,
    GGUF,
    GGUF_LORA,
    OLLAMA,
    PEFT,
    REQUANTIZED,
    SUFFIXES,
    Exported,
    ExportRequest,
    as_told,
)
from jobs.export.losses import adapter_loss, fits_memory, model_loss
from jobs.export.ollama import MODELFILE, modelfile_text, named_base
from jobs.export.peft import check_peft, write_peft
from jobs.export.prompting import prompting_of
from jobs.export.verify import Verifier
from jobs.gguf.ask_llama import llama_python
from jobs.model.adapter import TrainedAdapter, read_adapter
from jobs.model.adapter_fit import fresh_adapter
from jobs.model_store.folder import check_unchanged
from jobs.past_run import PastRun, read_run
from jobs.paths import Workspace
from jobs.spec import JobSpec
from jobs.state import now
from jobs.storage.files import write_atomic, write_json
from jobs.storage.formatting import size_text

VERSION = 1
# The card, the configuration and the marker, on disk.
SMALL_BYTES = 1_000_000


def export(
    workspace: Workspace,
    spec: JobSpec,
    wanted: ExportRequest,
    report: Callable[[str], None],
    warn: Callable[[str], None],
) -> Iterator[Exported]:
    """Write a training job's best adapter, and what else is wanted; yield each folder once whole.

    Args:
        report: told each long stage, in a line for people.
        warn: told what a person should know.

    Raises:
        InvalidInput: the job has no adapter, its model is not here or has changed or cannot be
            written as wanted, or there is something else in the place of an export.
        WorkspaceError: there is no room, or a folder cannot be written.
    """
    return Export(workspace, spec, wanted, report, warn).run()


class Export:
    """What one export works with; see :func:`export`."""

    def __init__(
        self,
        workspace: Workspace,
        spec: JobSpec,
        wanted: ExportRequest,
        report: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        self.workspace, self.spec, self.report, self.warn = workspace, spec, report, warn
        self.wanted = wanted
        self.config: TrainConfig = config_from(spec.config, f"job.json of {spec.id}")
        self.model = workspace.model(self.config.model)
        self.output = workspace.inside(workspace.output.name)
        self.stem = check_name(wanted.name or self._usual_name())
        self.targets = {kind: self.output / (self.stem + SUFFIXES[kind]) for kind in wanted.kinds}
        self._check_targets()
        if wanted.verify:
            llama_python()
            if spec.valid is None:
                raise InvalidInput(f"{spec.id} has no validation set to --verify with.")
        check_unchanged(self.model, spec.model_fingerprint)
        self.prompting = prompting_of(workspace, spec, self.config)
        self.modelfile = ""
        if wanted.ollama is not None:
            self.modelfile = modelfile_text(workspace, spec, *self._ollama_weights())
        self.past: PastRun = read_run(workspace.run(spec.id).path)
        self.adapter: TrainedAdapter = read_adapter(workspace.run(spec.id))
        # An export is handed on: other programs load a part of an adapter without a word.
        self.adapter.fitting(fresh_adapter(self.model, self.config.lora))

    def run(self) -> Iterator[Exported]:
        """Write everything; yield each folder once it has its name."""
        with exporting(self.workspace, list(self.targets.values())):
            self._check_targets()
            self._warn_of_others()
            if self.wanted.peft:
                check_peft(self.adapter)
            fused = self._fused() if self.wanted.fuse else None
            ggufs = Ggufs(self.model, self.config, self.adapter, self.wanted)
            adapters = (1 + self.wanted.peft) * len(self.adapter.content)
            size = adapters + len(self.targets) * SMALL_BYTES + (fused.bytes if fused else 0)
            check_space(self.output, size + ggufs.bytes)
            for kind, target in self.targets.items():
                yield self._write(kind, target, fused, ggufs)

    def _usual_name(self) -> str:
        name = export_name(self.model.name, self.spec.preset)
        return name if self.wanted.force else free_name(self.output, name, self.spec.id)

    def _check_targets(self) -> None:
        for kind, target in self.targets.items():
            check_target(target, self.spec.id, kind, force=self.wanted.force)

    def _warn_of_others(self) -> None:
        """Tell of folders that bear the name of this export and stay another job's."""
        beside = (self.output / (self.stem + suffix) for suffix in SUFFIXES.values())
        for folder in beside:
            owner = None if folder in self.targets.values() else owner_of(folder)
            if owner not in (None, self.spec.id):
                self.warn(f"{folder} stays as it is: the export of another job, {owner}.")

    def _fused(self) -> FusedModel:
        return fused_model(
            self.model, self.config.lora, self.adapter, requantize=self.wanted.requantize
        )

    def _write(self, kind: str, target: Path, fused: FusedModel | None, ggufs: Ggufs) -> Exported:
        found = Exported(kind, str(target), self.spec.id, self.adapter.sha256)
        with replacing(target) as folder:
            if kind == ADAPTER:
                write_atomic(folder / "adapters.safetensors", self.adapter.content)
                settings = self.adapter.settings | {"model": self.config.model}
                write_json(folder / "adapter_config.json", settings)
            elif kind == PEFT:
                write_peft(folder, self.adapter, self.config.lora, self.config.model)
            elif kind == OLLAMA:
                write_atomic(folder / MODELFILE, self.modelfile.encode())
            elif kind in (GGUF_LORA, *GGUF.values()):
                found = self._write_gguf(folder, found, ggufs)
            elif fused is not None:
                found = self._write_fused(folder, found, fused)
            return self._finish(folder, found)

    def _ollama_weights(self) -> tuple[str, str | None]:
        """Return what ``FROM`` and ``ADAPTER`` name, by paths from the Modelfile's folder."""
        if self.wanted.ollama_base is not None:
            return named_base(self.wanted.ollama_base), self._beside(GGUF_LORA)
        if self.wanted.gguf:
            return self._beside(GGUF[self.wanted.gguf[0]]), None
        return f"../{self.targets[FUSED].name}", None

    def _beside(self, kind: str) -> str:
        return f"../{self.targets[kind].name}/{gguf_file(self.stem, kind)}"

    def _write_fused(self, folder: Path, found: Exported, fused: FusedModel) -> Exported:
        """Write a fused model and measure it beside the adapter."""
        size = fused.bytes
        self.report("Measuring the adapter's validation loss ...")
        beside = adapter_loss(self.workspace, self.spec, self.adapter, self.warn)
        self.report(f"Writing {size_text(size)} of weights ({_form(found.kind, fused.dtype)}) ...")
        fused.write(folder)
        loss = None
        if not fits_memory(size):
            self.warn(
                "The fused model's loss was not measured: it needs more memory than there is."
            )
        elif beside is not None:
            self.report("Measuring the fused model's validation loss ...")
            model = Path(self.workspace.output.name, folder.name)
            loss = model_loss(self.workspace, self.spec, str(model), self.warn)
        found = replace(
            found, dtype=fused.dtype, validation_loss=loss, adapter_validation_loss=beside
        )
        if found.moved_too_far:
            self.warn(
                f"Fusing moved the validation loss by {found.moved:+.4f} nats, from {beside:.4f} "
                f"to {loss:.4f}. {_why(found.kind)}"
            )
        return found

    def _write_gguf(self, folder: Path, found: Exported, ggufs: Ggufs) -> Exported:
        """Write a GGUF and, where that is wanted, let llama.cpp compute with it."""
        size = ggufs.bytes_of(found.kind)
        self.report(f"Writing {size_text(size)} of weights ({found.kind}) ...")
        found = replace(found, file=ggufs.write(folder, found.kind, self.stem))
        if not self.wanted.verify:
            return found
        try:
            verifier = self._verifier
            self.report("Letting llama.cpp compute with it ...")
            return replace(found, verified=ggufs.verify(folder, found, verifier))
        except (InvalidInput, ModelError) as error:
            # What was written is whole, and another version may compute with it.
            self.warn(f"{found.file} was not verified: {error.message}")
            return found

    @functools.cached_property
    def _verifier(self) -> Verifier:
        """What farense computes, to compare GGUFs with: once for all of them."""
        self.report("Measuring the adapter's validation loss ...")
        own = adapter_loss(self.workspace, self.spec, self.adapter, self.warn)
        if own is None:
            raise InvalidInput("the job's validation set is not here any more.")
        return Verifier(self.workspace, self.spec, self.config, self.adapter, self.past, own)

    def _finish(self, folder: Path, found: Exported) -> Exported:
        """Add the card and the marker, which makes the folder an export."""
        name = self.wanted.ollama if found.kind == OLLAMA else None
        write_card(folder, Card(self.past, self.spec, self.config, found, self.prompting, name))
        size = sum(file.stat().st_size for file in folder.iterdir())
        found = replace(found, bytes=size)
        # No path of this machine: an export may be handed on.
        marker = as_told(found) | {"folder": Path(found.folder).name, "exported_at": now()}
        # By which a training that starts from it knows its model.
        marker["model_fingerprint"] = self.spec.model_fingerprint
        if name is not None:
            marker["ollama"] = name
        write_json(folder / MARKER, {"version": VERSION, **marker})
        return found


def _form(kind: str, dtype: str) -> str:
    return f"{dtype}, not quantized" if kind == FUSED else "quantized again"


def _why(kind: str) -> str:
    if kind == REQUANTIZED:
        return "Quantizing again loses a part of the adapter: fuse without --requantize."
    return "Serve the adapter beside its base model instead."
