"""mlx-lm without what training does not need: its tokenizers come when one is loaded.

``import mlx_lm`` imports transformers and the client of the hub: two thirds of what importing all
that a training child needs took (1.9 s; 0.5 s without), and nothing of it is used where the tokens
are cached. So the parts that compute are imported with stand-ins in the place of the rest, which
are gone afterwards: whoever then imports ``mlx_lm`` or a part of it finds the real one, only later.
Where mlx-lm is not built as expected it is imported whole.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

PARTS = (
    "mlx_lm.models.activations",
    "mlx_lm.models.base",
    "mlx_lm.models.llama",
    "mlx_lm.tuner.lora",
    "mlx_lm.utils",
)
# Their own __init__ imports everything.
PACKAGES = ("mlx_lm", "mlx_lm.tuner")
TOKENIZERS, HUB = "mlx_lm.tokenizer_utils", "huggingface_hub"


def load_parts() -> bool:
    """Import what computes; False where it was not possible without the rest."""
    if "mlx_lm" in sys.modules:
        return False
    # As mlx_lm does before it imports transformers, which else says that it misses PyTorch.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        with _stand_ins():
            for name in PARTS:
                importlib.import_module(name)
    except (ImportError, AttributeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "mlx_lm"]:
            del sys.modules[name]
        return False
    return True


class _LatePackage(ModuleType):
    """A package whose ``__init__`` runs when something is first asked of it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__version__":
            raise AttributeError(name)
        # From now on an ordinary module: what runs next asks it for more.
        self.__class__ = ModuleType  # type: ignore[assignment]  # of the same layout
        assert self.__spec__ is not None  # noqa: S101 - made from it
        assert self.__spec__.loader is not None  # noqa: S101
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Let imports find stand-ins; those of modules that are not packages go at the end."""
    for name in PACKAGES:
        sys.modules[name] = _late(name)
    tokenizers = ModuleType(TOKENIZERS)
    vars(tokenizers).update(TokenizerWrapper=object, load=_load_tokenizer)
    found = {name: sys.modules.get(name) for name in (TOKENIZERS, HUB)}
    sys.modules[TOKENIZERS] = tokenizers
    if found[HUB] is None:
        hub = ModuleType(HUB)
        vars(hub)["snapshot_download"] = _snapshot_download
        sys.modules[HUB] = hub
    try:
        yield
    finally:
        for name, module in found.items():
            if module is None:
                del sys.modules[name]


def _late(name: str) -> _LatePackage:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None or spec.submodule_search_locations is None:
        raise ImportError(f"{name} is no package")
    package = _LatePackage(name)
    package.__spec__, package.__file__ = spec, spec.origin
    package.__loader__, package.__package__ = spec.loader, name
    package.__path__ = spec.submodule_search_locations
    return package


def _load_tokenizer(*arguments: Any, **options: Any) -> Any:
    """Do what :func:`mlx_lm.tokenizer_utils.load` does."""
    return importlib.import_module(TOKENIZERS).load(*arguments, **options)


def _snapshot_download(*arguments: Any, **options: Any) -> Any:
    """Do what :func:`huggingface_hub.snapshot_download` does."""
    return importlib.import_module(HUB).snapshot_download(*arguments, **options)
