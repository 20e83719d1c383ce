"""The ways of computing: their order, what is said of them, and which of them fits."""

from __future__ import annotations

import pytest

from jobs.resources.preflight import MemoryLimits
from jobs.resources.ways import Peak, Room, Way, chosen_text, none_fits, ways

GB = 10**9
PLAIN, AGAIN, ONE, BOTH = Way(2, False), Way(2, True), Way(1, False), Way(1, True)


def room(whole: float | None, cap: float | None = None) -> Room:
    limit = None if whole is None else int(whole * GB)
    return Room(MemoryLimits(limit, limit), None if cap is None else int(cap * GB))


@pytest.mark.parametrize(
    ("streams", "again", "expected"),
    [
        (2, None, [PLAIN, AGAIN, ONE, BOTH]),
        (2, False, [PLAIN, ONE]),
        (2, True, [AGAIN, BOTH]),
        (1, None, [ONE, BOTH]),
        (5, False, [Way(5, False), Way(2, False), Way(1, False)]),
    ],
)
def test_the_plain_way_comes_first_and_the_slowest_last(
    streams: int, again: bool | None, expected: list[Way]
) -> None:
    assert ways(streams, again) == expected


def test_a_cap_allows_no_more_than_the_machine_has() -> None:
    assert room(16, 6).most == 6 * GB
    assert room(16, 32).most == 16 * GB
    assert room(None, 6).most == 6 * GB
    assert room(None).most is None
    assert room(None).holds(10**18)
    assert room(16, 6).holds(6 * GB)
    assert not room(16, 6).holds(6 * GB + 1)
    assert room(16, 6).text == "the 6.00 GB that the setting memory allows"
    assert room(16, 32).text == "the 16.00 GB of this machine"


def test_what_is_chosen_is_said_in_one_line() -> None:
    tried = {PLAIN: 8 * GB, AGAIN: 5 * GB, ONE: None, BOTH: 3 * GB}
    assert chosen_text(tried, BOTH, room(4)) == (
        "Memory: a training step on the largest batch needs 8.00 GB, which does not fit into the "
        "4.00 GB of this machine; computing on one stream, blocks are computed again in the "
        "backward pass: about 3.00 GB."
    )
    smaller = Way(2, False, 1)
    assert chosen_text({PLAIN: 5 * GB, smaller: 3 * GB}, smaller, room(4)) == (
        "Memory: a validation of the longest texts needs 5.00 GB, which does not fit into the "
        "4.00 GB of this machine; validations are computed in smaller pieces: about 3.00 GB."
    )


def test_where_none_fits_all_are_named() -> None:
    error = none_fits({PLAIN: 8 * GB, AGAIN: 5 * GB, ONE: None, BOTH: 3 * GB}, room(16, 2))
    assert error.exit_code == 7
    assert error.message == (
        "Out of memory before training: a training step on the largest batch needs 8.00 GB, and "
        "it has to fit into the 2.00 GB that the setting memory allows. Also tried: blocks are "
        "computed again in the backward pass: 5.00 GB; computing on one stream: it ran out of "
        "memory; computing on one stream, blocks are computed again in the backward pass: 3.00 GB."
    )
    assert none_fits({PLAIN: None}, room(4)).message.endswith("the 4.00 GB of this machine.")


def test_a_checkpoint_names_what_is_not_plain() -> None:
    for way in (PLAIN, BOTH, Way(1, True, 2)):
        assert Way.from_versions({"mlx": "1", **way.as_versions()}) == way
    assert Way.from_versions({"mlx": "1", "splits": "0"}) is None
    assert Way.from_versions({**BOTH.as_versions(), "streams": "many"}) is None


def test_a_peak_counts_what_is_held_once() -> None:
    assert Peak(10, 4).on(2) == 18
    assert Peak(10, 4).on(1, 2.5) == 20
