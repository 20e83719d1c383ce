"""`init_from` on the command line: what it names, what is frozen of it, what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daemon.client import FarenseClient
from daemon.doctor.preset import start_finding
from daemon.prune.plan import Selection, plan_prune, unnamed_data
from jobs.config.config import Preset
from jobs.errors import InvalidInput
from jobs.paths import RunDirectory
from jobs.spec import JobSpec, read_spec
from jobs.state import State, read_state, write_state
from jobs.storage.files import read_json, sha256_of, write_json
from tests.cli.conftest import Run
from tests.helpers.made_up_adapter import put_made_up_adapter
from tests.helpers.specs import write_spec


def done(client: FarenseClient, preset: Preset, name: str | None = None) -> RunDirectory:
    """Return a job that has ended well, with an adapter."""
    run = client.workspace.run(client.enqueue(preset, name=name).id)
    client.cancel(run.job_id)
    write_state(run, type(read_state(run))(State.COMPLETED, attempt=1))
    put_made_up_adapter(run)
    settings = {"lora_parameters": {"rank": 4, "scale": 16.0, "keys": ["self_attn.q_proj"]}}
    write_json(run.adapters / "adapter_config.json", settings)
    return run


@pytest.fixture
def source(client: FarenseClient, preset: Preset) -> RunDirectory:
    return done(client, preset, "good one")


def queued(invoke: Run, *arguments: str) -> dict[str, Any]:
    found = invoke("enqueue", "tiny", *arguments, "--json")
    assert found.code == 0, found.err
    told: dict[str, Any] = json.loads(found.out)
    return told


def spec_of(client: FarenseClient, told: dict[str, Any]) -> JobSpec:
    return read_spec(client.workspace.run(told["id"]))


def test_a_job_by_each_of_its_names(
    invoke: Run, client: FarenseClient, source: RunDirectory
) -> None:
    starts = []
    for named in (source.job_id, source.job_id[-4:], "good one", "latest", f"{source.path}"):
        told = queued(invoke, "--set", f"init_from={named}")
        assert told["warnings"] == []
        spec = spec_of(client, told)
        start = spec.init_from
        assert start is not None
        assert (start.source, start.job, start.form) == (source.job_id, source.job_id, "farense")
        assert start.adapter_sha256 == sha256_of(source.adapter_weights)
        assert sha256_of(client.workspace.root / start.path) == start.sha256
        assert spec.config["init_from"] == start.path
        starts.append(start)
    assert all(start == starts[0] for start in starts)


def test_a_folder_is_taken_with_a_word_about_its_model(
    invoke: Run, client: FarenseClient, source: RunDirectory
) -> None:
    folder = shutil.copytree(source.adapters, client.workspace.root / "theirs")
    told = queued(invoke, "--set", "init_from=theirs")
    assert told["warnings"] == [
        "Whether the adapter in theirs was trained on tiny cannot be checked."
    ]
    start = spec_of(client, told).init_from
    assert start is not None
    assert (start.source, start.form, start.job) == ("theirs", "mlx-lm", None)
    shutil.rmtree(folder)
    # The config shows it, and what stands in an order can be ordered again.
    shown = invoke("config", "show", "tiny", "--set", f"init_from={start.path}")
    assert start.path in shown.out
    again = spec_of(client, queued(invoke, "--set", f"init_from={start.path}")).init_from
    assert again == start


def test_a_retry_has_it_though_the_source_is_gone(
    invoke: Run, client: FarenseClient, source: RunDirectory
) -> None:
    told = queued(invoke, "--set", f"init_from={source.job_id}")
    invoke("cancel", told["id"])
    shutil.rmtree(source.path)
    for flags in ((), ("--set", "learning_rate=1e-5")):
        found = invoke("retry", told["id"], *flags, "--json")
        assert found.code == 0, found.err
        again = spec_of(client, json.loads(found.out))
        assert again.init_from == spec_of(client, told).init_from


def test_it_is_pruned_with_the_last_job_that_names_it(
    invoke: Run, client: FarenseClient, source: RunDirectory
) -> None:
    told = queued(invoke, "--set", f"init_from={source.job_id}")
    start = spec_of(client, told).init_from
    assert start is not None
    frozen = client.workspace.root / start.path
    assert frozen not in unnamed_data(client.workspace)
    invoke("cancel", told["id"])
    plan = plan_prune(client.workspace, Selection())
    assert frozen in plan.data
    # A job whose adapter is gone is not taken up again.
    frozen.unlink()
    found = invoke("retry", told["id"])
    assert found.code == 2
    assert f"The data of {told['id']} are gone: {source.job_id}" in found.err


def test_a_sweep_freezes_it_once_for_all_trials(
    invoke: Run, client: FarenseClient, source: RunDirectory
) -> None:
    path = client.workspace.configs / "some.yaml"
    path.write_text(
        f"preset: tiny\nset: {{init_from: {source.job_id}}}\n"
        "space: {learning_rate: [1.0e-4, 1.0e-3]}\ntrials: 2\n"
    )
    found = invoke("sweep", "run", str(path))
    assert found.code == 0, found.err
    (spec,) = client.workspace.runs.glob("sweeps/2*/sweep.json")
    (frozen,) = client.workspace.imported.glob("*.safetensors")
    relative = frozen.relative_to(client.workspace.root).as_posix()
    assert read_json(spec)["base"]["init_from"] == relative
    assert frozen not in unnamed_data(client.workspace)


def test_the_kind_of_adapter_can_be_swept(
    invoke: Run, client: FarenseClient, preset: Preset
) -> None:
    path = client.workspace.configs / "kinds.yaml"
    path.write_text("preset: tiny\nspace: {lora.kind: [lora, dora]}\ntrials: 2\n")
    found = invoke("sweep", "run", str(path))
    assert found.code == 0, found.err


REFUSED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no folder": (("init_from=./nothing",), ("there is no folder", "mlx-lm's, PEFT's")),
    "an empty one": (("init_from=./logs",), ("There is no adapter in",)),
    "no job": (("init_from=nobody",), ("init_from: There is no job 'nobody'",)),
    "rank": (
        ("init_from=latest", "lora.rank=8"),
        (
            "it is LoRA of rank 4 on self_attn.q_proj (blocks 2-3)",
            "the config makes LoRA of rank 8 on self_attn.q_proj (blocks 2-3)",
            "--set lora.rank=4",
        ),
    ),
    "kind": (
        ("init_from=latest", "lora.kind=dora"),
        ("LoRA of rank 4", "the config makes DoRA of rank 4", "--set lora.kind=lora"),
    ),
    "blocks": (("init_from=latest", "lora.num_layers=3"), ("(blocks 1-3)", "num_layers=2")),
    "keys": (
        ("init_from=latest", "lora.keys=[q_proj, v_proj]"),
        ("self_attn.v_proj", "--set 'lora.keys=[self_attn.q_proj]'"),
    ),
    "scale": (
        ("init_from=latest", "lora.scale=null", "lora.alpha=8"),
        (
            "with a scale of 16, and here it is 2",
            "--set lora.scale=16.0 --set lora.alpha=null",
        ),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_with_both_named(
    invoke: Run, client: FarenseClient, source: RunDirectory, case: str
) -> None:
    settings, said = REFUSED[case]
    flags = [part for setting in settings for part in ("--set", setting)]
    found = invoke("enqueue", "tiny", *flags)
    assert (found.code, found.out) == (2, ""), found.err
    for part in said:
        assert part in found.err
    assert [job.id for job in client.jobs()] == [source.job_id]
    assert not list(client.workspace.imported.glob("*.safetensors"))


def test_what_is_advised_is_taken(invoke: Run, client: FarenseClient, source: RunDirectory) -> None:
    told = queued(
        invoke,
        *("--set", f"init_from={source.job_id}", "--set", "lora.alpha=8"),
        *("--set", "lora.scale=16.0", "--set", "lora.alpha=null"),
    )
    assert spec_of(client, told).init_from is not None


def test_a_job_that_has_none_yet_is_refused(
    invoke: Run, client: FarenseClient, preset: Preset
) -> None:
    job = client.enqueue(preset).id
    found = invoke("enqueue", "tiny", "--set", f"init_from={job}")
    assert found.code == 2
    assert f"{job} has no adapter: it is queued" in found.err
    assert "after its first validation" in found.err


def test_an_adapter_of_another_model_is_refused(
    invoke: Run, client: FarenseClient, source: RunDirectory
) -> None:
    spec = read_spec(source)
    other = "0" * 64
    write_spec(source, replace(spec, model_fingerprint=f"{other}-{other}"))
    found = invoke("enqueue", "tiny", "--set", f"init_from={source.job_id}")
    assert found.code == 2
    assert "was trained on another model than tiny" in found.err


def test_a_damaged_one_is_refused(invoke: Run, client: FarenseClient, source: RunDirectory) -> None:
    file: Path = source.adapter_weights
    file.write_bytes(file.read_bytes()[:-8])
    found = invoke("enqueue", "tiny", "--set", f"init_from={source.job_id}")
    assert found.code == 2
    assert f"The adapter in {source.path} cannot be read" in found.err


def test_doctor_says_what_it_would_start_from(
    client: FarenseClient, preset: Preset, source: RunDirectory
) -> None:
    workspace, config = client.workspace, preset.config
    folder = workspace.models / "tiny"
    found = start_finding(folder, config, "latest", workspace)
    assert f"starts from the adapter of {source.job_id} (farense)" in str(found)
    with pytest.raises(InvalidInput, match="init_from: There is no job"):
        start_finding(folder, config, "nobody", workspace)
    lora = config.lora.model_copy(update={"kind": "dora"})
    with pytest.raises(InvalidInput, match="another shape"):
        start_finding(folder, config.model_copy(update={"lora": lora}), "latest", workspace)
