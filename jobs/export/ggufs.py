"""The GGUFs of an export: each known to be possible before the first is written."""

from __future__ import annotations

from pathlib import Path

from jobs.config.config import TrainConfig
from jobs.errors import InvalidInput
from jobs.export.fuse import base_model, fused_model
from jobs.export.kinds import GGUF, GGUF_LORA, Exported, ExportRequest, Verified
from jobs.export.verify import Verifier
from jobs.gguf.adapter_file import adapter_tensors, write_adapter
from jobs.gguf.model_file import GgufModel
from jobs.gguf.precision import PRECISIONS
from jobs.model.adapter import TrainedAdapter

# The base model that an adapter is verified with, where a person has given none; removed again.
BASE_FILE = "base-model.gguf"
BASE_PRECISION = "f16"


class Ggufs:
    """What an export writes for llama.cpp.

    Args:
        model: the folder of the base model.

    Raises:
        InvalidInput: the base GGUF that was named is none.
        ModelError: llama.cpp does not know the model, its tokenizer, or this kind of adapter.
    """

    def __init__(
        self, model: Path, config: TrainConfig, adapter: TrainedAdapter, wanted: ExportRequest
    ) -> None:
        self._model, self._config, self._adapter = model, config, adapter
        self._base_gguf = wanted.base_gguf
        self._models = {GGUF[precision]: self._fused(precision) for precision in wanted.gguf}
        self._base: GgufModel | None = None
        if wanted.gguf_lora:
            self._base = self._bare()
            adapter_tensors(adapter.arrays, config.lora, self._base.settings)
        self._makes_base = self._base is not None and wanted.verify and not wanted.base_gguf
        if wanted.base_gguf is not None and not _is_gguf(wanted.base_gguf):
            raise InvalidInput(f"{wanted.base_gguf} is no GGUF.")

    @property
    def bytes(self) -> int:
        """What all of them take on disk at once, with what is only needed to verify them."""
        base = self._base.bytes if self._base and self._makes_base else 0
        adapter = len(self._adapter.content) if self._base else 0
        return sum(model.bytes for model in self._models.values()) + adapter + base

    def bytes_of(self, kind: str) -> int:
        """Return what one of them takes on disk."""
        return len(self._adapter.content) if kind == GGUF_LORA else self._models[kind].bytes

    def write(self, folder: Path, kind: str, name: str) -> str:
        """Write one of them into a folder and return the name of its file.

        Raises:
            ModelError: a number is beyond what the precision reaches.
            WorkspaceError: the file cannot be written.
        """
        file = gguf_file(name, kind)
        if kind == GGUF_LORA:
            assert self._base is not None  # noqa: S101 - made where it is wanted
            names = (name, self._model.name)
            arrays, settings = self._adapter.arrays, self._base.settings
            write_adapter(folder / file, arrays, self._config.lora, settings, names)
        else:
            self._models[kind].write(folder / file, name)
        return file

    def verify(self, folder: Path, found: Exported, verifier: Verifier) -> Verified:
        """Let llama.cpp compute with one of them.

        Raises:
            ModelError: llama.cpp does not load it.
            WorkspaceError: there is no room for the base model.
        """
        assert found.file is not None  # noqa: S101 - it was written
        written = folder / found.file
        if found.kind != GGUF_LORA:
            return verifier.check(written, None)
        if self._base_gguf is not None:
            return verifier.check(self._base_gguf, written)
        assert self._base is not None  # noqa: S101 - made where it is wanted
        base = folder / BASE_FILE
        try:
            self._base.write(base, self._model.name)
            return verifier.check(base, written)
        finally:
            base.unlink(missing_ok=True)

    def _fused(self, precision: str) -> GgufModel:
        fused = fused_model(self._model, self._config.lora, self._adapter, requantize=False)
        return GgufModel(self._model, fused.settings, fused.weights, PRECISIONS[precision])

    def _bare(self) -> GgufModel:
        base = base_model(self._model)
        return GgufModel(self._model, base.settings, base.weights, PRECISIONS[BASE_PRECISION])


def _is_gguf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        return False


def gguf_file(name: str, kind: str) -> str:
    """Return the name of the file of an export called ``name``."""
    return f"{name}-{kind.removeprefix('gguf-')}.gguf"
