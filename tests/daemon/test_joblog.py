"""Reading a log while it is written."""

from __future__ import annotations

from pathlib import Path

import orjson

from daemon.joblog import LogReader, events_at_end, last_lines
from jobs.events import Envelope, Progress, Warned
from jobs.storage.files import end_torn_line


def line(step: int) -> bytes:
    envelope = Envelope(Progress(step, 10, 1, None, None), "job", 1, "2026-11-22T21:00:00+00:00")
    return orjson.dumps(envelope.as_dict()) + b"\n"


def test_a_log_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    assert LogReader(tmp_path / "log").read() is None
    assert events_at_end(tmp_path / "log") == []
    end_torn_line(tmp_path / "log")
    assert not (tmp_path / "log").exists()


def test_a_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    reader = LogReader(path)
    path.write_bytes(line(1) + line(2)[:20])
    first = reader.read()
    assert first is not None
    assert (first.start, first.end, len(first.events)) == (0, len(line(1)), 1)
    assert reader.read() is None
    path.write_bytes(line(1) + line(2))
    second = reader.read()
    assert second is not None
    assert second.lines == [line(2).rstrip()]
    assert reader.offset == path.stat().st_size


def test_long_lines_and_large_logs_come_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    text = Envelope(Warned("é" * 400_000), "job", 1, "2026-11-22T21:00:00+00:00")
    content = orjson.dumps(text.as_dict()) + b"\n" + b"".join(line(n) for n in range(5_000))
    path.write_bytes(content)
    reader, events = LogReader(path), []
    while lines := reader.read():
        events += lines.events
    assert len(events) == 5_001


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 9_000_000 + b"\n" + line(1))
    reader, events = LogReader(path), []
    while lines := reader.read():
        events += lines.events
    assert [envelope.event.kind for envelope in events] == ["progress"]


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(line(1) + line(2)[:30])
    end_torn_line(path)
    end_torn_line(path)
    with path.open("ab") as log:
        log.write(line(3))
    lines = LogReader(path).read()
    assert lines is not None
    assert [getattr(e.event, "step", 0) for e in lines.events] == [1, 3]
    assert [getattr(e.event, "step", 0) for e in events_at_end(path, size=len(line(3)) + 5)] == [3]


def test_last_words_are_printable_and_short(tmp_path: Path) -> None:
    path = tmp_path / "stderr"
    path.write_bytes(b"old\n" + b"\x1b[31mterminate\x07 called\n\xff\nlast\n" + b"y" * 10_000)
    words = last_lines(path, offset=4)
    assert len(words) == 600
    path.write_bytes(b"old\n\x1b[31mterminate called\n\nlast\n")
    assert last_lines(path, offset=4) == " [31mterminate called | last"
    assert last_lines(tmp_path / "none") == ""
