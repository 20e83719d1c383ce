"""`farense push`: what goes to the hub is what was shown. A local server takes the hub's place."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from jobs.model_store.folder import fingerprint
from jobs.model_store.origin import keep_origin
from jobs.paths import Workspace
from jobs.storage.files import read_json, write_json
from tests.cli.conftest import Outcome, Run
from tests.helpers.exports import exported
from tests.helpers.hub_uploads import TOKEN, Repository, UploadHub, taking_uploads
from tests.helpers.past_runs import FIRST, SECOND

NAME = "tiny-farense-qlora-tiny"
THERE = "maria/farense"
Push = Callable[..., Outcome]


@pytest.fixture
def hub() -> Iterator[UploadHub]:
    with taking_uploads() as hub:
        yield hub


@pytest.fixture
def push(farense: Run, hub: UploadHub, tmp_path: Path) -> Push:
    """A function that pushes to the hub of the test, logged in there."""
    variables = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": TOKEN,
        "MLX_DISABLE_COMPILE": "1",
        "NO_PROXY": "127.0.0.1",
    }

    def run(job: str, *arguments: str, **changed: str) -> Outcome:
        done = farense("push", job, *arguments, **(variables | changed))
        assert "Traceback" not in done.err
        assert TOKEN not in done.out + done.err
        return done

    return run


def test_what_was_sent_is_what_the_dry_run_listed(
    push: Push, hub: UploadHub, past: Workspace
) -> None:
    listed = json.loads(push(FIRST, THERE, "--dry-run", "--json").out)
    assert hub.requests == []
    assert [file["name"] for file in listed["files"]] == [
        "README.md", "adapter_config.json", "adapters.safetensors", "farense_export.json"
    ]  # fmt: skip
    done = push(FIRST, THERE)
    assert done.code == 0, done.err
    repository = hub.repositories[THERE]
    assert repository.private
    assert done.out == f"{hub.url}/{THERE}/commit/{repository.head}\n"
    came = [
        {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(repository.files.items())
    ]
    assert came == listed["files"]
    assert set(hub.stored) == {listed["files"][2]["sha256"]}
    assert f"  README.md             {came[0]['bytes']:>13,} bytes\n" in (
        push(FIRST, THERE, "--dry-run").out
    )
    # The adapter that mlx-lm trained with, from another machine.
    assert repository.files["adapters.safetensors"] == (
        past.run(FIRST).adapter_weights.read_bytes()
    )


def test_the_protocol_for_large_files_sends_no_more(
    push: Push, hub: UploadHub, past: Workspace
) -> None:
    listed = json.loads(push(FIRST, THERE, "--dry-run", "--json").out)
    done = push(FIRST, THERE, HF_HUB_DISABLE_XET="0")
    assert done.code == 0, done.err
    repository = hub.repositories[THERE]
    weights = next(f for f in listed["files"] if f["name"] == "adapters.safetensors")
    assert repository.weights == {weights["name"]: (weights["sha256"], weights["bytes"])}
    assert sorted(repository.files) == [file["name"] for file in listed["files"]]
    assert len(hub.packs) == 1
    assert hub.sent("PUT", "/lfs/") == 0
    # Which the library would send of itself.
    assert hub.sent("POST", "telemetry") == 0


@pytest.mark.parametrize(
    ("kind", "weights"), [("peft", "adapter_model.safetensors"), ("fused", "model.safetensors")]
)
def test_other_exports_go_too_and_are_written_first(
    push: Push, hub: UploadHub, past: Workspace, kind: str, weights: str
) -> None:
    done = push(FIRST, THERE, "--what", kind, "--public", "--json")
    assert done.code == 0, done.err
    assert f"{FIRST} has no export of its best adapter as {kind}: writing it" in done.err
    pushed = json.loads(done.out)
    repository = hub.repositories[THERE]
    assert (pushed["private"], pushed["created"], pushed["changed"]) == (False, True, True)
    assert pushed["commit"] == repository.head
    assert not repository.private
    folder = past.output / f"{NAME}-{kind}"
    assert sorted(repository.files) == sorted(path.name for path in folder.iterdir())
    assert repository.files[weights] == (folder / weights).read_bytes()


def test_the_card_says_how_to_get_it_and_what_it_was_trained_on(
    push: Push, hub: UploadHub, past: Workspace
) -> None:
    model = past.models / "tiny"
    assert "names no base model" in push(FIRST, THERE, "--dry-run").err
    keep_origin(past, model, "mlx-community/Tiny-4bit")
    assert push(FIRST, THERE, "--license", "apache-2.0").code == 0
    card = hub.repositories[THERE].files["README.md"].decode()
    _, front, body = card.split("---\n", 2)
    exported_head = (past.output / NAME / "README.md").read_text().split("---\n")[1]
    assert yaml.safe_load(front) == {
        **yaml.safe_load(exported_head),
        "base_model": "mlx-community/Tiny-4bit",
        "license": "apache-2.0",
    }
    got = f"    hf download {THERE} --local-dir output/{NAME}\n"
    assert got in body.partition("## How to load it")[2].partition("mlx_lm generate")[0]
    # Another model in its place is not taken for it.
    config = read_json(model / "config.json")
    before = fingerprint(model)
    write_json(model / "config.json", config | {"rope_theta": 1.0})
    assert fingerprint(model) != before
    keep_origin(past, model, "mlx-community/Other")
    assert json.loads(push(FIRST, THERE, "--dry-run", "--json").out)["base_model"] == (
        "mlx-community/Tiny-4bit"
    )
    said = push(FIRST, THERE, "--base-model", "maria/own", "--dry-run", "--json").out
    assert json.loads(said)["base_model"] == "maria/own"


def test_only_what_belongs_to_an_export_goes(push: Push, hub: UploadHub, past: Workspace) -> None:
    exported(past, FIRST)
    folder = past.output / NAME
    (folder / "train.jsonl").write_text('{"prompt": "secret"}\n')
    (folder / "notes").mkdir()
    (folder / "chat_template_config.json").symlink_to(past.run(FIRST).job)
    done = push(FIRST, THERE)
    assert done.code == 0, done.err
    for name in ("train.jsonl", "notes", "chat_template_config.json"):
        assert f"{name} stays here: it is no part of an export." in done.err
        assert name not in hub.repositories[THERE].files


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("README.md", ", line "),
        ("adapter_config.json", " holds"),
        ("farense_export.json", " holds"),
    ],
)
def test_a_path_of_this_machine_lets_nothing_go(
    push: Push, hub: UploadHub, past: Workspace, tmp_path: Path, file: str, found: str
) -> None:
    exported(past, FIRST)
    path = past.output / NAME / file
    home = tmp_path / "José's home"
    home.mkdir()
    if path.suffix == ".json":
        path.write_text(json.dumps(json.loads(path.read_text()) | {"x": f"{home}/data"}))
    else:
        path.write_text(f"{path.read_text()}\nMade in {home}/data.\n")
    done = push(FIRST, THERE, HOME=str(home))
    assert (done.code, done.out) == (2, "")
    assert f"{path}{found}" in done.err
    assert f"holds a path of this machine ({home}): nothing was sent." in done.err
    assert hub.requests == []


def test_a_path_in_the_head_of_weights_and_a_token_are_found(
    push: Push, hub: UploadHub, past: Workspace
) -> None:
    exported(past, FIRST)
    folder = past.output / NAME
    config = folder / "adapter_config.json"
    before = config.read_text()
    config.write_text(before.replace("{", '{"token": "hf_' + "b" * 34 + '",', 1))
    done = push(FIRST, THERE)
    assert done.code == 2
    assert "adapter_config.json holds what looks like a token" in done.err
    config.write_text(before)
    exported(past, FIRST, peft=True)
    peft = past.output / f"{NAME}-peft" / "adapter_model.safetensors"
    content = peft.read_bytes()
    size = int.from_bytes(content[:8], "little")
    head = json.loads(content[8 : 8 + size])
    head["__metadata__"] = {"from": str(past.root)}
    text = json.dumps(head).encode()
    peft.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])
    done = push(FIRST, THERE, "--what", "peft")
    assert done.code == 2
    assert f"{peft} holds a path of this machine ({past.root})" in done.err
    assert hub.requests == []


def test_the_same_again_sends_nothing_and_a_better_adapter_is_exported_first(
    push: Push, hub: UploadHub, past: Workspace
) -> None:
    assert push(FIRST, THERE).code == 0
    head = hub.repositories[THERE].head
    done = push(FIRST, THERE, "--json")
    assert json.loads(done.out)["changed"] is False
    assert hub.repositories[THERE].head == head
    assert "writing it" not in done.err
    # The job went on and found a better one.
    shutil.copy(past.run(SECOND).adapter_weights, past.run(FIRST).adapter_weights)
    shutil.copy(past.run(SECOND).adapters / "adapter_config.json", past.run(FIRST).adapters)
    job = read_json(past.run(FIRST).job)
    job["config"]["lora"]["rank"] = 2
    write_json(past.run(FIRST).job, job)
    done = push(FIRST, THERE)
    assert done.code == 0, done.err
    assert "has no export of its best adapter as adapter: writing it" in done.err
    assert hub.repositories[THERE].files["adapters.safetensors"] == (
        past.run(SECOND).adapter_weights.read_bytes()
    )
    assert len(hub.repositories[THERE].commits) == 2


def test_an_upload_that_breaks_off_is_pushed_again(
    push: Push, hub: UploadHub, past: Workspace
) -> None:
    exported(past, FIRST)
    hub.breaks_off = 100
    done = push(FIRST, THERE)
    assert (done.code, done.out) == (1, "")
    assert f"{THERE} could not be pushed to the Hugging Face hub" in done.err
    assert "push again" in done.err
    assert hub.repositories[THERE].commits == []
    hub.breaks_off = 1
    done = push(FIRST, THERE, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["created"] is False
    assert len(hub.repositories[THERE].commits) == 1


def test_no_token_no_network_and_no_right_are_one_clear_line(
    push: Push, hub: UploadHub, past: Workspace
) -> None:
    exported(past, FIRST)
    done = push(FIRST, THERE, HF_TOKEN="")
    assert (done.code, done.out) == (2, "")
    assert "Error: There is no token of the Hugging Face hub here.\nHint: Log in" in done.err
    done = push(FIRST, THERE, HF_TOKEN=TOKEN[:-1])
    assert (done.code, done.out) == (2, "")
    assert "does not accept the token" in done.err
    for bad in ("hf_é1234567", "hf_12 34567", "hf_12\x0134567"):
        done = push(FIRST, THERE, HF_TOKEN=bad)
        assert (done.code, done.out) == (2, "")
        assert "cannot be one" in done.err
        assert "34567" not in done.err
    done = push(FIRST, THERE, HF_ENDPOINT="http://127.0.0.1:9")
    assert (done.code, done.out) == (1, "")
    assert f"Error: {THERE} could not be pushed to the Hugging Face hub: " in done.err
    assert "Check the network connection" in done.err
    done = push(FIRST, THERE, HF_HUB_OFFLINE="1")
    assert (done.code, done.out) == (1, "")
    assert "HF_HUB_OFFLINE is set" in done.err
    done = push(FIRST, "scfarense/model")
    assert (done.code, done.out) == (2, "")
    assert "may not write to scfarense/model: You don't have the rights" in done.err
    assert "It is a token of maria: maria/model would be its own." in done.err
    assert hub.repositories == {}


@pytest.mark.parametrize(
    "name", ["farense", "maria/", "maria/a b", "maria/a--b", "m/a/b", "m/x.git"]
)
def test_a_name_that_is_none_is_refused_before_anything_is_done(
    push: Push, hub: UploadHub, past: Workspace, name: str
) -> None:
    done = push(FIRST, name)
    assert (done.code, done.out) == (2, "")
    assert repr(name) in done.err
    assert not past.output.exists()
    assert hub.requests == []


def test_what_is_there_is_not_shown_to_others_nor_mixed(
    push: Push, hub: UploadHub, past: Workspace
) -> None:
    exported(past, FIRST)
    hub.repositories[THERE] = Repository(private=False)
    done = push(FIRST, THERE)
    assert (done.code, done.out) == (2, "")
    assert f"{THERE} is there and is public: everybody could see what is pushed." in done.err
    assert push(FIRST, THERE, "--public").code == 0
    hub.repositories[THERE].private = True
    done = push(FIRST, THERE, "--public")
    assert done.code == 0
    assert f"{THERE} was there and stays private" in done.err
    done = push(FIRST, THERE, "--what", "peft")
    assert (done.code, done.out) == (2, "")
    assert f"{THERE} holds other weights, adapters.safetensors" in done.err


def test_what_the_repository_ignores_is_not_taken_for_sent(
    push: Push, hub: UploadHub, past: Workspace
) -> None:
    exported(past, FIRST)
    hub.repositories[THERE] = Repository(private=True)
    hub.repositories[THERE].commit("By hand", {".gitignore": b"*.safetensors\n"})
    done = push(FIRST, THERE)
    assert (done.code, done.out) == (1, "")
    assert f"adapters.safetensors is not in {THERE} as it was sent." in done.err


def test_a_changed_adapter_and_an_export_by_half_are_refused(
    push: Push, hub: UploadHub, past: Workspace
) -> None:
    exported(past, FIRST, peft=True)
    shutil.copy(past.run(SECOND).adapter_weights, past.output / NAME / "adapters.safetensors")
    done = push(FIRST, THERE)
    assert (done.code, done.out) == (2, "")
    assert "is not the adapter that was exported: it was changed." in done.err
    (past.output / f"{NAME}-peft/adapter_config.json").unlink()
    done = push(FIRST, THERE, "--what", "peft")
    assert (done.code, done.out) == (2, "")
    assert "is not whole: it has no adapter_config.json." in done.err
    assert hub.requests == []
