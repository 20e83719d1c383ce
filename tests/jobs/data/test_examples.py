"""Reading JSON Lines: the three forms, and what is said about lines that have none of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.data.examples import MAX_LINE_BYTES, Dialogue, Document, read_examples
from jobs.data.messages import Message
from jobs.data.prompts import check_prompt_format
from jobs.errors import DataError
from jobs.paths import REPOSITORY

GOOD = b'{"prompt": "Quem?", "completion": "O Farense."}\n'


def write(folder: Path, *lines: bytes) -> Path:
    path = folder / "dados é.jsonl"
    path.write_bytes(b"".join(lines))
    return path


def turns(*roles: str) -> bytes:
    return json.dumps({"messages": [{"role": role, "content": "x"} for role in roles]}).encode()


def test_the_three_forms(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "Sê breve."},
        {"role": "user", "content": "Quem?"},
        {"role": "assistant", "content": "O Farense."},
    ]
    path = write(
        tmp_path,
        b'{"prompt": "Quem?", "completion": "Ningu\\u00e9m.", "metadata": {"tipo": "x"}}\n',
        json.dumps({"messages": messages}).encode() + b"\n",
        b'{"text": "O Farense venceu."}',
    )
    asked, talked, told = read_examples(path)
    assert asked == Dialogue((Message("user", "Quem?"),), "Ninguém.")
    assert asked.metadata == {"tipo": "x"}
    assert talked == Dialogue(
        (Message("system", "Sê breve."), Message("user", "Quem?")), "O Farense."
    )
    assert told == Document("O Farense venceu.")
    assert told.origin is not None
    assert told.origin.line == 3


def test_byte_order_mark_windows_line_ends_and_blank_lines_are_tolerated(tmp_path: Path) -> None:
    path = write(tmp_path, b"\xef\xbb\xbf" + GOOD[:-1] + b"\r\n", b"\r\n", b"  \n", GOOD[:-1])
    assert [row.origin.line for row in read_examples(path) if row.origin] == [1, 4]


def test_separators_inside_a_text_do_not_end_a_line(tmp_path: Path) -> None:
    text = "uma\u2028duas\x85três"
    path = write(tmp_path, json.dumps({"text": text}, ensure_ascii=False).encode())
    assert read_examples(path) == [Document(text)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"prompt": "a", "completion": "b"', "not valid JSON at column"),
        (b'{"text": NaN}', "not valid JSON at column 10"),
        (b'["a", "b"]', "expected an object"),
        (b"null", "found null"),
        (b'{"question": "a", "answer": "b"}', 'found "question", "answer"'),
        (b'{"\\u001b[2J": 1}', 'found "\\u001b[2J"'),
        (b"{}", "found no keys"),
        (b'{"prompt": "a"}', '"completion" is missing'),
        (b'{"completion": "a"}', '"prompt" is missing'),
        (b'{"prompt": 7, "completion": "b"}', '"prompt": expected text, found a number'),
        (b'{"prompt": "a", "completion": ["b"]}', '"completion": expected text, found a list'),
        (b'{"prompt": " \\n", "completion": "b"}', '"prompt" is empty'),
        (b'{"text": ""}', '"text" is empty'),
        (b'{"text": "\\ud800"}', "half a surrogate pair"),
        (b'{"text": "\xe9"}', "not UTF-8 at byte 11"),
        (b'{"messages": "a"}', "expected a list"),
        (b'{"messages": ["a"]}', "expected a list"),
        (b'{"messages": []}', "found none"),
        (b'{"messages": [{"role": "user"}]}', 'message 1: "content" is missing'),
        (turns("user"), 'ending with assistant; found "user"'),
        (turns("assistant"), 'found "assistant"'),
        (turns("user", "user", "assistant"), 'found "user", "user", "assistant"'),
        (turns("user", "system", "assistant"), 'found "user", "system", "assistant"'),
        (turns("system"), 'found "system"'),
        (b'{"text": "' + b"a" * MAX_LINE_BYTES + b'"}', "longer than 10 MB"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_a_bad_line_is_named_with_what_was_expected(
    tmp_path: Path, line: bytes, expected: str
) -> None:
    path = write(tmp_path, GOOD, line + b"\n", GOOD)
    with pytest.raises(DataError) as caught:
        read_examples(path)
    assert str(path) in caught.value.message
    assert "line 2: " in caught.value.message
    assert expected in caught.value.message
    assert "line 3" not in caught.value.message
    assert len(caught.value.message) < 1000


def test_the_first_problems_are_named_and_the_rest_mentioned(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_examples(write(tmp_path, *[b"nada\n"] * 500))
    lines = caught.value.message.splitlines()
    assert "line 10: " in lines[10]
    assert lines[11:] == ["  and more"]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_a_file_without_examples_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="holds no examples"):
        read_examples(write(tmp_path, content))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nada.jsonl", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_examples(path)


def test_the_farense_format_refuses_several_turns_by_line(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, turns("user", "assistant", "user", "assistant"))
    rows = read_examples(path)
    check_prompt_format(rows, "chat")
    with pytest.raises(DataError, match=r"line 2: .*found 4 messages.*prompt_format: chat"):
        check_prompt_format(rows, "farense")


def test_reading_loads_no_model_library() -> None:
    heavy: list[Any] = ["mlx", "transformers", "numpy", "pydantic", "tokenizers", "jinja2"]
    code = (
        f"import sys, jobs.data.examples, jobs.data.prompts; print(set({heavy}) & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
