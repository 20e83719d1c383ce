"""The adapter of the lowest validation so far, on disk whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from jobs.backend.mlx import mx
from jobs.storage.files import sync_folder, write_json
from jobs.training.checkpoint import link_or_copy, save_arrays


class BestAdapter:
    """``adapters/``: the best adapter so far, loadable by mlx-lm at any moment.

    Args:
        folder: where it lies.
        config: the content of ``adapter_config.json``.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        self._config = config

    @property
    def weights(self) -> Path:
        """The adapter's file; it exists after its first validation."""
        return self.folder / "adapters.safetensors"

    def save(self, adapter: dict[str, mx.array]) -> None:
        """Replace the adapter, atomically."""
        write_json(self.folder / "adapter_config.json", self._config)
        temporary = self._temporary()
        save_arrays(temporary, adapter)
        self._replace(temporary)

    def restore(self, source: Path | None) -> None:
        """Go back to the adapter in ``source``, or to none."""
        if source is None:
            self.clear()
            return
        write_json(self.folder / "adapter_config.json", self._config)
        temporary = self._temporary()
        link_or_copy(source, temporary)
        self._replace(temporary)

    def clear(self) -> None:
        """Remove the adapter: no validation has been passed."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _temporary(self) -> Path:
        """Return a name that nothing has: writing to a hard link would change a checkpoint."""
        path = self.folder / ".adapters.safetensors"
        path.unlink(missing_ok=True)
        return path

    def _replace(self, temporary: Path) -> None:
        temporary.replace(self.weights)
        # Where both names are links to one file, a rename does nothing and leaves them both.
        temporary.unlink(missing_ok=True)
        sync_folder(self.folder)
