"""`farense data import hf:...`: data sets of the hub, a local server that answers like it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.importing.hub_data import declared, named
from tests.cli.conftest import Outcome, Run
from tests.helpers.data_forms import lines, pairs, parquet, table
from tests.helpers.hub import Hub, serving_hub

UNREACHABLE = "http://127.0.0.1:9"  # the discard port: nothing listens there
NAME = "org/perguntas"
CARD = """---
configs:
- config_name: {0}
  data_files:
  - split: train
    path: {0}/train-*
- config_name: {1}
  data_files: {1}/*.jsonl
---
# Perguntas
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serving_hub() as hub:
        (tmp_path / "repository" / "data").mkdir(parents=True)
        hub.repositories[f"datasets/{NAME}"] = tmp_path / "repository"
        yield hub


Import = Callable[..., Outcome]


@pytest.fixture
def fetch(farense: Run, hub: Hub, tmp_path: Path) -> Import:
    home = tmp_path / "home"
    home.mkdir()

    def run(*arguments: str, endpoint: str = hub.url, **variables: str) -> Outcome:
        settings = {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
        return farense("data", "import", *arguments, home=home, **{**settings, **variables})

    return run


def rows(home: Path, name: str = "perguntas") -> list[dict[str, str]]:
    text = (home / "home" / "data" / name / "train.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_the_training_split_is_told_by_the_names_of_files(
    fetch: Import, hub: Hub, tmp_path: Path
) -> None:
    data = tmp_path / "repository" / "data"
    for number in (0, 1):
        parquet(data / f"train-0000{number}-of-00002.parquet", pairs("question", "answer"))
    parquet(data / "test-00000-of-00001.parquet", pairs("question", "answer"))
    (tmp_path / "repository" / "perguntas.py").write_text("raise SystemExit('never')")
    done = fetch(f"hf:{NAME}")
    assert done.code == 0
    assert "Downloading the split train, of test, train: 2 files" in done.err
    assert f"hf:{NAME}:train (data/train-00000-of-00002.parquet): Parquet" in done.out
    assert "12 examples in the form question and answer" in done.out
    assert len(rows(tmp_path)) == 12
    assert sorted(hub.served) == [f"train-0000{number}-of-00002.parquet" for number in (0, 1)]
    # Nothing of the download stays.
    assert list((tmp_path / "home" / ".farense").rglob("*.parquet")) == []
    done = fetch(f"hf:{NAME}:test", "--to", "data/other", "--json")
    assert json.loads(done.out)["train_examples"] == 6


def test_parts_of_a_card_are_chosen_by_name(fetch: Import, hub: Hub, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (repository / "README.md").write_text(CARD.format("main", "social"))
    for part in ("main", "social"):
        (repository / part).mkdir()
    table(repository / "main" / "train-1.csv", pairs("question", "answer"))
    lines(repository / "social" / "all.jsonl", pairs("prompt", "response"))
    refused(
        fetch(f"hf:{NAME}"), f"{NAME} has several parts: main, social", f"hf:{NAME} --config main"
    )
    refused(fetch(f"hf:{NAME}", "--config", "sociol"), "no part sociol", "Did you mean social?")
    done = fetch(f"hf:{NAME}", "--config", "social")
    assert done.code == 0
    assert "the form prompt and response" in done.out
    assert hub.served == ["all.jsonl"]


def test_a_data_set_made_by_a_program_comes_from_the_hub_s_own_copy(
    fetch: Import, hub: Hub, tmp_path: Path
) -> None:
    (tmp_path / "repository" / "perguntas.py").write_text("raise SystemExit('never')")
    refused(fetch(f"hf:{NAME}"), "no file that farense reads", "code of a data set is never run")
    copy = tmp_path / "copy"
    (copy / "default" / "train").mkdir(parents=True)
    parquet(copy / "default" / "train" / "0000.parquet", pairs("question", "answer"))
    hub.repositories[f"datasets/{NAME}@refs/convert/parquet"] = copy
    done = fetch(f"hf:{NAME}:train")
    assert (done.code, len(rows(tmp_path))) == (0, 6)
    assert hub.served == ["0000.parquet"]


def test_a_split_or_a_data_set_that_is_not_there(fetch: Import, hub: Hub, tmp_path: Path) -> None:
    for split in ("test", "validation"):
        lines(tmp_path / "repository" / f"{split}.jsonl", pairs("question", "answer"))
    refused(fetch(f"hf:{NAME}"), "several splits: test, validation", f"import hf:{NAME}:test")
    refused(fetch(f"hf:{NAME}:validatoin"), "Did you mean validation?")
    refused(fetch("hf:org/nothing"), "The Hugging Face hub has no data set org/nothing")
    refused(fetch("hf:a/b/c"), "'a/b/c' is not the name of a data set")
    hub.gated.add("datasets/org/gated")
    refused(fetch("hf:org/gated"), "https://huggingface.co/datasets/org/gated", "HF_TOKEN")


def test_no_network_is_one_clear_line(fetch: Import) -> None:
    for done in (
        fetch(f"hf:{NAME}", endpoint=UNREACHABLE),
        fetch(f"hf:{NAME}", HF_HUB_OFFLINE="1"),
    ):
        assert (done.code, done.out) == (1, "")
        _, message, hint = done.err.splitlines()
        assert message.startswith(f"Error: {NAME} c")
        assert hint.startswith("Hint: ")


def test_what_was_downloaded_is_used_again_after_a_fault(
    fetch: Import, hub: Hub, tmp_path: Path
) -> None:
    lines(tmp_path / "repository" / "train.jsonl", pairs("Q", "A"))
    refused(fetch(f"hf:{NAME}"), "of no form that is known", "--map prompt=")
    done = fetch(f"hf:{NAME}", "--map", "prompt=Q", "--map", "completion=A")
    assert (done.code, hub.served) == (0, ["train.jsonl"])


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["data/train-00000-of-00001-ab.parquet", "README.md"], {"train": 1}),
        (["train.jsonl", "dev.jsonl", "eval.jsonl"], {"train": 1, "validation": 1, "test": 1}),
        (["alpaca_data.json", "dataset_infos.json"], {"train": 1}),
        (["data.parquet", "data.csv"], {"train": 1}),
        (["training/a.csv", "training/b.csv", "latest.csv"], {"train": 3}),
        (["model.safetensors", "script.py"], None),
    ],
)
def test_splits_by_the_names_of_files(names: list[str], splits: dict[str, int] | None) -> None:
    found = named(names)
    counted = {split: len(files) for split, files in found.get("default", {}).items()}
    assert (counted or None) == splits


def test_a_card_that_names_no_files_of_its_own_says_nothing() -> None:
    assert declared(None, ["a.csv"]) == {}
    assert declared([{"config_name": "x"}, "y"], ["a.csv"]) == {}
    assert declared([{"data_files": "b/*"}], ["a.csv"]) == {}
    assert declared([{"data_files": ["a.csv", "b.csv"]}], ["a.csv", "b.csv"]) == {
        "default": {"train": ["a.csv", "b.csv"]}
    }


def refused(done: Outcome, *said: str) -> None:
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err
    for part in said:
        assert part in done.err
