"""A model folder as its tokenizer needs it.

transformers checks all of config.json before it reads a tokenizer, and refuses what mlx-lm trains:
an architecture that it does not know, a field of another type. The tokenizer needs next to nothing
of it: with a tokenizer.json the ids do not depend on it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# By these the tokenizer's class is chosen, and mlx-lm's defaults for some models.
KEPT = ("model_type", "architectures")


@contextmanager
def without_settings(folder: Path) -> Iterator[Path]:
    """Yield a folder with the same files, and of config.json what a tokenizer needs.

    Args:
        folder: of a model, with a tokenizer.json.
    """
    with tempfile.TemporaryDirectory(prefix="tokenizer-") as name:
        copy = Path(name)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kept = {key: config[key] for key in KEPT if key in config}
        (copy / "config.json").write_text(json.dumps(kept), encoding="utf-8")
        for file in folder.resolve().iterdir():
            if file.suffix != ".safetensors" and file.name != "config.json" and file.is_file():
                (copy / file.name).symlink_to(file)
        yield copy
