"""What is in a model's weight files, told by their whole content and remembered."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from jobs.model_store.folder import WEIGHTS
from jobs.storage.files import read_json, sha256_of, write_json


def weights_digest(model: Path, memory: Path) -> str:
    """Return a SHA-256 over all weight files of a model folder.

    Reading gigabytes takes seconds, so each file's digest is remembered in ``memory`` for as long
    as its size and times stay the same.
    """
    known = _known(memory)
    digests = {}
    for file in sorted(model.glob(WEIGHTS)):
        found = file.stat()
        mark = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
        entry = known.get(str(file), {})
        if entry.get("mark") != mark:
            entry = {"mark": mark, "sha256": sha256_of(file)}
        digests[str(file)] = entry
    if any(known.get(name) != entry for name, entry in digests.items()):
        write_json(memory, known | digests)
    parts = [f"{Path(name).name}:{entry['sha256']}" for name, entry in digests.items()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _known(memory: Path) -> dict[str, Any]:
    try:
        known = read_json(memory)
    except (OSError, ValueError):
        return {}
    entries = known.items() if isinstance(known, dict) else ()
    return {name: entry for name, entry in entries if isinstance(entry, dict)}
