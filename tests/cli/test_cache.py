"""`farense cache`: what a person types and sees."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from jobs.paths import Workspace
from jobs.prefix.cache import FillStopped, PrefixCache
from tests.children.prefix_filler import key_of
from tests.cli.conftest import FARENSE, Run, environment
from tests.helpers.prefix import Filling


@pytest.fixture
def filling(tmp_path: Path) -> Filling:
    return Filling(PrefixCache(Workspace(tmp_path).prefix_cache))


def stop_half_way(filling: Filling) -> None:
    filling.computed.clear()
    with pytest.raises(FillStopped):
        filling.fill("half", stop=lambda: "enough" if len(filling.computed) >= 48 else None)


def table(out: str) -> dict[str, list[str]]:
    """Return the cells of each line after its first."""
    lines = [[cell.strip() for cell in line.split("  ") if cell] for line in out.splitlines()]
    return {line[0]: line[1:] for line in lines}


def test_an_empty_cache_is_said_to_be_empty(invoke: Run, tmp_path: Path) -> None:
    done = invoke("cache", "list")
    assert (done.code, done.out) == (0, "")
    assert done.err == "The cache is empty: the first training job fills it.\n"
    listed = json.loads(invoke("cache", "list", "--json").out)
    assert (listed["entries"], listed["total_bytes"]) == ([], 0)
    assert listed["budget_bytes"] > 0
    done = invoke("cache", "clear")
    assert (done.code, done.out, done.err) == (0, "", "The cache is empty.\n")
    assert list(tmp_path.iterdir()) == []  # looking makes nothing


def test_the_list_tells_what_is_there(invoke: Run, filling: Filling) -> None:
    filling.fill("whole").close()
    stop_half_way(filling)
    with filling.fill("read"):
        done = invoke("cache", "list")
        listed = json.loads(invoke("cache", "list", "--json").out)
    assert (done.code, done.err) == (0, "")
    lines = table(done.out)
    assert lines["KEY"] == ["STATE", "SIZE", "EXAMPLES", "MODEL", "DATA", "LAST USED"]
    whole, half = lines[key_of("whole")[:12]], lines[key_of("half")[:12]]
    assert whole[:5] == ["complete", "0.1 MB", "100", "tiny", "train.jsonl"]
    assert half[0] == "unfinished"
    assert half[1].endswith(" of 0.1 MB")
    assert lines[key_of("read")[:12]][0] == "in use"
    assert " MB in all; " in done.out
    assert [entry["state"] for entry in listed["entries"]] == ["in use", "unfinished", "complete"]
    assert listed["entries"][0]["about"] == {
        "model": "tiny", "data": "train.jsonl", "boundary": "22"
    }  # fmt: skip
    assert listed["total_bytes"] == sum(entry["bytes"] for entry in listed["entries"])


def test_clearing_keeps_what_is_in_use(invoke: Run, filling: Filling) -> None:
    filling.fill("whole").close()
    stop_half_way(filling)
    with filling.fill("read"):
        done = invoke("cache", "clear", "--yes")
        assert done.code == 0
        assert done.out.startswith("Removed 2 entries, 0.")
        assert done.err == f"{key_of('read')[:12]} is in use: kept.\n"
    assert [entry.key for entry in filling.cache.listing()] == [key_of("read")]


def test_one_entry_is_cleared_by_the_beginning_of_its_key(invoke: Run, filling: Filling) -> None:
    filling.fill("a").close()
    filling.fill("b").close()
    assert invoke("cache", "clear", key_of("a")[:12], "--yes").code == 0
    assert [entry.key for entry in filling.cache.listing()] == [key_of("b")]
    done = invoke("cache", "clear", "../..", "--yes")
    assert done.code == 2
    assert "Error: No entry of the cache has a key beginning with '../..'." in done.err
    assert "farense cache list" in done.err


def test_nothing_is_removed_where_nobody_can_be_asked(farense: Run, filling: Filling) -> None:
    filling.fill().close()
    key = key_of("a")[:12]
    done = farense("cache", "clear", key)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        "Error: There is no terminal to confirm the removal of 1 entry, 0.1 MB.",
        f"Hint: Type: farense cache clear {key} --yes",
    ]
    assert len(filling.cache.listing()) == 1


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, 1), ("y", 0, 0)])
def test_a_person_is_asked(
    tmp_path: Path, filling: Filling, answer: str, code: int, left: int
) -> None:
    filling.fill().close()
    person, terminal = pty.openpty()
    os.write(person, f"{answer}\n".encode())
    done = subprocess.run(
        [FARENSE, "cache", "clear"],
        env=environment(tmp_path),
        stdin=terminal,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(person)
    os.close(terminal)
    assert done.returncode == code
    assert "Remove 1 entry, 0.1 MB? [y/N]" in done.stderr
    assert len(filling.cache.listing()) == left
