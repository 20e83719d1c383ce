"""What waits to be sent: matters, by the address they go to, kept on disk until they are sent."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon.notify.kinds import NoticeKind
from daemon.notify.matters import Matter
from daemon.runs.private_folder import PRIVATE
from jobs.errors import WorkspaceError
from jobs.storage.files import read_json, write_json
from jobs.storage.values import well_typed


@dataclass(frozen=True)
class Unsent:
    """A matter that waits for an address.

    Attributes:
        kind: as what it goes there.
        path: its file; whoever has sent it removes that.
    """

    kind: NoticeKind
    matter: Matter
    path: Path


@dataclass
class Outbox:
    """The matters that wait, in memory, and in a folder so that they survive this process.

    On a full disk they are in memory alone: that is when somebody wants to be told.
    """

    folder: Path
    _waiting: dict[str, dict[str, Unsent]] = field(default_factory=dict)

    def load(self) -> None:
        """Take up what an earlier process has left."""
        with suppress(OSError):
            for place in sorted(self.folder.iterdir()):
                for path in sorted(place.iterdir()):
                    if path.suffix == ".json" and (found := _read(path)) is not None:
                        self._waiting.setdefault(place.name, {})[found.matter.id] = found

    def add(self, address: str, kind: NoticeKind, matter: Matter) -> None:
        """Let a matter wait for an address, by its key."""
        place = self.folder / address
        waiting = Unsent(kind, matter, place / f"{matter.id}.json")
        self._waiting.setdefault(address, {})[matter.id] = waiting
        with suppress(OSError, WorkspaceError):
            place.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            write_json(waiting.path, {"kind": str(kind), "matter": matter.as_dict()})

    def of(self, address: str) -> list[Unsent]:
        """Return what waits for an address, oldest first."""
        return sorted(self._waiting.get(address, {}).values(), key=lambda w: w.matter.id)

    def addresses(self) -> Iterator[str]:
        """Yield the keys of the addresses that something waits for."""
        yield from [address for address, waiting in self._waiting.items() if waiting]

    def remove(self, address: str, done: Iterable[Unsent]) -> None:
        """Let matters wait no longer."""
        for waiting in done:
            self._waiting.get(address, {}).pop(waiting.matter.id, None)
            with suppress(OSError):
                waiting.path.unlink(missing_ok=True)

    def drop(self, address: str) -> None:
        """Forget all that waits for an address that is no more."""
        self._waiting.pop(address, None)
        shutil.rmtree(self.folder / address, ignore_errors=True)


def waiting_for(folder: Path, address: str) -> int:
    """Return how many matters wait on disk for an address."""
    with suppress(OSError):
        return sum(path.suffix == ".json" for path in (folder / address).iterdir())
    return 0


def _read(path: Path) -> Unsent | None:
    """Return what a file holds; None where it cannot be made sense of: then it is removed."""
    try:
        values: Any = read_json(path)
        entry = {**values["matter"], "kinds": tuple(map(NoticeKind, values["matter"]["kinds"]))}
        matter = Matter(**entry)
        if not well_typed(matter):
            raise TypeError("not a matter")
        return Unsent(NoticeKind(values["kind"]), matter, path)
    except OSError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        path.unlink(missing_ok=True)
        return None
