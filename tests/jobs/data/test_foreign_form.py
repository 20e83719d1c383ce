"""Files in other forms: told once, by name, with what to do."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from jobs.data.check import check
from jobs.data.examples import Problem, read_examples, scan_examples
from jobs.errors import DataError

ALPACA = {"instruction": "Quem venceu?", "input": "", "output": "O Farense."}
SHARE = {"conversations": [{"from": "human", "value": "Olá"}, {"from": "gpt", "value": "Bom dia"}]}
TURNS = [{"role": "user", "content": "Quem?"}, {"role": "assistant", "content": "O Farense."}]

IMPORT = "farense data import"
FORMS = [
    (json.dumps(ALPACA) * 1 + "\n" + json.dumps(ALPACA), "Alpaca rows", IMPORT),
    (json.dumps(SHARE), "ShareGPT rows", IMPORT),
    (json.dumps([ALPACA, ALPACA], indent=2), "one JSON array of Alpaca rows", IMPORT),
    (json.dumps([{"prompt": "a", "completion": "b"}]), "one JSON array,", IMPORT),
    (json.dumps({"prompt": "a", "completion": "b"}, indent=2), "over several lines", "jq -c ."),
    ("prompt,completion\nQuem?,O Farense.\n", "a CSV table (columns prompt, completion)", IMPORT),
    ('"a";"b"\n"1";"2"\n', "a CSV with semicolons table (columns a, b)", IMPORT),
    ("prompt\tcompletion\nQuem?\tO Farense.\n", "a TSV table", IMPORT),
    ("<!DOCTYPE html>\n<html><body>Not found</body></html>", "a web page", "Download"),
    ('{"prompt": "a", "chosen": "b", "rejected": "c"}', "preference pairs", "completion=chosen"),
    ('{"question": "a", "answer": "b"}', "rows of question and answer", IMPORT),
    ('{"prompt": "a", "response": "b"}', "rows of prompt and response", IMPORT),
]


@pytest.mark.parametrize(("text", "what", "action"), FORMS)
def test_another_form_is_named_once_with_what_to_do(
    tmp_path: Path, text: str, what: str, action: str
) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(text)
    for read in (read_examples, lambda path: check(path, None, None)):
        with pytest.raises(DataError) as found:
            read(file)
        assert what in found.value.message
        assert found.value.message.count("\n") == 0
        assert action in (found.value.hint or "")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PAR1\x15\x04\x15 more", "a Parquet file"),
        (gzip.compress(b'{"prompt": "a", "completion": "b"}', mtime=0), "a gzip file"),
        ('{"prompt": "a"}'.encode("utf-16"), "text in UTF-16"),
        (b"PK\x03\x04\x14\x00", "a zip file"),
    ],
)
def test_bytes_that_are_no_text_are_named(tmp_path: Path, content: bytes, what: str) -> None:
    file = tmp_path / "data.jsonl"
    file.write_bytes(content)
    with pytest.raises(DataError, match=what):
        read_examples(file)


def test_a_file_with_some_good_lines_has_its_bad_ones_listed(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    good = json.dumps({"prompt": "a", "completion": "b"})
    file.write_text(f"{good}\n{json.dumps(ALPACA)}\n")
    with pytest.raises(DataError, match="line 2: expected"):
        read_examples(file)
    assert check(file, None, None).train.examples == 1


def answered(**changes: object) -> dict[str, object]:
    return {"messages": [TURNS[0], {**TURNS[1], **changes}]}


UNUSED = [
    ({"prompt": "a", "completion": "b", "tools": [{"name": "f"}]}, 'stand beside "messages"'),
    ({"messages": TURNS, "functions": [{"name": "tempo"}]}, '"functions" is not supported'),
    (answered(function_call={"name": "tempo"}), '"function_call" is not supported'),
    ({"prompt": "a", "completion": "b", "thinking": "c"}, 'message of "messages"'),
    (answered(weight=0), 'message 2: "weight" is not supported'),
    (answered(weight=0.5), '"weight" is not supported'),
    (answered(train=False), '"train" is not supported'),
    ({"prompt": "a", "completion": "b", "weight": 0}, '"weight" is not supported'),
    ({"prompt": "a", "completion": "b", "system": "Rima."}, "the first message"),
    ({"text": "abc", "system": "Rima."}, '"system" is not supported'),
]


@pytest.mark.parametrize(("row", "reason"), UNUSED)
def test_a_key_that_changes_what_should_be_learned_is_not_dropped_silently(
    tmp_path: Path, row: dict[str, object], reason: str
) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(json.dumps(row) + "\n")
    ((line, found),) = scan_examples(file)
    assert line == 1
    assert isinstance(found, Problem)
    assert reason in found.reason


@pytest.mark.parametrize(
    "row",
    [
        {"messages": TURNS, "tools": [], "functions": None},
        answered(tool_calls=None, reasoning_content="", weight=1, train=True),
        {"prompt": "a", "completion": "b", "system": "", "weight": 1.0, "id": 7, "source": "x"},
        # Only the last answer is learned anyway.
        {"messages": [TURNS[0], {**TURNS[1], "weight": 0}, *TURNS]},
    ],
)
def test_keys_that_change_nothing_are_no_fault(tmp_path: Path, row: dict[str, object]) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(json.dumps(row) + "\n")
    assert len(read_examples(file)) == 1
