"""Reading an entry of the prefix cache: what is damaged is found, and nothing stays in memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.paths import Workspace
from jobs.prefix.cache import PrefixCache
from jobs.prefix.entry import DamagedEntry, Layout
from jobs.prefix.listing import EntryState
from tests.children.prefix_filler import digest_of, key_of, rows_of
from tests.helpers.prefix import EXAMPLES, Filling, flip, fresh_digest, states

WIDER = 64


@pytest.fixture
def cache(alone: Workspace) -> PrefixCache:
    return PrefixCache(alone.prefix_cache, budget_gb=1)


@pytest.fixture
def filling(cache: PrefixCache) -> Filling:
    return Filling(cache)


def test_a_damaged_byte_is_found_and_the_entry_filled_again(
    cache: PrefixCache, filling: Filling
) -> None:
    with filling.fill() as other_reader:
        entry = filling.fill()
        flip(cache.folder / key_of("a") / "states.bin", 0)
        with pytest.raises(DamagedEntry, match="Example 1 in"):
            entry.read(1)
        assert (entry.read(2) == rows_of(filling.layout, 2)).all()
        entry.discard()
        assert states(cache) == {}
        filling.computed.clear()
        filling.fill().close()
        assert filling.computed == list(range(EXAMPLES))
        # The other one still has the old file; it does not take the new one away.
        with pytest.raises(DamagedEntry):
            other_reader.read(1)
        other_reader.discard()
        assert states(cache) == {"a": EntryState.COMPLETE}


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "states cut": lambda folder: _cut(folder / "states.bin"),
    "states gone": lambda folder: (folder / "states.bin").unlink(),
    "entry emptied": lambda folder: os.truncate(folder / "entry.json", 0),
    "entry of another": lambda folder: (folder / "entry.json").write_text('{"version": 2}'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_not_believed(cache: PrefixCache, filling: Filling, damage: str) -> None:
    filling.fill().close()
    DAMAGES[damage](cache.folder / key_of("a"))
    assert cache.open(key_of("a"), filling.layout, filling.all) is None
    assert states(cache) == {}
    with filling.fill() as entry:
        assert digest_of(entry) == fresh_digest(filling.cache, "b")


INDEX_DAMAGES: dict[str, tuple[Callable[[Path], object], list[int]]] = {
    "cut": (lambda index: _cut(index), [EXAMPLES - 1]),
    "emptied": (lambda index: os.truncate(index, 0), list(range(EXAMPLES))),
    "a pickle": (lambda index: index.write_bytes(b"\x80\x04N."), list(range(EXAMPLES))),
    "one flipped": (lambda index: flip(index, 7 * 32 + 9), [7]),
    "zeros behind it": (lambda index: index.write_bytes(index.read_bytes() + bytes(64)), []),
}


@pytest.mark.parametrize("damage", INDEX_DAMAGES)
def test_what_the_index_has_lost_is_computed_again(
    cache: PrefixCache, filling: Filling, damage: str
) -> None:
    filling.fill().close()
    change, lost = INDEX_DAMAGES[damage]
    change(cache.folder / key_of("a") / "index")
    filling.computed.clear()
    with filling.fill() as entry:
        assert filling.computed == lost
        assert digest_of(entry) == fresh_digest(filling.cache, "b")


def test_a_file_cut_under_a_reader_is_an_error_not_a_crash(
    cache: PrefixCache, filling: Filling
) -> None:
    with filling.fill() as entry:
        os.truncate(cache.folder / key_of("a") / "states.bin", 10)
        with pytest.raises(DamagedEntry):
            entry.read(50)


def test_a_layout_that_does_not_fit_is_filled_anew(cache: PrefixCache, filling: Filling) -> None:
    filling.fill().close()
    other = Filling(cache, Layout(filling.layout.lengths, WIDER, "float32"))
    with other.fill() as entry:
        assert other.computed == list(range(EXAMPLES))
        assert entry.read(1).shape == (7, WIDER)


def test_removing_the_cache_by_hand_disturbs_no_reader(
    cache: PrefixCache, filling: Filling
) -> None:
    with filling.fill() as entry:
        shutil.rmtree(cache.folder)
        assert digest_of(entry) == fresh_digest(filling.cache, "b")
        entry.discard()
    assert states(cache) == {"b": EntryState.COMPLETE}


BIG = """
import resource, sys
from pathlib import Path
import numpy as np
from jobs.prefix.cache import PrefixCache
from jobs.prefix.entry import Layout
layout = Layout((256,) * 100, 2560, "float32")
rows = np.zeros((256, 2560), np.uint8)
def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
def compute(indices):
    return [rows + np.uint8(index) for index in indices]
cache = PrefixCache(Path(sys.argv[1]), budget_gb=1)
if sys.argv[2] == "fill":
    told = compute, lambda done, total: None, lambda: None
    cache.fill("big", layout, range(100), {}, *told).close()
else:
    entry = cache.open("big", layout, range(100))
    entry.read(0)
    before = peak()
    for _ in range(2):
        for index in range(100):
            assert (entry.read(index) == index).all()
    print(peak() - before)
"""


def test_reading_keeps_nothing_resident(cache: PrefixCache) -> None:
    command = [sys.executable, "-c", BIG, str(cache.folder)]
    subprocess.run([*command, "fill"], check=True)
    done = subprocess.run([*command, "read"], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 8e6  # of 65.5 MB that were read twice
