"""What the prefix cache removes to stay within its budget, and what it never removes."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from jobs.paths import Workspace
from jobs.prefix.budget import CacheUnusable
from jobs.prefix.cache import FillStopped, PrefixCache
from jobs.prefix.entry import Layout
from jobs.prefix.listing import EntryState
from tests.children.prefix_filler import key_of, layout_of
from tests.helpers.prefix import EXAMPLES, Filler, Filling, fresh_digest, states

ENTRY_BYTES = layout_of(EXAMPLES).bytes_of(range(EXAMPLES))


def small_cache(cache: PrefixCache, entries: float) -> Filling:
    """Return a filling of the same cache with room for so many entries."""
    return Filling(PrefixCache(cache.folder, budget_gb=entries * ENTRY_BYTES / 1e9))


def test_the_least_recently_used_goes_first(cache: PrefixCache, filling: Filling) -> None:
    for name in "abc":
        filling.fill(name).close()
    used = cache.open(key_of("a"), filling.layout, filling.all)
    assert used is not None
    used.close()
    assert list(states(cache)) == ["a", "c", "b"]
    small_cache(cache, 3.5).fill("d").close()
    assert list(states(cache)) == ["d", "a", "c"]


def test_half_filled_ones_go_before_complete_ones(cache: PrefixCache, filling: Filling) -> None:
    filling.fill("a").close()
    with pytest.raises(FillStopped):
        filling.fill("b", stop=lambda: "enough" if len(filling.computed) >= 180 else None)
    small_cache(cache, 2.5).fill("c").close()
    assert list(states(cache)) == ["c", "a"]


def test_an_entry_in_use_is_never_evicted(
    cache: PrefixCache, filling: Filling, filler: Callable[..., Filler]
) -> None:
    reader = filler()
    digest = reader.digest()
    filling.fill("b").close()
    assert states(cache) == {"b": EntryState.COMPLETE, "a": EntryState.IN_USE}
    small = small_cache(cache, 2.5)
    small.fill("c").close()
    assert set(states(cache)) == {"c", "a"}
    tiny = small_cache(cache, 1.5)
    with pytest.raises(CacheUnusable, match=r"other jobs use 0\.1 MB of the 0\.1 MB"):
        tiny.fill("d")
    # Nothing was removed in vain, and nothing computed.
    assert set(states(cache)) == {"c", "a"}
    assert tiny.computed == []
    assert cache.clear([key_of("a"), key_of("c")]) == [key_of("c")]
    reader.end()
    tiny.fill("d").close()
    assert set(states(cache)) == {"d"}
    assert digest == fresh_digest(filling.cache, "d")


def test_what_is_being_filled_counts_in_full(cache: PrefixCache) -> None:
    first, second = small_cache(cache, 1.5), small_cache(cache, 1.5)

    def fill_another() -> None:
        with pytest.raises(CacheUnusable, match="other jobs use"):
            second.fill("b")

    first.before_chunk = fill_another
    first.fill("a").close()
    assert second.computed == []
    assert states(cache) == {"a": EntryState.COMPLETE}


def test_an_entry_bigger_than_the_budget_is_refused_at_once(
    cache: PrefixCache, filling: Filling
) -> None:
    filling.fill("a").close()
    tiny = small_cache(cache, 0.5)
    with pytest.raises(CacheUnusable) as refused:
        tiny.fill("b")
    assert str(refused.value) == "it needs 0.1 MB, prefix_cache_gb allows 0.0 MB"
    assert tiny.computed == []
    assert states(cache) == {"a": EntryState.COMPLETE}


def test_an_entry_bigger_than_the_disk_is_refused_at_once(cache: PrefixCache) -> None:
    huge = Filling(PrefixCache(cache.folder, budget_gb=1e12), Layout((10**9,), 10**9, "float32"))
    with pytest.raises(CacheUnusable, match=r"it needs .* GB more, the disk has .* GB free"):
        huge.fill()
    assert (huge.computed, states(cache)) == ([], {})


def test_without_a_budget_a_tenth_of_the_disk_is_used(alone: Workspace) -> None:
    filling = Filling(PrefixCache(alone.prefix_cache))
    filling.fill().close()
    cache = filling.cache
    free = shutil.disk_usage(alone.root).free
    assert cache.budget(cache.listing()) == pytest.approx(free / 10, rel=0.1)
