"""The prefix cache as a job uses it: what hits, what misses, and what it does without it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from jobs.paths import RunDirectory, Workspace
from jobs.prefix.cache import PrefixCache
from jobs.storage.files import sha256_of, write_json
from tests.helpers.attempts import attempt, computed, evict, result, warnings
from tests.helpers.prefix import flip
from tests.helpers.runs import SETTINGS, make_run

JOB = "20261122-21000{}-tiny-cach"
LORA = SETTINGS["lora"]
FILES = {"11.jsonl": 11, "5.jsonl": 5}
WEIGHTS = "models/tiny/model.safetensors"


def job(workspace: Workspace, tiny_model: Path, number: int = 1, **settings: Any) -> RunDirectory:
    return make_run(workspace, tiny_model, JOB.format(number), **{"num_epochs": 1, **settings})


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> RunDirectory:
    """A job that has filled the cache of its workspace."""
    workspace = Workspace(tmp_path_factory.mktemp("used"))
    run = job(workspace, tiny_model, 0)
    assert computed(attempt(workspace, run)) == FILES
    return run


@pytest.fixture
def warm(alone: Workspace, used: RunDirectory) -> RunDirectory:
    """The same in a copy of that workspace."""
    shutil.copytree(used.path.parents[1], alone.root, dirs_exist_ok=True)
    return alone.run(used.job_id)


def spoil_weights(workspace: Workspace, block: int) -> None:
    """Turn every bit of a block's quantized weights; all else in the file stays where it is."""
    path = workspace.root / WEIGHTS
    content = bytearray(path.read_bytes())
    data = 8 + int.from_bytes(content[:8], "little")
    for name, tensor in json.loads(content[8:data]).items():
        if f".layers.{block}." in name and tensor["dtype"] == "U32":
            start, end = (data + offset for offset in tensor["data_offsets"])
            content[start:end] = bytes(255 - byte for byte in content[start:end])
    path.write_bytes(content)


def vouch_for(workspace: Workspace, sha256: str) -> None:
    """Let the memory of digests take the weight file of now for one with this digest."""
    path = workspace.root / WEIGHTS
    found = path.stat()
    mark = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
    write_json(workspace.weight_digests, {str(path): {"mark": mark, "sha256": sha256}})


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 7},
        {"learning_rate": 1e-4, "num_epochs": 2},
        {"lora": {**LORA, "rank": 8, "dropout": 0.0, "keys": ["v_proj", "down_proj"]}},
        {"batch_size": 4, "gradient_accumulation": 1},
        {"grad_checkpoint": True, "max_grad_norm": 1.0},
    ],
)
def test_another_job_on_the_same_model_and_data_computes_nothing(
    alone: Workspace, tiny_model: Path, warm: RunDirectory, changes: dict[str, Any]
) -> None:
    said = attempt(alone, job(alone, tiny_model, **changes))
    assert computed(said) == {}
    assert warnings(said) == ""


def test_another_boundary_misses(alone: Workspace, tiny_model: Path, warm: RunDirectory) -> None:
    other = job(alone, tiny_model, lora={**LORA, "num_layers": 3})
    assert computed(attempt(alone, other)) == FILES


def test_other_data_misses_and_the_same_hits(
    alone: Workspace, tiny_model: Path, warm: RunDirectory
) -> None:
    assert computed(attempt(alone, job(alone, tiny_model, train=12))) == {"12.jsonl": 12}


def test_another_prompt_misses(alone: Workspace, tiny_model: Path, warm: RunDirectory) -> None:
    assert computed(attempt(alone, job(alone, tiny_model, prompt_format="chat"))) == FILES


def test_other_weights_miss(alone: Workspace, tiny_model: Path, warm: RunDirectory) -> None:
    """Told by the content, though the name, the size and the header of the file are the same."""
    spoil_weights(alone, block=0)
    assert computed(attempt(alone, job(alone, tiny_model))) == FILES


