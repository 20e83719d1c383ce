from __future__ import annotations

import errno
import math
import threading
from pathlib import Path
from typing import IO

import orjson
import pytest

from jobs.errors import WorkspaceError
from jobs.storage.files import plain, read_json, whole_lines, write_atomic, write_json, write_with


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, [0])
    stop = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not stop.is_set():
            values = orjson.loads(path.read_bytes())
            assert values == [len(values)] * len(values) or values == [0]
            seen.append(len(values))

    reader = threading.Thread(target=read)
    reader.start()
    for size in range(1, 300):
        write_json(path, [size] * size)
    stop.set()
    reader.join()
    assert len(set(seen)) > 1


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ENOSPC, "disk is full"), (errno.EACCES, "No permission"), (errno.EIO, "could not be")],
)
def test_a_failed_write_keeps_the_old_file_and_says_why(
    tmp_path: Path, number: int, expected: str
) -> None:
    path = tmp_path / "value.json"
    write_atomic(path, b"old")

    def fail(file: IO[bytes]) -> None:
        file.write(b"half of the ne")
        raise OSError(number, "told so")

    with pytest.raises(WorkspaceError, match=expected):
        write_with(path, fail)
    assert path.read_bytes() == b"old"
    assert [child.name for child in tmp_path.iterdir()] == ["value.json"]


def test_numbers_that_json_lacks_are_strings(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"a": math.nan, "b": [math.inf, (-math.inf,)], "c": 1.5})
    assert read_json(path) == {"a": "NaN", "b": ["Infinity", ["-Infinity"]], "c": 1.5}
    assert plain({"x": None}) == {"x": None}


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"one\n\ntwo\nthr")
    assert list(whole_lines(path)) == [b"one", b"two"]
