"""The prefix cache: hidden states that depend on the model and the data alone, kept on disk.

``<workspace>/.farense/prefix_cache/<key>/`` holds an entry (``jobs/prefix/entry.py``). There is
one for each data file, model and boundary. One process at a time fills it, as far as its job needs
it, while any number read; the least recently used go, as a whole, when the budget is needed.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from jobs.errors import WorkspaceError
from jobs.prefix.budget import CacheUnusable, entries_to_evict
from jobs.prefix.entry import (
    ENTRY,
    FILLING_LOCK,
    REMOVED,
    DamagedEntry,
    Description,
    Entry,
    Layout,
    Rows,
    read_index,
    take_away,
)
from jobs.prefix.listing import EntryInfo, EntryState, describe
from jobs.prefix.writer import EntryWriter
from jobs.storage.files import explain, write_json
from jobs.storage.locks import FolderLock

FILL_CHUNK = 16
POLL_SECONDS = 0.2
PRIVATE = 0o700
# Without a budget of its own the cache takes this part of what it has and what the disk has free.
DEFAULT_SHARE = 10

Compute = Callable[[Sequence[int]], Sequence[Rows]]
Progress = Callable[[int, int], None]
Stop = Callable[[], str | None]


class FillStopped(Exception):
    """``stop`` gave a reason during a fill, or while another process filled."""


class PrefixCache:
    """The entries in a folder, shared with other processes.

    Args:
        folder: made, for the user alone, when the first entry is filled.
        budget_gb: gigabytes (1e9 bytes) that all entries may take together; None for a tenth of
            what the disk has free and the cache already takes.
    """

    def __init__(self, folder: Path, budget_gb: float | None = None) -> None:
        self.folder = folder
        self._budget_gb = budget_gb

    def open(self, key: str, layout: Layout, wanted: Collection[int]) -> Entry | None:
        """Return an entry that holds ``wanted`` and mark it as used now; None where there is none.

        An entry that is damaged is removed.

        Raises:
            CacheUnusable: the folder cannot be read or written.
        """
        folder = self.folder / key
        if not (folder / ENTRY).exists():
            return None
        with _as_unusable(folder):
            lock = FolderLock.of_folder(folder, shared=True)
            if lock is None:
                return None
            try:
                entry = Entry(folder, lock, layout)
            except DamagedEntry:
                with lock:
                    # Another may have found the damage before, and be filling it anew.
                    if lock.is_current():
                        take_away(folder)
                return None
        if not entry.holds(wanted):
            entry.close()
            return None
        with suppress(OSError):  # removed meanwhile: what is open can still be read
            # The clock of the file system is coarse: two may have been used within its tick.
            used = time.time_ns()
            os.utime(folder / ENTRY, ns=(used, used))
        return entry

    def fill(
        self,
        key: str,
        layout: Layout,
        wanted: Collection[int],
        about: dict[str, str],
        compute: Compute,
        progress: Progress,
        stop: Stop,
    ) -> Entry:
        """Return the entry, computing what of ``wanted`` is not on disk.

        While another process fills it, this waits, and then computes what that one had no need of.

        Args:
            key: of what the states depend on (:mod:`jobs.caches`).
            layout: of the whole data file.
            wanted: the examples that are needed, by their numbers in the file; others stay as they
                are.
            about: for people: ``model``, ``data``, ``boundary``.
            compute: returns the rows of some examples, each of shape [length, row_bytes].
            progress: told after each chunk how many examples are done, and of how many.
            stop: returns why to stop, or None; asked before each chunk and while waiting.

        Raises:
            CacheUnusable: the entry does not fit, or cannot be written.
            FillStopped: ``stop`` gave a reason; what is done stays for the next time.
        """
        folder = self.folder / key
        while True:
            if entry := self.open(key, layout, wanted):
                return entry
            with _as_unusable(folder):
                self._make_folder(key)
                # Shared with those who read: nothing that is in the entry changes.
                lock = FolderLock.of_folder(folder, shared=True)
                filling = lock and FolderLock.of_folder(folder, name=FILLING_LOCK)
            if lock is None or filling is None:
                if lock is not None:
                    lock.release()
                progress(_count_of(folder, layout, wanted), len(wanted))
                _check(stop)
                time.sleep(POLL_SECONDS)
                continue
            with lock, filling:
                held = read_index(folder, layout)
                try:
                    planned = held.keys() | set(wanted)
                    self._make_room(Description.of(key, layout, about, planned), stop)
                    _fill(folder, lock, layout, wanted, compute, progress, stop)
                except CacheUnusable:
                    if not held:
                        _give_up(folder, lock)
                    raise

    def listing(self, *, but: str | None = None) -> list[EntryInfo]:
        """Return all entries, or those with another key than ``but``, the last used first."""
        if not self.folder.is_dir():
            return []
        folders = [path for path in self.folder.iterdir() if path.is_dir() and path.name[0] != "."]
        folders = [path for path in folders if path.name != but]
        found = [info for info in map(describe, folders) if info is not None]
        return sorted(found, key=lambda info: info.last_used, reverse=True)

    def budget(self, entries: Sequence[EntryInfo]) -> int:
        """Return the bytes that all entries may take together; ``entries`` are those of now."""
        return self._budget(sum(entry.bytes for entry in entries))

    def _budget(self, held: int) -> int:
        if self._budget_gb is not None:
            return int(self._budget_gb * 1e9)
        return (_free_bytes(self.folder) + held) // DEFAULT_SHARE

    def clear(self, keys: Iterable[str]) -> list[str]:
        """Remove entries; return the keys of those removed, which leaves those in use out."""
        self._sweep()
        return [key for key in keys if self._remove(key)]

    def _make_folder(self, key: str) -> None:
        # mkdir gives its mode to the last folder of a path only.
        self.folder.parent.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        self.folder.mkdir(mode=PRIVATE, exist_ok=True)
        (self.folder / key).mkdir(mode=PRIVATE, exist_ok=True)

    def _make_room(self, new: Description, stop: Stop) -> None:
        """Evict what has to go for an entry, and claim its bytes."""
        with _as_unusable(self.folder), self._alone(stop):
            self._sweep()
            # Without the new one: to look at what this process holds would wait for its locks.
            others = self.listing(but=new.key)
            for entry in others:
                if entry.state is EntryState.UNUSABLE:
                    self._remove(entry.key)
            others = [entry for entry in others if entry.state is not EntryState.UNUSABLE]
            present = sum(file.stat().st_size for file in (self.folder / new.key).iterdir())
            held = present + sum(entry.bytes for entry in others)
            budget, free = self._budget(held), _free_bytes(self.folder)
            for entry in entries_to_evict(others, new.bytes, present, budget, free):
                if not self._remove(entry.key):
                    raise CacheUnusable("another job began to use what should have made room")
            write_json(self.folder / new.key / ENTRY, asdict(new))

    @contextmanager
    def _alone(self, stop: Stop) -> Iterator[None]:
        """Keep others from making room: both would count the same bytes as theirs."""
        while (lock := FolderLock.of_folder(self.folder)) is None:
            _check(stop)
        with lock:
            yield

    def _remove(self, key: str) -> bool:
        """Remove an entry; False where a process has it open."""
        lock = FolderLock.of_folder(self.folder / key)
        if lock is None:
            return not (self.folder / key).exists()
        with lock:
            take_away(self.folder / key)
        return True

    def _sweep(self) -> None:
        """Remove what a removal that was killed left."""
        for path in self.folder.glob(f"{REMOVED}*"):
            shutil.rmtree(path, ignore_errors=True)


def _fill(
    folder: Path,
    lock: FolderLock,
    layout: Layout,
    wanted: Collection[int],
    compute: Compute,
    progress: Progress,
    stop: Stop,
) -> None:
    with _as_unusable(folder):
        writer = EntryWriter(folder, layout)
    missing = [example for example in wanted if example not in writer.filled]
    with closing(writer):
        progress(len(wanted) - len(missing), len(wanted))
        for start in range(0, len(missing), FILL_CHUNK):
            _check(stop)
            chunk = missing[start : start + FILL_CHUNK]
            examples = compute(chunk)
            with _as_unusable(folder):
                writer.append(chunk, examples)
            progress(len(wanted) - len(missing) + start + len(chunk), len(wanted))
        if not lock.is_current():
            raise CacheUnusable(f"{folder} was removed while it was filled")
        with _as_unusable(folder):
            writer.complete()


def _count_of(folder: Path, layout: Layout, wanted: Collection[int]) -> int:
    return len(read_index(folder, layout).keys() & set(wanted))


def _give_up(folder: Path, lock: FolderLock) -> None:
    # Where the folder is not ours any more it is another's. A rest that cannot be removed is never
    # taken for an entry, and the reason for giving up says more.
    with suppress(OSError):
        if lock.is_current():
            take_away(folder)


def _check(stop: Stop) -> None:
    if reason := stop():
        raise FillStopped(reason)


@contextmanager
def _as_unusable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CacheUnusable(explain(error, path).message.rstrip(".")) from error
    except WorkspaceError as error:
        raise CacheUnusable(error.message.rstrip(".")) from error


def _free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