def test_weights_that_were_only_touched_hit(
    alone: Workspace, tiny_model: Path, warm: RunDirectory
) -> None:
    os.utime(alone.root / WEIGHTS)
    assert computed(attempt(alone, job(alone, tiny_model))) == {}


def test_with_a_complete_cache_the_weights_below_are_not_read(
    alone: Workspace, tiny_model: Path, warm: RunDirectory
) -> None:
    """Garbage stands in their place, and the result is the same to the bit."""
    sha256 = sha256_of(alone.root / WEIGHTS)
    spoil_weights(alone, block=0)
    spoil_weights(alone, block=1)
    vouch_for(alone, sha256)
    garbage = job(alone, tiny_model)
    assert computed(attempt(alone, garbage)) == {}
    assert result(garbage) == result(warm)

    # It makes a difference indeed where it is read.
    off = job(alone, tiny_model, 2, prefix_cache_gb=0.0)
    attempt(alone, off)
    assert result(off) != result(warm)


def test_a_damaged_entry_is_left_for_computing(
    alone: Workspace, tiny_model: Path, warm: RunDirectory
) -> None:
    for entry in PrefixCache(alone.prefix_cache).listing():
        flip(alone.prefix_cache / entry.key / "states.bin", entry.bytes // 3)
    run = job(alone, tiny_model)
    said = attempt(alone, run)
    assert "The prefix cache is damaged" in warnings(said)
    assert "going on without it" in warnings(said)
    assert result(run) == result(warm)

    # It was taken off the disk: the job after that fills it again.
    assert computed(attempt(alone, job(alone, tiny_model, 2))) == FILES
    assert warnings(attempt(alone, job(alone, tiny_model, 3))) == ""


def test_a_budget_too_small_is_a_reason_not_an_end(
    alone: Workspace, tiny_model: Path, warm: RunDirectory
) -> None:
    evict(alone)
    run = job(alone, tiny_model, prefix_cache_gb=1e-5)
    said = attempt(alone, run)
    assert "No prefix cache for 11.jsonl and 5.jsonl: it needs" in warnings(said)
    assert "prefix_cache_gb allows" in warnings(said)
    assert result(run) == result(warm)


def test_an_uncut_model_says_why(alone: Workspace, tiny_model: Path) -> None:
    run = job(alone, tiny_model, lora={**LORA, "num_layers": 4}, grad_checkpoint=True)
    text = warnings(attempt(alone, run))
    assert "Training without the prefix cache: all its blocks are adapted" in text
    assert "grad_checkpoint has no effect" not in text  # its blocks are run one by one all the same
    assert not alone.prefix_cache.exists()


def test_a_run_of_few_steps_keeps_only_what_it_uses(alone: Workspace, tiny_model: Path) -> None:
    # Two steps of two examples, and the four whose loss stands beside the validation loss.
    run = job(alone, tiny_model, train=40, max_steps=2)
    kept = computed(attempt(alone, run))["40.jsonl"]
    assert 4 <= kept <= 8
    whole = job(alone, tiny_model, 2, train=40, max_steps=2, prefix_cache_gb=0.0)
    attempt(alone, whole)
    assert result(run) == result(whole)


def test_runs_of_other_lengths_share_one_entry_for_each_file(
    alone: Workspace, tiny_model: Path
) -> None:
    filled = []
    for number, steps in enumerate((2, 6, 1, 4, None)):
        run = job(alone, tiny_model, number, train=40, max_steps=steps)
        filled.append("40.jsonl" in computed(attempt(alone, run)))
        names = [entry.about["data"] for entry in PrefixCache(alone.prefix_cache).listing()]
        assert sorted(names) == ["40.jsonl", "5.jsonl"]
    # What a longer run has left is enough for a shorter one.
    assert filled == [True, True, False, False, True]
    whole = job(alone, tiny_model, 9, train=40, prefix_cache_gb=0.0)
    attempt(alone, whole)
    assert result(run) == result(whole)
