"""The prefix cache among processes that fill, read, evict, damage and are killed."""

from __future__ import annotations

import json
import random
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable

import pytest

from jobs.paths import Workspace
from jobs.prefix.budget import CacheUnusable
from jobs.prefix.cache import FillStopped, PrefixCache
from jobs.prefix.entry import Layout
from jobs.prefix.listing import EntryState
from tests.children.prefix_filler import digest_of, key_of, rows_of
from tests.helpers.prefix import EXAMPLES, Filler, Filling, content, flip, fresh_digest, states


def test_what_was_computed_once_is_read_by_all(cache: PrefixCache, filling: Filling) -> None:
    assert cache.open(key_of("a"), filling.layout, filling.all) is None
    with filling.fill() as first, filling.fill() as second:
        assert filling.computed == list(range(EXAMPLES))
        assert filling.progress[0] == 0
        assert filling.progress[-1] == EXAMPLES
        for index in (99, 0, 5, 5):
            expected = rows_of(filling.layout, index)
            assert (first.read(index) == expected).all()
            assert (second.read(index) == expected).all()
    packed = b"".join(rows_of(filling.layout, i).tobytes() for i in range(EXAMPLES))
    assert content(cache)["states.bin"] == packed


def test_the_cache_is_for_the_user_alone(cache: PrefixCache, filling: Filling) -> None:
    filling.fill().close()
    for folder in (cache.folder.parent, cache.folder, cache.folder / key_of("a")):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_of_two_fillers_one_computes_and_the_other_waits(filler: Callable[..., Filler]) -> None:
    first = filler("first", pause_at=32)
    first.wait_for("computed 32")
    second = filler("second")
    second.wait_for(f"progress 32 of {EXAMPLES}")  # it sees how far the other is
    first.go_on()
    # The first one still holds the entry when the second one gets it.
    assert first.digest() == second.digest() != ""
    assert first.computed() == list(range(EXAMPLES))
    assert second.computed() == []
    first.end()
    second.end()


def test_a_killed_fill_goes_on_where_it_was(
    cache: PrefixCache, filling: Filling, filler: Callable[..., Filler]
) -> None:
    killed = filler(pause_at=48)
    killed.wait_for("computed 48")
    assert states(cache) == {"a": EntryState.FILLING}
    assert cache.open(key_of("a"), filling.layout, filling.all) is None
    killed.kill()
    assert states(cache) == {"a": EntryState.UNFINISHED}
    with filling.fill() as entry:
        assert filling.computed == list(range(48, EXAMPLES))
        assert digest_of(entry) == fresh_digest(filling.cache, "b")
    assert content(cache) == content(cache, "b")


# Kills itself when it comes to a certain line, counted over all lines of these modules it runs.
DYING = """
import os, signal, sys
from pathlib import Path
from jobs.prefix.cache import PrefixCache
from tests.helpers.prefix import Filling
lines, last = 0, int(sys.argv[3])
def trace(frame, event, argument):
    global lines
    file = Path(frame.f_code.co_filename)
    if file.parent.name != "prefix" and file.name not in ("files.py", "folder_lock.py"):
        return None
    lines += event == "line"
    if event == "line" and lines == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return trace
filling = Filling(PrefixCache(Path(sys.argv[1]), budget_gb=1))
sys.settrace(trace)
filling.fill(sys.argv[2]).close()
sys.settrace(None)
print(lines)
"""


def test_kills_at_any_line_leave_nothing_wrong(cache: PrefixCache, filling: Filling) -> None:
    def run(name: str, line: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", DYING, str(cache.folder), name, str(line)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    total = int(run("b", 0).stdout)
    expected, digest = content(cache, "b"), fresh_digest(filling.cache, "b")
    # The end, where an entry becomes one, is looked at more closely.
    seeded = random.Random(8)  # noqa: S311 - no secret
    lines = seeded.sample(range(1, total), 3) + seeded.sample(range(total - 60, total), 3)
    for line in lines:
        killed = run("a", line)
        assert (killed.returncode, killed.stderr) == (-signal.SIGKILL, "")
        with filling.fill() as entry:
            assert digest_of(entry) == digest
        assert content(cache) == expected
        cache.clear([key_of("a")])
    assert states(cache) == {"b": EntryState.COMPLETE}


def test_a_fill_goes_on_with_what_is_whole(cache: PrefixCache, filling: Filling) -> None:
    with pytest.raises(FillStopped, match="enough"):
        filling.fill(stop=lambda: "enough" if len(filling.computed) >= 64 else None)
    assert filling.computed == list(range(64))
    folder = cache.folder / key_of("a")
    first_row = sum(filling.layout.lengths[:40])
    flip(folder / "states.bin", first_row * filling.layout.row_bytes)
    with (folder / "index").open("ab") as file:
        file.write(b"\1\2\3")  # a torn number
    filling.computed.clear()
    with filling.fill() as entry:
        assert filling.computed == [40, *range(64, EXAMPLES)]
        assert digest_of(entry) == fresh_digest(filling.cache, "b")


def test_who_waits_for_another_can_be_stopped(
    filling: Filling, filler: Callable[..., Filler]
) -> None:
    busy = filler(pause_at=0)
    busy.wait_for("computed 0")
    with pytest.raises(FillStopped, match="the night is over"):
        filling.fill(stop=lambda: "the night is over")
    assert filling.computed == []


FULL = """
import resource, sys
from pathlib import Path
from jobs.prefix.budget import CacheUnusable
from jobs.prefix.cache import PrefixCache
from tests.helpers.prefix import Filling
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
filling = Filling(PrefixCache(Path(sys.argv[1]), budget_gb=1))
try:
    filling.fill()
except CacheUnusable as error:
    print(len(filling.computed) > 16, error)
"""


def test_a_fill_that_cannot_be_written_leaves_nothing(cache: PrefixCache) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, cache.folder], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("True ")
    assert "could not be written: File too large" in done.stdout
    assert [path.name for path in cache.folder.iterdir()] == ["lock"]


