"""`farense data import`: every form comes in whole, and what does not is told in a line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from jobs.data.examples import Dialogue, read_examples
from jobs.events import Event
from jobs.paths import Workspace
from jobs.spec import read_spec
from jobs.training.session import train
from tests.cli.conftest import Outcome, Run
from tests.helpers.data_forms import ASKED, FORMS, array, lines, pairs, table, write_form
from tests.helpers.families import make_family
from tests.helpers.runs import make_run
from tests.helpers.tool_families import TOOL_FAMILIES

CHAT: dict[str, Any] = {"prompt_format": "chat", "max_seq_length": 320, "num_epochs": 1}


def rows_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("form", FORMS)
def test_a_form_comes_in_passes_the_check_and_is_trained_on(
    invoke: Run, tmp_path: Path, tiny_model: Path, form: str
) -> None:
    file = write_form(form, tmp_path)
    models = tmp_path / "models"
    # Its template writes tools, and all else, too.
    models.mkdir()
    model = make_family("qwen3", tiny_model, models / "tiny", TOOL_FAMILIES["qwen3"])
    _, _, rows, name, why = FORMS[form]
    done = invoke("data", "import", str(file), "--to", "data/mine")
    assert (done.code, done.err) == (0, "")
    assert f"{len(rows)} examples in the form {name}" in done.out
    assert why in done.out
    assert "left out" not in done.out
    assert "farense data check data/mine/train.jsonl" in done.out
    written = tmp_path / "data" / "mine" / "train.jsonl"
    answers = [
        row.completion if isinstance(row, Dialogue) else row.text for row in read_examples(written)
    ]
    assert answers == [answer for _, answer in ASKED]
    checked = invoke("data", "check", "data/mine/train.jsonl", "--format", "chat")
    assert checked.code == 0
    assert "6 examples, no bad lines" in checked.out
    workspace = Workspace(tmp_path / "home")
    run = make_run(workspace, model, train_rows=rows_in(written), valid=None, **CHAT)
    said: list[Event] = []
    assert train(workspace, read_spec(run), said.append, lambda: None) is not None
    assert (run.path / "training_metrics.jsonl").exists()


def test_a_table_adds_no_empty_keys_to_tools_and_calls(invoke: Run, tmp_path: Path) -> None:
    for name, folder in (("tools, objects", "data/lists"), ("tools in Parquet", "data/table")):
        assert invoke("data", "import", str(write_form(name, tmp_path)), "--to", folder).code == 0
    written = [tmp_path / "data" / name / "train.jsonl" for name in ("lists", "table")]
    assert read_examples(written[0]) == read_examples(written[1])
    assert "null" not in written[1].read_text().replace('"content":null', "")


def test_what_a_model_cannot_read_is_told_and_shown_as_text(
    invoke: Run, tmp_path: Path, tiny_model: Path
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny").symlink_to(tiny_model)
    done = invoke("data", "import", str(write_form("tools", tmp_path)))
    assert done.code == 0
    assert "tiny cannot read them: " in done.err
    assert "line 1: the model's chat template does not write tool call 1 of message 2" in done.err
    assert 'resultado({"clube":' in done.out
    assert "assistant: >>O Farense, por 0-0.<<" in done.out
    assert "--valid 10% --format chat" in done.out


def test_two_examples_are_shown_as_they_are_learned(
    invoke: Run, tmp_path: Path, tiny_model: Path
) -> None:
    write_form("ShareGPT", tmp_path)
    done = invoke("data", "import", "a.json")
    assert "user: Olá!\n" in done.out
    assert "assistant: >>O Farense, por 0-0.<<" in done.out
    assert "these are texts, not tokens" in done.out
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny").symlink_to(tiny_model)
    done = invoke("data", "import", "a.json", "--force", "--valid", "2", "--json")
    shown = json.loads(done.out)
    assert shown["model"] == "tiny"
    assert (shown["train_examples"], shown["valid_examples"]) == (4, 2)
    assert "learned" in shown["examples"][0]
    assert any(">>O Farense, por" in line for line in shown["examples"])


def test_labels_stay_and_what_is_not_used_is_named(invoke: Run, tmp_path: Path) -> None:
    rows = pairs("question", "answer", tipo="vitória", page=7, source={"url": "x"}, long="x" * 300)
    rows[0]["metadata"] = {"tipo": "empate"}
    lines(tmp_path / "a.jsonl", rows)
    done = invoke("data", "import", "a.jsonl")
    assert "kept in metadata, which is never trained on: page, tipo" in done.out
    assert "not used: long, source" in done.out
    first, second, *_ = rows_in(tmp_path / "data" / "a" / "train.jsonl")
    assert first["metadata"] == {"tipo": "empate", "page": 7}
    assert second["metadata"] == {"tipo": "vitória", "page": 7}


def test_named_columns_decide(invoke: Run, tmp_path: Path) -> None:
    rows = pairs("Q", "A", S="Sê breve.", answer="outra", question="outra?")
    table(tmp_path / "a.csv", rows)
    named = ["--map", "prompt=Q", "--map", "completion=A", "--map", "system=S"]
    done = invoke("data", "import", "a.csv", *named)
    assert done.code == 0
    assert "in the form --map, known by columns Q, A, S" in done.out
    row = rows_in(tmp_path / "data" / "a" / "train.jsonl")[0]
    assert [message["content"] for message in row["messages"]] == ["Sê breve.", *ASKED[0]]


def test_what_is_left_out_is_told_by_its_line(invoke: Run, tmp_path: Path) -> None:
    text = 'question,answer\n"Quem\nganhou?",O Farense.\nQuem?,\nQuem?,a,b\n\x1b[31m?,ok\n'
    (tmp_path / "a.csv").write_text(text)
    done = invoke("data", "import", "a.csv")
    assert done.code == 0
    assert "2 examples in the form question and answer" in done.out
    assert "left out: 2 rows" in done.out
    assert 'line 4: "answer" is empty' in done.out
    assert "line 5: 3 fields, and the header has 2" in done.out
    assert "\x1b" not in done.out
    assert rows_in(tmp_path / "data" / "a" / "train.jsonl")[0]["prompt"] == "Quem\nganhou?"


def test_files_of_one_form_are_put_together(invoke: Run, tmp_path: Path) -> None:
    write_form("CSV", tmp_path)
    write_form("Parquet", tmp_path)
    done = invoke("data", "import", "a.csv", "a.parquet", "--to", "data/both")
    assert done.code == 0
    assert "a.csv: CSV\n" in done.out
    assert "a.parquet: Parquet\n" in done.out
    assert len(rows_in(tmp_path / "data" / "both" / "train.jsonl")) == 12


def test_validation_is_split_off(invoke: Run, tmp_path: Path) -> None:
    rows = [
        {"question": f"Quem {at // 2}?" if at % 2 else f"quem, {at // 2}", "answer": f"{at}",
         "tipo": "a" if at < 150 else "b"}
        for at in range(200)
    ]  # fmt: skip
    lines(tmp_path / "a.jsonl", rows)
    done = invoke("data", "import", "a.jsonl", "--valid", "10%")
    assert done.code == 0
    assert "valid.jsonl: 20 examples" in done.out
    valid = rows_in(tmp_path / "data" / "a" / "valid.jsonl")
    assert sum(row["metadata"]["tipo"] == "a" for row in valid) in (14, 16)
    check = invoke("data", "check", "data/a/train.jsonl", "--valid", "data/a/valid.jsonl", "--json")
    report = json.loads(check.out)
    assert report["leaked_questions"] == report["leaked_examples"] == []
    again = invoke("data", "import", "a.jsonl", "--valid", "10%", "--to", "data/b", "--seed", "7")
    assert again.code == 0
    assert rows_in(tmp_path / "data" / "b" / "valid.jsonl") != valid


def test_what_enqueue_refuses_is_imported_by_what_it_says(
    invoke: Run, farense: Run, tmp_path: Path
) -> None:
    file = write_form("array of Alpaca", tmp_path)
    refused = invoke("data", "check", str(file))
    assert refused.code == 2
    typed = f"farense data import {file}"
    assert typed in refused.err
    assert farense(*typed.split()[1:]).code == 0


Rows = Sequence[dict[str, Any]]
BOTH: Rows = [{"prompt": "a", "completion": "b", "response": "c"}]
CHOSEN: Rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}]

ERRORS: list[tuple[str, str, list[str], list[str]]] = [
    ("a.jsonl", json.dumps(BOTH[0]), [], ["line 1: the columns fit more than one form", "--map"]),
    ("a.jsonl", json.dumps(CHOSEN[0]), [], ["a preference pair", "line 1"]),
    ("a.csv", "x,y\n1,2\n", [], ["of no form that is known, with the columns x, y", "prompt=x"]),
    ("a.csv", "Q,A\n1,2\n", ["--map", "prompt=Q", "--map", "completion=B"],
     ["has no column B; it has Q, A."]),
    ("a.csv", "pergunta,A\n1,2\n", ["--map", "prompt=perguntas", "--map", "completion=A"],
     ["Did you mean pergunta?"]),
    ("a.csv", "Q,A\n1,2\n", ["--map", "prompt=Q"], ["--map names prompt and completion"]),
    ("a.csv", "Q,A\n1,2\n", ["--map", "Q"], ["--map Q says nothing", "completion="]),
    ("a.csv", "Q,A\n1,2\n", ["--map", "text=Q", "--map", "text=A"], ["names text twice"]),
    ("a.csv", "Q,Q\n1,2\n", [], ["more than one column Q"]),
    ("a.csv", 'question,answer\n"a,b\n' + "x" * 11_000_000, [], ["line 2: no record of a table"]),
    ("a.json", '[{"prompt": "a", "completion": "b"}, {"prompt"', [],
     ["not valid JSON after element 1"]),
    ("a.json", '{"data":\n [1]}', [], ["one JSON object over several lines", "jq -c"]),
    ("a.parquet", "PAR1 no more of it", [], ["cannot be read as Parquet"]),
    ("a.txt", "Só um texto.\n", [], ["neither JSON Lines, a JSON array, CSV, TSV nor Parquet"]),
    ("a.zip", "PK\x03\x04", [], ["a zip file"]),
    ("a.html", "<!DOCTYPE html>", [], ["a web page"]),
    ("a.jsonl", "", [], ["is empty"]),
    ("a.jsonl", '{"prompt": "a", "completion": "b"}', ["--valid", "10%"],
     ["10% of 1 example would leave none for validation"]),
    ("a.jsonl", '{"prompt": "a", "completion": "b"}', ["--valid", "60%"], ["at most 50%"]),
    ("a.jsonl", '{"prompt": "a", "completion": "b"}', ["--valid", "some"], ["neither a share"]),
    ("a.jsonl", '{"prompt": "a", "completion": "b"}', ["--to", "x.jsonl"], ["names a folder"]),
    ("a.jsonl", '{"prompt": "a", "completion": "b"}', ["--to", "data/imported"],
     ["where jobs keep their data"]),
    ("a.jsonl", '{"prompt": "a", "completion": "b"}', ["--config", "x"], ["data sets of the hub"]),
    ("a.jsonl", '{"prompt": "a"', [], ["line 1: not valid JSON"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "arguments", "said"), ERRORS)
def test_what_cannot_be_read_is_told_with_what_to_do(
    invoke: Run, tmp_path: Path, name: str, content: str, arguments: list[str], said: list[str]
) -> None:
    (tmp_path / name).write_text(content, encoding="latin-1" if "\x03" in content else "utf-8")
    done = invoke("data", "import", name, *arguments)
    refused(done, *said)
    assert not (tmp_path / "data").exists()


def test_a_table_in_another_encoding_is_refused_whole(invoke: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("question,answer\nQuem é?,Não sei\n".encode("cp1252"))
    refused(invoke("data", "import", "a.csv"), "a.csv, line 2: not UTF-8", "iconv")


def test_files_that_are_not_there(invoke: Run, tmp_path: Path) -> None:
    refused(invoke("data", "import", "nada.csv"), "nada.csv cannot be read")
    refused(invoke("data", "import", str(tmp_path)), "is a folder")


def test_what_breaks_off_is_no_whole_file(invoke: Run, tmp_path: Path) -> None:
    file = write_form("packed", tmp_path)
    file.write_bytes(file.read_bytes()[:-12])
    refused(invoke("data", "import", file.name), "breaks off")


def test_nothing_is_replaced_unasked(invoke: Run, tmp_path: Path) -> None:
    write_form("ours", tmp_path)
    assert invoke("data", "import", "a.jsonl", "--valid", "2").code == 0
    before = (tmp_path / "data" / "a" / "train.jsonl").read_bytes()
    refused(invoke("data", "import", "a.jsonl"), "are there already", "--force")
    assert (tmp_path / "data" / "a" / "train.jsonl").read_bytes() == before
    done = invoke("data", "import", "a.jsonl", "--force")
    assert done.code == 0
    assert "valid.jsonl is of an earlier import" in done.err
    assert (tmp_path / "data" / "a" / "train.jsonl").read_bytes() != before


def test_a_file_without_a_usable_row_is_given_up_early(invoke: Run, tmp_path: Path) -> None:
    array(tmp_path / "a.json", [{"x": at} for at in range(3000)])
    done = invoke("data", "import", "a.json")
    refused(done, "None of the first 1,000 elements of a.json can be used", "with the columns x")


def refused(done: Outcome, *said: str) -> None:
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err
    for part in said:
        assert part in done.err
