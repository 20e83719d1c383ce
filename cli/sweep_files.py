"""Where a sweep file is that somebody names, and what to say where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jobs.errors import ConfigError
from jobs.paths import REPOSITORY, Workspace
from jobs.suggest import nearest

FILES = (".yaml", ".yml")

FOLDER = Path("configs", "sweeps")


def find_file(file: Path) -> Path:
    """Return the sweep file that is named as from here, from the workspace or the repository.

    Raises:
        ConfigError: there is none; the nearest is suggested.
    """
    for path in (file, *(root / file for root in _roots())):
        if path.is_file():
            return path
    known = {path.stem: path for path in known_files()}
    meant = [file.stem] if file.stem in known else nearest(file.stem, known)
    near = [str(known[stem]) for stem in meant]
    hint = f"Did you mean {' or '.join(near)}?" if near else None
    if hint is None and known:
        hint = f"There are: {', '.join(str(path) for path in known.values())}"
    raise ConfigError(f"There is no sweep file {file}.", hint)


def named_file(word: str) -> Path | None:
    """Return the sweep file that somebody may mean who names it as a preset is named."""
    here = Path(f"{word}.yaml")
    if here.is_file():
        return here
    return next((path for path in known_files() if path.stem == word), None)


def known_files() -> Iterator[Path]:
    """Yield the sweep files there are, named as a person would name them."""
    for root in _roots():
        yield from (path.relative_to(root) for path in sorted((root / FOLDER).glob("*.yaml")))


def _roots() -> tuple[Path, Path]:

    return Workspace.current().root, REPOSITORY