def test_a_folder_that_cannot_be_made_is_a_reason(alone: Workspace) -> None:
    alone.private.write_text("a file where the folder belongs")
    with pytest.raises(CacheUnusable, match="could not be written"):
        Filling(PrefixCache(alone.prefix_cache)).fill()


def test_removing_the_cache_by_hand_ends_a_fill(cache: PrefixCache, filling: Filling) -> None:
    filling.before_chunk = lambda: shutil.rmtree(cache.folder, ignore_errors=True)
    with pytest.raises(CacheUnusable, match="was removed while it was filled"):
        filling.fill()
    assert cache.listing() == []
    filling.before_chunk = lambda: None
    filling.fill().close()


def test_rows_of_another_shape_are_a_fault_of_the_caller(
    cache: PrefixCache, filling: Filling
) -> None:
    filling.before_chunk = lambda: setattr(filling, "layout", Layout((1,) * 100, 1, "float16"))
    with pytest.raises(ValueError, match="example 0 is uint8"):
        filling.fill()
    assert states(cache) == {"a": EntryState.UNFINISHED}


def test_an_entry_grows_by_what_is_missing_alone(cache: PrefixCache, filling: Filling) -> None:
    few, more = [90, 3, 4, 5], [4, 5, 60, 61]
    with filling.fill(wanted=few) as small:
        assert filling.computed == few
        (info,) = cache.listing()
        assert (info.examples, info.of_examples) == (4, EXAMPLES)
        assert info.state is EntryState.IN_USE
        # While it is read, others fill it.
        with filling.fill(wanted=more) as other:
            assert filling.computed == [*few, 60, 61]
            for entry, wanted in ((small, few), (other, [*few, *more])):
                for index in wanted:
                    assert (entry.read(index) == rows_of(filling.layout, index)).all()
        assert cache.open(key_of("a"), filling.layout, filling.all) is None
        with filling.fill() as whole:
            assert sorted(filling.computed) == list(filling.all)
            assert digest_of(whole) == fresh_digest(filling.cache, "b")
            assert (small.read(90) == rows_of(filling.layout, 90)).all()
    assert states(cache) == {"a": EntryState.COMPLETE, "b": EntryState.COMPLETE}
    for info in cache.listing():
        assert (info.examples, info.of_examples) == (EXAMPLES, EXAMPLES)
        assert info.bytes >= info.final_bytes
    one, other_entry = (len(content(cache, name)["states.bin"]) for name in "ab")
    assert one == other_entry


def test_a_complete_part_is_complete(cache: PrefixCache, filling: Filling) -> None:
    filling.fill(wanted=[7, 8]).close()
    assert states(cache) == {"a": EntryState.COMPLETE}
    with pytest.raises(FillStopped):
        filling.fill(wanted=range(40), stop=lambda: "now")
    assert states(cache) == {"a": EntryState.UNFINISHED}
    filling.computed.clear()
    filling.fill(wanted=[8]).close()
    assert filling.computed == []


def test_a_kill_while_it_grows_loses_nothing_that_was_there(
    cache: PrefixCache, filling: Filling, filler: Callable[..., Filler]
) -> None:
    first = [*range(60, 70), 5]
    with filling.fill(wanted=first) as reader:
        growing = filler(pause_at=40)
        growing.wait_for("computed 49")  # of the fourth chunk
        assert states(cache) == {"a": EntryState.FILLING}
        growing.kill()
        for index in first:
            assert (reader.read(index) == rows_of(filling.layout, index)).all()
    filling.computed.clear()
    with filling.fill(wanted=first):
        assert filling.computed == []
    with filling.fill() as entry:
        assert not {*first, *range(49)} & set(filling.computed)
        assert digest_of(entry) == fresh_digest(filling.cache, "b")


def test_two_that_need_different_parts_share_one_entry(
    cache: PrefixCache, filling: Filling, filler: Callable[..., Filler]
) -> None:
    busy = filler(pause_at=32)
    busy.wait_for("computed 32")
    # What it needs is there already: it waits for nobody.
    with filling.fill(wanted=range(20)) as entry:
        assert filling.computed == []
        assert (entry.read(19) == rows_of(filling.layout, 19)).all()
        busy.go_on()
        assert busy.digest() == fresh_digest(filling.cache, "b")
    busy.end()
    assert states(cache).keys() == {"a", "b"}


def test_what_an_older_version_left_goes_when_room_is_made(
    cache: PrefixCache, filling: Filling
) -> None:
    filling.fill("b").close()
    old = cache.folder / key_of("b")
    description = json.loads((old / "entry.json").read_text())
    (old / "entry.json").write_text(json.dumps({**description, "version": 1}))
    (old / "index").rename(old / "index.npy")
    assert states(cache) == {"b": EntryState.UNUSABLE}
    filling.fill("a").close()
    assert states(cache) == {"a": EntryState.COMPLETE}
    assert not old.exists()
