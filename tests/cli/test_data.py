"""`farense data check`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jobs.paths import REPOSITORY
from tests.cli.conftest import Run
from tests.helpers.families import make_family
from tests.helpers.runs import write_rows

SAMPLE = REPOSITORY / "data" / "sample"
TRAIN, VALID = str(SAMPLE / "train.jsonl"), str(SAMPLE / "valid.jsonl")
GOOD = '{"prompt": "Quem ganhou?", "completion": "O Farense."}\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "train.jsonl"


def test_good_data_without_a_model(invoke: Run) -> None:
    done = invoke("data", "check", TRAIN, "--valid", VALID)
    assert (done.code, done.err) == (0, "")
    assert "600 examples, no bad lines" in done.out
    assert "80 examples, no bad lines" in done.out
    assert "exact duplicates: none" in done.out
    assert "lengths are in characters" in done.out
    assert done.out.splitlines()[-1] == "Usable."
    assert all(len(line) <= 100 for line in done.out.splitlines() if not line.startswith("/"))


def test_the_first_model_counts_tokens(farense: Run, tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "models" / "a broken one").mkdir(parents=True)
    shutil.copytree(tiny_model, tmp_path / "models" / "tiny")
    done = farense("data", "check", TRAIN, "--max-seq-length", "60", "--json")
    report = json.loads(done.out)
    assert (done.code, report["model"]) == (0, "tiny")
    assert report["train"]["lengths"]["unit"] == "tokens"
    assert report["train"]["lengths"]["left_out"] > 0


@pytest.mark.parametrize("name", ["tiny", "models/tiny"])
def test_a_named_model_and_the_chat_format(
    invoke: Run, tmp_path: Path, tiny_model: Path, name: str
) -> None:
    shutil.copytree(tiny_model, tmp_path / "models" / "tiny")
    shutil.copytree(tiny_model, tmp_path / "models" / "another")
    done = invoke("data", "check", VALID, "--model", name, "--format", "chat")
    assert done.code == 0
    assert "Tokens are those of the model tiny. Prompt format: chat." in done.out
    assert "max_seq_length 512 cuts 0 examples short and leaves out 0" in done.out
    assert "█" in done.out


def test_bad_lines_are_all_counted_and_the_first_shown(invoke: Run, file: Path) -> None:
    file.write_text(GOOD + "nada\n" * 30 + '{"prompt": "a", "completion": " "}\n')
    done = invoke("data", "check", str(file))
    assert (done.code, done.err) == (2, "")
    assert "1 example, 31 bad lines, 1 of them for an empty field:" in done.out
    assert "line 2: not valid JSON" in done.out
    assert "line 12:" not in done.out
    assert "and 21 more (--json lists all)" in done.out
    assert done.out.splitlines()[-1] == "Not usable: see the bad lines above."
    listed = json.loads(invoke("data", "check", str(file), "--json").out)
    assert len(listed["train"]["problems"]) == 31


def test_warnings_leave_the_exit_code_alone(invoke: Run, file: Path, tmp_path: Path) -> None:
    other = GOOD.replace("O Farense", "Empataram")
    file.write_text(
        GOOD + GOOD.upper().replace("PROMPT", "prompt").replace("COMPLETION", "completion")
    )
    valid = tmp_path / "valid.jsonl"
    valid.write_text(other + GOOD)
    done = invoke("data", "check", str(file), "--valid", str(valid))
    assert done.code == 0
    assert "duplicates but for case, spacing or punctuation: 1 group of lines" in done.out
    assert "the same question and answer in both files: 1 line\n  line 2: training" in done.out
    assert "the same question with another answer in both files: 1 line\n  line 1:" in done.out
    assert done.out.splitlines()[-1] == "Usable, with the warnings above."


def test_a_share_of_the_file_for_validation(invoke: Run, file: Path) -> None:
    lines = [GOOD.replace("ganhou", f"ganhou o jogo {number}") for number in range(20)]
    file.write_text("".join(lines))
    done = invoke("data", "check", str(file), "--valid", "10%")
    assert done.code == 0
    assert f"{file} (90% of it)\n  18 examples, no bad lines" in done.out
    assert f"{file} (10% of it)\n  2 examples, no bad lines" in done.out
    other = invoke("data", "check", str(file), "--valid", "10%", "--seed", "7", "--json")
    assert json.loads(other.out)["valid"]["part"] == "10%"
    for share, reason in (("70%", "at most 50%"), ("1%", "1% of 20 examples would leave none")):
        done = invoke("data", "check", str(file), "--valid", share)
        assert (done.code, done.out) == (2, "")
        assert reason in done.err


def test_no_example_that_fits(invoke: Run, file: Path, tmp_path: Path, tiny_model: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "models" / "tiny")
    file.write_text(GOOD)
    done = invoke("data", "check", str(file), "--max-seq-length", "8")
    assert done.code == 2
    assert "leaves out 1" in done.out
    assert "Not usable" in done.out


def test_an_empty_file(invoke: Run, file: Path) -> None:
    file.touch()
    done = invoke("data", "check", str(file))
    assert done.code == 2
    assert "0 examples" in done.out
    assert "Not usable" in done.out


@pytest.mark.parametrize("folder", ["época 25 26", "a" * 150])
def test_a_folder_with_spaces_and_accents_or_a_long_name(
    farense: Run, tmp_path: Path, folder: str
) -> None:
    path = tmp_path / folder / "dados é.jsonl"
    path.parent.mkdir()
    path.write_text(GOOD, encoding="utf-8")
    done = farense("data", "check", str(path), home=path.parent)
    assert done.code == 0
    assert str(path) in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nada.jsonl"], "nada.jsonl cannot be read"),
        ([TRAIN, "--valid", "nada.jsonl"], "nada.jsonl cannot be read"),
        ([TRAIN, "--model", "nada"], "models/nada"),
        ([TRAIN, "--model", "../../etc"], "leads out of the workspace"),
        ([TRAIN, "--format", "xml"], "'xml' is not one of"),
        ([TRAIN, "--max-seq-length", "1"], "not in the range"),
    ],
)
def test_wrong_use_is_one_clear_error(invoke: Run, arguments: list[str], message: str) -> None:
    done = invoke("data", "check", *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert "Traceback" not in done.err


def test_templates_by_name_want_a_choice(invoke: Run, tmp_path: Path, tiny_model: Path) -> None:
    make_family("named", tiny_model, tmp_path / "models" / "named")
    check = ("data", "check", VALID, "--format", "chat")
    refused = invoke(*check)
    assert (refused.code, refused.out) == (2, "")
    assert "none of them named default; it has: plain, rag." in refused.err
    assert "--chat-template plain" in refused.err
    assert invoke(*check, "--chat-template", "plain").code == 0
    unknown = invoke(*check, "--chat-template", "other")
    assert (unknown.code, "it has: plain, rag." in unknown.err) == (2, True)
    assert invoke("data", "check", VALID, "--thinking", "on").code == 2


def test_what_the_template_and_the_texts_make_is_said(
    invoke: Run, tmp_path: Path, tiny_model: Path
) -> None:
    make_family("qwq", tiny_model, tmp_path / "models" / "qwq")
    rows = [{"prompt": f"Quem {n}?", "completion": f"Nós, {n}.<|im_end|>"} for n in range(2)]
    path = write_rows(tmp_path / "d.jsonl", rows)
    done = invoke("data", "check", str(path), "--format", "chat")
    told = " ".join(done.out.split())
    assert done.code == 0
    assert "ends with <|im_end|>, which is added anyway; it is learned once: 2 lines (1, 2)" in told
    assert "opens a reasoning block (<think>) in every prompt" in told


TALK = {
    "messages": [
        {"role": "user", "content": "Onde joga?"},
        {"role": "assistant", "content": "Em Faro."},
        {"role": "user", "content": "E quando?"},
        {"role": "assistant", "content": "Hoje."},
    ]
}


@pytest.mark.parametrize(
    ("loss_on", "shown"),
    [
        ("last_answer", ["Em Faro.<|im_end|>", ">>Hoje.<|im_end|><<"]),
        ("all_answers", [">>Em Faro.<|im_end|><<", ">>Hoje.<|im_end|><<"]),
        ("everything", ["Em Faro.<|im_end|>", "Hoje.<|im_end|><<"]),
    ],
)
def test_it_shows_what_is_learned(
    invoke: Run, tmp_path: Path, file: Path, tiny_model: Path, loss_on: str, shown: list[str]
) -> None:
    make_family("chatml", tiny_model, tmp_path / "models" / "tiny")
    write_rows(file, [TALK, {"prompt": "Quem?", "completion": "Nós."}, TALK])
    command = ("data", "check", str(file), "--format", "chat", "--loss-on", loss_on)
    done = invoke(*command)
    assert done.code == 0
    assert [line[:7] for line in done.out.splitlines() if line.startswith("line ")] == [
        "line 1:",
        "line 2:",
    ]
    lines = invoke(*command, "--line", "3").out.splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("line 3:"))
    answers = [line.strip() for line in lines[head:] if "Faro." in line or "Hoje." in line]
    assert answers == shown
    (example,) = json.loads(invoke(*command, "--line", "3", "--json").out)["examples"]
    assert len(example["tokens"]) == len(example["texts"]) == len(example["learned"])
    assert f"{len(example['tokens'])} tokens, {sum(example['learned'])} learned" in lines[head]


@pytest.mark.parametrize(
    ("number", "said"),
    [("2", 'line 2: "completion" is missing'), ("9", "holds no example on line 9")],
)
def test_a_line_that_cannot_be_shown(
    invoke: Run, tmp_path: Path, file: Path, tiny_model: Path, number: str, said: str
) -> None:
    shutil.copytree(tiny_model, tmp_path / "models" / "tiny")
    file.write_text(GOOD + '{"prompt": "Quem?"}\n')
    done = invoke("data", "check", str(file), "--line", number)
    assert done.code == 2
    assert said in done.err


def test_lines_are_shown_by_a_model(invoke: Run, file: Path) -> None:
    file.write_text(GOOD)
    done = invoke("data", "check", str(file), "--line", "1")
    assert done.code == 2
    assert "there is no model in models/" in done.err


def test_a_share_of_a_file_of_which_no_line_can_be_used_is_no_second_fault(
    invoke: Run, tmp_path: Path
) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    (tmp_path / "turns.jsonl").write_text(json.dumps({"messages": [*turns, *turns]}) + "\n")
    done = invoke("data", "check", "turns.jsonl", "--valid", "10%")
    assert done.code == 2
    assert "several turns need prompt_format: chat" in " ".join(done.out.split())
    assert "cannot be split" not in done.out + done.err
