"""`farense model`: what a person types and sees. The hub is a local server that answers like it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.storage.files import read_json
from tests.cli.conftest import Outcome, Run
from tests.helpers.hub import Hub, serving_hub
from tests.helpers.tiny_gguf import Tensor, tiny_gguf

UNREACHABLE = "http://127.0.0.1:9"  # the discard port: nothing listens there
NAME = "org/tiny"


@pytest.fixture
def hub(tiny_model: Path, tmp_path: Path) -> Iterator[Hub]:
    repository = shutil.copytree(tiny_model, tmp_path / "repository")
    (repository / "modeling.py").write_text("raise SystemExit('this must never run')")
    (repository / "pytorch_model.bin").write_bytes(b"a pickle")
    (repository / "original").mkdir()
    (repository / "original" / "model.safetensors").write_bytes(b"another form")
    with serving_hub() as hub:
        hub.repositories[NAME] = repository
        yield hub


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


def pull(farense: Run, home: Path, endpoint: str, *arguments: str) -> Outcome:
    variables = {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
    return farense("model", "pull", *arguments, home=home, **variables)


def models_in(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "models").iterdir())


def test_a_model_of_the_hub_comes_without_code(farense: Run, hub: Hub, home: Path) -> None:
    done = pull(farense, home, hub.url, NAME, "--as", "mine")
    assert (done.code, done.out) == (0, f"{home}/models/mine\n")
    assert models_in(home) == ["mine"]
    assert {path.name for path in (home / "models" / "mine").iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip
    listed = json.loads(farense("model", "list", "--json", home=home).out)
    assert [(model["name"], model["problem"]) for model in listed] == [("mine", None)]


def test_a_download_that_breaks_off_is_taken_up_again(farense: Run, hub: Hub, home: Path) -> None:
    hub.broken.add("model.safetensors")
    done = pull(farense, home, hub.url, NAME)
    assert done.code == 1
    assert "org/tiny could not be downloaded from the Hugging Face hub" in done.err
    assert "Traceback" not in done.err
    assert models_in(home) == [".tiny.partial"]
    # The files are downloaded at once: tokenizer.json may be there by now, or not.
    there = {path.name for path in (home / "models" / ".tiny.partial").iterdir() if path.is_file()}
    assert there - {"tokenizer.json"} == {"config.json", "tokenizer_config.json"}
    hub.broken.clear()
    hub.served.clear()
    assert pull(farense, home, hub.url, NAME).code == 0
    assert models_in(home) == ["tiny"]
    assert sorted(hub.served) == sorted({"model.safetensors", "tokenizer.json"} - there)


def test_a_model_that_asks_for_code_is_refused_before_its_weights(
    farense: Run, hub: Hub, home: Path
) -> None:
    config = hub.repositories[NAME] / "config.json"
    config.write_text(json.dumps({"model_type": "x", "auto_map": {"AutoModel": "modeling.X"}}))
    done = pull(farense, home, hub.url, NAME)
    assert done.code == 2
    assert "asks for Python code of its own to be run (auto_map): refused." in done.err
    assert models_in(home) == []
    assert "model.safetensors" not in hub.served


def test_a_model_that_cannot_be_trained_is_refused_before_its_weights(
    farense: Run, hub: Hub, home: Path
) -> None:
    config = hub.repositories[NAME] / "config.json"
    config.write_text(config.read_text().replace('"mistral"', '"phi3small"'))
    done = pull(farense, home, hub.url, NAME)
    assert done.code == 2
    assert f"{NAME} cannot be trained by mlx-lm's phi3small" in done.err
    assert "docs/models.md" in done.err
    assert "model.safetensors" not in hub.served
    assert not list((home / "models").glob("*"))


def test_a_model_with_only_a_pickle_is_refused(farense: Run, hub: Hub, home: Path) -> None:
    (hub.repositories[NAME] / "model.safetensors").unlink()
    done = pull(farense, home, hub.url, NAME)
    assert done.code == 2
    assert "org/tiny has no weights that farense accepts" in done.err
    assert hub.served == []


def test_a_model_that_is_not_there_or_not_open(farense: Run, hub: Hub, home: Path) -> None:
    done = pull(farense, home, hub.url, "org/nothing")
    assert done.code == 2
    assert "The Hugging Face hub has no model org/nothing" in done.err
    hub.gated.add("org/gated")
    done = pull(farense, home, hub.url, "org/gated")
    assert done.code == 2
    assert "HF_TOKEN" in done.err


def test_no_network_is_one_clear_line(farense: Run, home: Path) -> None:
    done = pull(farense, home, UNREACHABLE, NAME)
    assert (done.code, done.out) == (1, "")
    asking, error, hint = done.err.splitlines()
    assert asking == "Asking the Hugging Face hub for org/tiny ..."
    assert error.startswith("Error: org/tiny could not be downloaded from the Hugging Face hub: ")
    assert error.endswith("Connection refused")
    assert hint == "Hint: Check the network connection and try again."


def test_offline_mode_says_so(farense: Run, home: Path) -> None:
    done = farense("model", "pull", NAME, home=home, HF_HUB_OFFLINE="1")
    assert done.code == 1
    assert "HF_HUB_OFFLINE is set" in done.err


def test_an_unknown_name_is_wrong_use(invoke: Run) -> None:
    done = invoke("model", "pull", "../escape")
    assert done.code == 2
    assert "Error: There is no model '../escape' to pull." in done.err
    assert "Hint: Known names: smollm2-135m" in done.err


def test_the_list_is_a_table(invoke: Run, tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "models" / "tiny")
    (tmp_path / "models" / "empty").mkdir()
    done = invoke("model", "list")
    assert done.code == 0
    lines = [line.split() for line in done.out.splitlines()]
    assert ["model", "architecture", "parameters", "layers", "bits", "size"] in lines
    assert ["tiny", "mistral", "0.214M", "4", "4", "0.2", "MB"] in lines
    assert "empty cannot be used: " in done.out


def test_an_empty_list_says_what_to_type(invoke: Run) -> None:
    done = invoke("model", "list")
    assert (done.code, done.out) == (0, "")
    assert "farense model pull smollm2-135m" in done.err
    assert json.loads(invoke("model", "list", "--json").out) == []


def test_a_gguf_on_disk_becomes_a_model(farense: Run, home: Path, tmp_path: Path) -> None:
    path = tiny_gguf().write(tmp_path / "Far ense-Q4_1.gguf")
    done = farense("model", "pull", str(path), home=home)
    assert (done.code, done.out) == (0, f"{home}/models/Far_ense-Q4_1\n")
    listed = json.loads(farense("model", "list", "--json", home=home).out)
    assert [(model["name"], model["problem"]) for model in listed] == [("Far_ense-Q4_1", None)]
    # The file is the person's.
    assert path.is_file()


def test_a_gguf_of_the_hub_is_chosen_by_its_name(farense: Run, hub: Hub, home: Path) -> None:
    repository = hub.repositories[NAME]
    (repository / "model.safetensors").unlink()
    tiny_gguf().write(repository / "tiny-Q4_1.gguf")
    done = pull(farense, home, hub.url, NAME)
    assert done.code == 2
    assert f"Hint: It has GGUFs: farense model pull {NAME}/tiny-Q4_1.gguf\n" in done.err
    done = pull(farense, home, hub.url, f"{NAME}/other.gguf")
    assert (done.code, done.out) == (2, "")
    assert f"{NAME} has no file other.gguf." in done.err
    done = pull(farense, home, hub.url, f"{NAME}/tiny-Q4_1.gguf", "--as", "mine")
    assert (done.code, done.out) == (0, f"{home}/models/mine\n")
    assert models_in(home) == ["mine"]
    assert hub.served == ["tiny-Q4_1.gguf"]
    assert list(read_json(home / ".farense/model_origins.json").values()) == [NAME]


def test_a_gguf_that_cannot_be_read_leaves_nothing(
    farense: Run, home: Path, tmp_path: Path
) -> None:
    model = tiny_gguf()
    old = model.tensors["blk.0.attn_v.weight"]
    model.tensors["blk.0.attn_v.weight"] = Tensor(13, old.shape, old.content)
    path = model.write(tmp_path / "tiny.gguf")
    done = farense("model", "pull", str(path), home=home)
    assert (done.code, done.out) == (2, "")
    assert "MLX cannot read blk.0.attn_v.weight of tiny.gguf, a tensor of the kind Q5_K" in done.err
    part = path.rename(tmp_path / "tiny-00001-of-00003.gguf")
    done = farense("model", "pull", str(part), home=home)
    assert (done.code, done.out) == (2, "")
    assert "tiny-00001-of-00003.gguf is one of 3 parts of a model." in done.err
    for nothing in (f"{tmp_path}/nothing.gguf", "downloads/nothing.gguf", "nothing.gguf"):
        done = farense("model", "pull", nothing, home=home)
        assert (done.code, done.out) == (2, "")
        assert f"There is no file {nothing}." in done.err
    assert models_in(home) == []
