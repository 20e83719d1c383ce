"""The data report: what is found, by line number, and what is left alone."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from jobs.data.check import Leak, check
from jobs.data.examples import read_examples
from jobs.data.lengths import Bin, Length, summarize
from jobs.data.same_text import normalized
from jobs.data.tokenize import tokenize
from jobs.errors import DataError, ModelError
from tests.helpers.byte_tokenizer import byte_tokenizer

Pair = tuple[str, str]


def pairs(path: Path, *rows: Pair) -> Path:
    lines = (json.dumps({"prompt": prompt, "completion": answer}) for prompt, answer in rows)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("Quem  GANHOU?", " quem ganhou ", True),
        ("Beira-Mar, 2-1!", "beira mar 2 1", True),
        ("a\u0301gua", "água", True),
        ("Águia", "aguia", False),
        ("2-1", "1-2", False),
        ("?!", "...", False),
    ],
)
def test_normalization(left: str, right: str, same: bool) -> None:
    assert (normalized(left) == normalized(right)) is same


def test_duplicates_near_duplicates_and_conflicts(tmp_path: Path) -> None:
    path = pairs(
        tmp_path / "train.jsonl",
        ("Quem ganhou?", "O Farense."),
        ("Quem marcou?", "Ninguém."),
        ("Quem ganhou?", "O Farense."),
        ("quem  ganhou", "o Farense"),
        ("Quem marcou?", "O Hassan."),
    )
    report = check(path, None, None).train
    assert report.duplicates == ((1, 3),)
    assert report.near_duplicates == ((1, 3, 4),)
    assert report.conflicts == ((2, 5),)
    assert report.usable


def test_metadata_does_not_make_two_lines_different(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "a", "metadata": {"n": 1}}\n{"text": "a", "metadata": {"n": 2}}\n')
    assert check(path, None, None).train.duplicates == ((1, 2),)


def test_leaks_of_questions_and_of_whole_examples_are_told_apart(tmp_path: Path) -> None:
    train = pairs(
        tmp_path / "train.jsonl",
        ("Quem ganhou?", "O Farense."),
        ("Quem marcou?", "Ninguém."),
        ("QUEM GANHOU?", "O Benfica."),
    )
    valid = pairs(
        tmp_path / "valid.jsonl",
        ("Quando foi?", "Ontem."),
        ("Quem marcou", "O Hassan."),
        ("quem ganhou?", "o farense"),
    )
    report = check(train, valid, None)
    assert report.leaked_examples == (Leak(3, (1,)),)
    assert report.leaked_questions == (Leak(2, (2,)),)
    assert report.usable


def test_the_same_question_in_another_form_is_a_leak(tmp_path: Path) -> None:
    train = pairs(tmp_path / "train.jsonl", ("Quem ganhou?", "O Farense."))
    valid = tmp_path / "valid.jsonl"
    messages = [
        {"role": "user", "content": "Quem ganhou?"},
        {"role": "assistant", "content": "O Farense."},
    ]
    valid.write_text(json.dumps({"messages": messages}))
    assert check(train, valid, None).leaked_examples == (Leak(1, (1,)),)


def test_every_bad_line_is_reported_and_the_others_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    good, empty = '{"text": "a"}\n', '{"prompt": "", "completion": "b"}\n'
    path.write_text((good + "nada\n" + empty) * 20)
    report = check(path, None, None).train
    assert report.examples == 20
    assert [problem.line for problem in report.problems] == [
        line for line in range(1, 61) if line % 3 != 1
    ]
    assert report.empty_fields == tuple(range(3, 61, 3))
    assert not report.usable


def test_a_row_that_the_prompt_format_cannot_express_is_a_bad_line(tmp_path: Path) -> None:
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant") * 2]
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "a"}\n' + json.dumps({"messages": turns}))
    for tokenizer in (None, byte_tokenizer()):
        (problem,) = check(path, None, tokenizer, prompt_format="farense").train.problems
        assert problem.line == 2
        assert "prompt_format: chat" in problem.reason
        assert str(path) not in problem.reason
    assert check(path, None, None, prompt_format="chat").usable


def test_lengths_agree_with_what_training_will_see(tmp_path: Path) -> None:
    path = pairs(
        tmp_path / "train.jsonl", *[("Quem?" * (n + 1), "Nós." * (n % 3 + 1)) for n in range(30)]
    )
    tokenizer = byte_tokenizer()
    rows = read_examples(path)
    for limit in (40, 60, 90, 500):
        data = tokenize(
            rows, tokenizer, prompt_format="farense", mask_prompt=True, max_seq_length=limit
        )
        report = check(path, None, tokenizer, max_seq_length=limit)
        lengths = report.train.lengths
        assert lengths is not None
        assert (lengths.truncated, lengths.left_out) == (data.truncated, data.left_out)
        assert report.usable is bool(data.examples)


def test_lengths_are_those_of_the_whole_examples(tmp_path: Path) -> None:
    path = pairs(tmp_path / "train.jsonl", *[("Quem?" * (n + 1), "Nós.") for n in range(30)])
    tokenizer = byte_tokenizer()
    data = tokenize(
        read_examples(path),
        tokenizer,
        prompt_format="farense",
        mask_prompt=True,
        max_seq_length=500,
    )
    tokens = [len(example.tokens) for example in data.examples]
    lengths = check(path, None, tokenizer).train.lengths
    assert lengths is not None
    assert lengths.unit == "tokens"
    assert lengths.mean == sum(tokens) / 30
    assert lengths.mean_completion == len("Nós.".encode()) + 1  # and EOS
    assert lengths.longest == max(tokens)
    assert sum(bin_.count for bin_ in lengths.histogram) == 30


def test_without_a_tokenizer_lengths_are_characters(tmp_path: Path) -> None:
    path = pairs(tmp_path / "train.jsonl", ("Quem?", "Nós."))
    lengths = check(path, None, None, max_seq_length=8).train.lengths
    assert lengths is not None
    assert lengths.unit == "characters"
    assert lengths.longest == len("### Pergunta:\nQuem?\n\n### Resposta:\nNós.")
    assert (lengths.truncated, lengths.left_out) == (None, None)


@pytest.mark.parametrize("spread", [0, 5, 40, 1000, 200_000, 10_000_000])
def test_a_histogram_has_few_bins_and_every_example_once(spread: int) -> None:
    values = [100, 100 + spread // 3, 100 + spread]
    histogram = summarize([Length(value, 0) for value in values], "tokens", 512).histogram
    assert len(histogram) <= 12
    assert sum(bin_.count for bin_ in histogram) == 3
    assert histogram[0].low <= 100 <= histogram[0].high
    assert histogram[-1].low <= 100 + spread <= histogram[-1].high
    assert all(a.high + 1 == b.low for a, b in pairwise(histogram))


def test_a_single_length_is_one_bin() -> None:
    assert summarize([Length(7, 3)], "tokens", 512).histogram == (Bin(4, 7, 1),)


def test_the_report_as_json(tmp_path: Path) -> None:
    train = pairs(tmp_path / "train.jsonl", ("Quem?", "Nós."), ("Quem?", ""))
    valid = pairs(tmp_path / "valid.jsonl", ("Quem?", "Eles."))
    report = json.loads(json.dumps(check(train, valid, byte_tokenizer()).as_dict()))
    assert report["usable"] is False
    assert report["train"]["path"] == str(train)
    assert report["train"]["problems"][0]["line"] == 2
    assert report["train"]["empty_fields"] == [2]
    assert report["valid"]["usable"] is True
    assert report["valid"]["lengths"]["unit"] == "tokens"
    assert report["leaked_questions"] == [{"valid_line": 1, "train_lines": [1]}]


def test_an_empty_file_is_not_usable(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.touch()
    report = check(path, None, None)
    assert report.train.examples == 0
    assert not report.usable


def test_a_missing_file_and_a_tokenizer_without_template_raise(tmp_path: Path) -> None:
    path = pairs(tmp_path / "train.jsonl", ("Quem?", "Nós."))
    with pytest.raises(DataError, match="cannot be read"):
        check(path, tmp_path / "nada.jsonl", None)
    with pytest.raises(ModelError, match="no chat template"):
        check(path, None, byte_tokenizer(), prompt_format="chat")
