"""`farense doctor`: each check with made-up facts, and all of them on a real workspace."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.doctor.doctor import examine
from daemon.doctor.findings import Checkup, Finding, Status, ok
from daemon.doctor.machine import (
    device_finding,
    kernels_finding,
    night_finding,
    notebook_finding,
    packages_finding,
    power_finding,
    programs_finding,
    python_finding,
    sleep_finding,
)
from daemon.doctor.preset import (
    adapter_finding,
    data_finding,
    data_report,
    data_size,
    leakage_finding,
    model_finding,
    plan_finding,
)
from daemon.doctor.queue import (
    daemon_finding,
    durability_finding,
    private_finding,
    queue_finding,
    workspace_finding,
)
from daemon.doctor.resources import disk_finding, download_finding, memory_finding
from daemon.night.power import Power
from daemon.night.settings import NightSettings, Rest
from daemon.queue.embedded_server import EmbeddedServer
from daemon.runs.workspace_locks import daemon_lock
from daemon.settings import Settings
from daemon.store import keys
from jobs.backend.device import Device
from jobs.config.config import Preset, TrainConfig, config_from
from jobs.errors import ConfigError, DataError, ModelError, QueueUnreachable, WorkspaceError
from jobs.paths import Workspace
from jobs.resources.estimate import (
    DataSize,
    Needs,
    estimate,
    estimate_within,
    measured_memory,
    run_disk_needed,
)
from jobs.resources.preflight import MemoryLimits
from jobs.storage.files import read_json, write_json
from jobs.storage.locks import FileLock
from tests.helpers.runs import SETTINGS, make_run, questions, write_rows

GB = 1_000_000_000
OK, WARNING, PROBLEM = Status
METAL = Device("Metal, Apple M1", "metal", blas=None, lanes=1, memory=(16 * GB, 11 * GB))
CPU = Device("CPU, libopenblas.so.0", "cpu", blas="libopenblas.so.0", lanes=2, memory=())
SLOW = replace(CPU, name="CPU, reference BLAS (slow)", blas=None)
NEEDS = Needs(weights=4 * GB, kept=1 * GB, step=2 * GB, adapter=1000, state=4000, cache=GB)
DURABLE = {
    "appendonly": "yes",
    "appendfsync": "always",
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
    "aof_last_write_status": "ok",
}
PMSET = """\
System-wide power settings:
Currently in use:
 Sleep On Power Button 1
 disksleep            10
 networkoversleep     0
 sleep                {sleep}
 displaysleep         10
 lowpowermode         {low}
"""


def config(**changes: object) -> TrainConfig:
    data = {"train": "data/train.jsonl", "valid": "data/valid.jsonl"}
    return config_from({**SETTINGS, "data": data, **changes}, "test")


def by_check(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


# The machine


def test_this_python_is_one_that_farense_asks_for() -> None:
    assert python_finding().status is OK


def test_the_installed_packages_are_those_asked_for() -> None:
    found = packages_finding()
    assert found.status is OK
    for name in ("mlx", "mlx-lm", "huey", "redis", "click", "structlog", "orjson"):
        assert f"{name} " in found.found


@pytest.mark.parametrize(
    ("installed", "status", "word"),
    [
        ({"mlx": "0.32.9", "huey": "3.6"}, OK, "mlx 0.32.9, huey 3.6"),
        ({"mlx": "0.33.0", "huey": "3.6"}, WARNING, "mlx 0.33.0 (expected <0.33,>=0.32.4)"),
        ({"mlx": "0.32.9"}, PROBLEM, "Not installed: huey"),
    ],
)
def test_a_package_that_is_missing_or_of_another_version(
    installed: dict[str, str], status: Status, word: str
) -> None:
    asked = [
        "mlx>=0.32.4,<0.33",
        "huey>=3.5.4,<4",
        "absent>=1; sys_platform == 'plan9'",
        "unwanted; extra == 'mkl'",
    ]
    found = packages_finding(asked, installed.get)
    assert found.status is status
    assert word in found.found
    assert status is OK or "make setup" in (found.action or "")


@pytest.mark.parametrize(
    ("device", "system", "compiler", "status", "action"),
    [
        (METAL, "darwin", None, OK, ""),
        (CPU, "darwin", None, WARNING, "Apple silicon"),
        (CPU, "linux", "/usr/bin/g++", OK, ""),
        (CPU, "linux", None, WARNING, "g++"),
        (SLOW, "linux", "/usr/bin/g++", WARNING, "make setup"),
    ],
)
def test_what_computes_here(
    device: Device, system: str, compiler: str | None, status: Status, action: str
) -> None:
    found = device_finding(device, system, "x86_64", compiler)
    assert found.status is status
    assert action in (found.action or "")


def test_a_card_that_mlx_does_not_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "version"
    driver.write_text("NVRM version: ...")
    card = Device("CUDA, NVIDIA L4", "cuda", blas=None, lanes=1, memory=(24 * GB, 19 * GB))
    assert device_finding(card, "linux", "x86_64", "g++", driver).status is OK
    unused = device_finding(CPU, "linux", "x86_64", "g++", driver)
    assert unused.status is WARNING
    assert "make setup" in (unused.action or "")
    monkeypatch.setenv("FARENSE_BACKEND", "cpu")
    assert device_finding(CPU, "linux", "x86_64", "g++", driver).status is OK


@pytest.mark.parametrize(
    ("sleep", "low", "status", "word"),
    [
        ("0", "0", OK, "does not go to sleep"),
        ("1 (sleep prevented by powerd, caffeinate)", "0", OK, "caffeinate"),
        ("10 (sleep prevented by coreaudiod)", "0", WARNING, "after 10 min"),
        ("0", "1", WARNING, "low power"),
    ],
)
def test_a_mac_that_goes_to_sleep(sleep: str, low: str, status: Status, word: str) -> None:
    found = sleep_finding(PMSET.format(sleep=sleep, low=low), "darwin")
    assert found.status is status
    assert word in found.found


def test_sleep_is_asked_of_a_mac_alone() -> None:
    assert sleep_finding("", "darwin").status is WARNING
    assert "not applicable" in sleep_finding(None, "linux").found


def test_power_and_heat() -> None:
    assert power_finding(Power(80)).found == "on mains power; the battery is at 80 %"
    found = power_finding(Power(43, on_mains=False), NightSettings(battery_floor=30))
    assert (found.status, found.found) == (
        *(WARNING, "On battery power (43 %): training empties it. Jobs wait below 30 %."),
    )
    hot = power_finding(Power(thermal="thermal warning level 1"))
    assert (hot.status, "thermal warning level 1" in hot.found) == (WARNING, True)
    assert power_finding().status in (OK, WARNING)  # of the machine that runs this


def test_the_settings_of_the_machine_are_told_without_the_words_of_a_command() -> None:
    assert "nothing is set" in night_finding(NightSettings()).found
    rest = Rest(after_minutes=60, minutes=2)
    found = night_finding(NightSettings(display="sleep", rest=rest, unload=("ollama",)))
    assert found.found == "display: sleep; rest: after 60 min for 2 min; unload: ollama"
    told = night_finding(NightSettings(on_event=("curl", "https://x/?token=geheim")))
    assert told.found == "on_event: curl"


def test_other_programs_on_the_gpu() -> None:
    assert programs_finding([]).status is OK
    found = programs_finding(["Ollama holds 5.33 GB of GPU memory (gemma3:4b)"])
    assert found.status is WARNING
    assert "unload: [ollama, lmstudio]" in (found.action or "")
    lines = [found.found, "LM Studio has qwen/qwen3-8b loaded"]
    assert programs_finding(lines, ("ollama",)).status is WARNING
    asked = programs_finding(lines, ("lmstudio", "ollama"))
    assert (asked.status, "asked to let go before a job" in asked.found) == (OK, True)


def test_jupyter_kernels_of_this_and_other_environments() -> None:
    kernels = {
        "python3": {"spec": {"argv": ["/usr/bin/python3", "-m"], "display_name": "Python 3"}},
        "mlx": {"spec": {"argv": ["/work/.venv/bin/python"], "display_name": "Python 3.11 (MLX)"}},
    }
    found = kernels_finding(kernels, "/work/.venv")
    assert (found.status, found.found) == (OK, "kernel 'Python 3.11 (MLX)'")
    del kernels["mlx"]
    assert kernels_finding(kernels, "/work/.venv").status is WARNING
    assert kernels_finding({}, "/work/.venv").status is WARNING


@pytest.mark.parametrize("answer", ["echo broken >&2; exit 3", "echo nada", "echo '[]'", "echo {}"])
def test_a_jupyter_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str
) -> None:
    jupyter = tmp_path / "jupyter"
    jupyter.write_text(f"#!/bin/sh\n{answer}\n")
    jupyter.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    found = notebook_finding()
    assert (found.status, found.check) == (WARNING, "notebook")
    assert f"{jupyter} kernelspec list" in (found.action or "")


# Workspace and queue


def test_a_workspace_is_tried_and_nothing_stays(workspace: Workspace) -> None:
    before = sorted(workspace.root.rglob("*"))
    assert workspace_finding(workspace).status is OK
    assert private_finding(workspace).status is OK
    assert sorted(workspace.root.rglob("*")) == before
    assert workspace_finding(Workspace(workspace.root / "none")).status is PROBLEM


def test_a_folder_that_cannot_be_written(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*, dir: Path) -> None:
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(WorkspaceError, match="No permission to write"):
        workspace_finding(workspace)


def test_a_private_folder_that_is_not_private(workspace: Workspace) -> None:
    workspace.private.mkdir(mode=0o755)
    found = private_finding(workspace)
    assert (found.status, "chmod 700" in (found.action or "")) == (WARNING, True)
    workspace.private.chmod(0o700)
    assert private_finding(workspace).status is OK
    workspace.private.rmdir()
    workspace.private.symlink_to(workspace.data)
    assert private_finding(workspace).status is PROBLEM


def test_the_queue_before_and_after_it_is_started(workspace: Workspace) -> None:
    found = queue_finding(workspace, Settings())
    assert (found.status, "does not run yet" in found.found) == (OK, True)
    server = EmbeddedServer(workspace)
    assert server.pid() is None
    server.ensure()
    try:
        found = queue_finding(workspace, Settings())
        assert (found.status, "appendfsync always" in found.found) == (OK, True)
        with server.client() as redis:
            redis.lpush(keys.DEAD_LETTERS, "x")
            assert "farense queue dead" in (queue_finding(workspace, Settings()).action or "")
            redis.config_set("appendonly", "no")
        # As a shared Redis that somebody else set up.
        shared = Settings(redis_url=f"unix://{server.socket}")
        found = queue_finding(workspace, shared)
        assert (found.status, "no append-only file" in found.found) == (WARNING, True)
        with server.client() as redis:
            redis.execute_command("ACL", "SETUSER", "default", "-config")
        assert "does not tell" in queue_finding(workspace, shared).found
    finally:
        server.shut_down()
    with pytest.raises(QueueUnreachable):
        queue_finding(workspace, shared)


@pytest.mark.parametrize(
    ("facts", "status", "word"),
    [
        ({}, OK, "always"),
        ({"appendfsync": "everysec"}, WARNING, "appendfsync everysec"),
        ({"appendonly": "no"}, WARNING, "no append-only file"),
        ({"maxmemory": "100", "maxmemory-policy": "allkeys-lru"}, WARNING, "allkeys-lru"),
        ({"maxmemory": "100"}, OK, "always"),
        ({"aof_last_write_status": "err"}, PROBLEM, "cannot write"),
        ({"dead": 3}, WARNING, "3 message(s)"),
    ],
)
def test_how_durable_a_server_is(facts: dict[str, object], status: Status, word: str) -> None:
    found = durability_finding(DURABLE | facts, "redis://host:6379/0")
    assert found.status is status
    assert word in found.found


def test_a_damaged_append_only_file_is_found_before_a_job_needs_it(workspace: Workspace) -> None:
    server = EmbeddedServer(workspace)
    server.ensure()
    with server.client() as redis:
        for number in range(10):
            redis.set(f"key{number}", "value")
    server.shut_down()
    (file,) = workspace.private.glob("appendonlydir/*.incr.aof")
    whole = file.read_bytes()
    for end in range(1, 50):  # wherever it is torn, the server starts
        file.write_bytes(whole[:-end])
        assert queue_finding(workspace, Settings()).status is OK
    assert file.read_bytes() == whole[:-end]
    server.ensure()
    server.shut_down()
    for damaged in (whole[:200] + b"x" * 30 + whole[230:], whole + b"more"):
        file.write_bytes(damaged)
        with pytest.raises(QueueUnreachable, match="damaged"):
            queue_finding(workspace, Settings())
        with pytest.raises(QueueUnreachable, match="damaged"):
            server.ensure()


def test_a_daemon_or_none(workspace: Workspace) -> None:
    assert daemon_finding(workspace).status is WARNING
    workspace.private.mkdir(mode=0o700)
    lock = FileLock.acquire(daemon_lock(workspace))
    assert lock is not None
    with lock:
        lock.write("4321\n")
        found = daemon_finding(workspace)
    assert (found.status, found.found) == (OK, "runs (pid 4321)")


# Model and data


def test_a_model_that_lacks_a_shard(workspace: Workspace, preset: Preset) -> None:
    folder = workspace.models / "tiny"
    assert model_finding(folder).status is OK
    names = {"model.embed_tokens.weight": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    with pytest.raises(ModelError, match="model-00002-of-00002"):
        model_finding(folder)


def test_a_model_without_the_layers_to_adapt(workspace: Workspace, preset: Preset) -> None:
    lora = preset.config.lora.model_copy(update={"num_layers": 9})
    with pytest.raises(ConfigError, match="4 blocks"):
        adapter_finding(workspace.models / "tiny", preset.config.model_copy(update={"lora": lora}))


def test_validation_rows_that_are_trained_on(workspace: Workspace) -> None:
    rows = questions(6)
    write_rows(workspace.data / "train.jsonl", rows)
    valid = [*questions(3, first=20), rows[2], {**rows[4], "completion": "Não sei."}]
    write_rows(workspace.data / "valid.jsonl", valid)
    found = leakage_finding(data_report(config(), workspace, None))
    assert found.status is WARNING
    assert "1 validation example(s) and the questions of 1 more are in" in found.found
    assert "line 4, 5" in found.found
    write_rows(workspace.data / "valid.jsonl", valid[:3])
    assert leakage_finding(data_report(config(), workspace, None)).status is OK


def test_a_share_for_validation(workspace: Workspace) -> None:
    write_rows(workspace.data / "train.jsonl", [*questions(20), *questions(20)])
    share = config(data={"train": "data/train.jsonl", "valid": "10%"})
    report = data_report(share, workspace, None)
    found = data_finding(report)
    assert "36 examples for training and 4 examples for validation" in found.found
    assert "--valid 10%" in (found.action or "")
    assert leakage_finding(report).status is OK


def test_data_that_a_job_would_refuse_or_that_is_worth_a_word(workspace: Workspace) -> None:
    train = write_rows(workspace.data / "train.jsonl", questions(5))
    write_rows(workspace.data / "valid.jsonl", questions(2, first=9))
    found = data_finding(data_report(config(), workspace, None))
    assert (found.status, found.found) == (
        OK,
        "5 examples for training and 2 examples for validation",
    )
    write_rows(train, [*questions(5), *questions(1)])
    found = data_finding(data_report(config(), workspace, None))
    assert found.status is WARNING
    assert "train.jsonl: 1 duplicate(s)" in found.found
    train.write_text('{"prompt": "a"}\nnada\n')
    found = data_finding(data_report(config(), workspace, None))
    assert found.status is PROBLEM
    assert 'train.jsonl, line 1: "completion" is missing (2 bad lines in all)' in found.found
    assert "farense data check" in (found.action or "")
    train.unlink()
    with pytest.raises(DataError, match="There is no data file"):
        data_report(config(), workspace, None)


def test_an_early_stopping_that_cannot_engage() -> None:
    stopping = config(early_stopping_patience=9)
    assert plan_finding(stopping, 11).status is WARNING
    assert plan_finding(config(), 11).found == "12 steps, 2 validation(s)"


# Memory and disk


@pytest.mark.parametrize(
    ("whole", "available", "status"),
    [
        (16 * GB, 12 * GB, OK),
        (16 * GB, 4 * GB, WARNING),
        (3 * GB, 3 * GB, PROBLEM),
        (None, None, OK),
    ],
)
def test_too_little_memory(whole: int | None, available: int | None, status: Status) -> None:
    limits = MemoryLimits(whole, available)
    found = memory_finding(NEEDS, limits, config(), as_stored=True, measured=None)
    assert found.status is status
    assert "about 4.00 GB (an estimate; weights as stored: 4.00 GB" in found.found
    assert status is OK or "batch_size" in (found.action or "")


def test_without_a_prefix_cache_all_weights_stay_beside_the_steps() -> None:
    limits = MemoryLimits(16 * GB, 16 * GB)
    found = memory_finding(NEEDS, limits, config(prefix_cache_gb=0), as_stored=False, measured=None)
    assert "about 6.00 GB (an estimate; weights as float32" in found.found


def test_a_measured_need_goes_before_an_estimate(workspace: Workspace, tiny_model: Path) -> None:
    rows = {"memory_mb": 512.5}, {"memory_mb": 700.0}, {"memory_mb": None}
    run = make_run(workspace, tiny_model)
    run.metrics.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    made = config_from(read_json(run.job)["config"], "test")
    other = {"learning_rate": 1e-3, "seed": 7}
    assert measured_memory(workspace, made.model_copy(update=other)) == 700_000_000
    assert measured_memory(workspace, made.model_copy(update={"batch_size": 4})) is None
    limits = MemoryLimits(GB, GB)
    found = memory_finding(NEEDS, limits, made, as_stored=True, measured=700_000_000)
    assert (found.status, "measured" in found.found) == (OK, True)


def test_an_estimate_counts_what_is_in_the_files(tiny_model: Path) -> None:
    size = DataSize(tokens=1000, longest=96, learned=0.5)
    metal = estimate(tiny_model, config(), size, as_stored=True, lanes=1)
    cpu = estimate(tiny_model, config(), size, as_stored=False, lanes=2)
    on_disk = (tiny_model / "model.safetensors").stat().st_size
    assert 0.9 * on_disk < metal.weights <= on_disk
    # Embedding and head 2 * 512 * 64; a block 3 * 64 * 128 + 2 * 64 * 64 + 2 * 64 * 32, two norms.
    block = 3 * 64 * 128 + 2 * 64 * 64 + 2 * 64 * 32 + 2 * 64
    assert cpu.weights == 4 * (2 * 512 * 64 + 4 * block + 64)
    assert cpu.kept == 4 * (512 * 64 + 2 * block + 64)
    # Rank 4 on q_proj (64 to 64) and up_proj (64 to 128), in two blocks.
    assert cpu.adapter == 4 * 2 * 4 * (64 + 64 + 64 + 128)
    assert cpu.cache == 1000 * 64 * 4
    assert cpu.step > metal.step > 0
    lora = {**SETTINGS["lora"], "num_layers": 4}
    assert estimate(tiny_model, config(lora=lora), size, as_stored=False, lanes=2).cache == 0


def test_checkpointed_blocks_take_less(tiny_model: Path) -> None:
    size = DataSize(tokens=1000, longest=96, learned=0.5)
    plain = estimate(tiny_model, config(), size, as_stored=False, lanes=1)
    less = estimate(tiny_model, config(grad_checkpoint=True), size, as_stored=False, lanes=1)
    assert less.step < plain.step


def test_the_first_way_that_fits_is_estimated(tiny_model: Path) -> None:
    size = DataSize(tokens=1000, longest=96, learned=0.5)
    plain = estimate(tiny_model, config(), size, as_stored=False, lanes=2)

    def chosen(most: int | None, made: TrainConfig) -> Needs:
        return estimate_within(tiny_model, made, size, plain, as_stored=False, lanes=2, most=most)

    enough = plain.memory(cached=True)
    assert chosen(None, config()) == chosen(enough, config()) == plain
    again = estimate(tiny_model, config(grad_checkpoint=True), size, as_stored=False, lanes=2)
    assert chosen(enough - 1, config()) == again
    one = estimate(tiny_model, config(), size, as_stored=False, lanes=1)
    assert chosen(enough - 1, config(grad_checkpoint=False)) == one
    assert chosen(1, config()).step < min(one.step, again.step)

    limits = MemoryLimits(16 * GB, 16 * GB)
    found = memory_finding(again, limits, config(), as_stored=False, measured=None, plain=plain)
    assert "computed in a slower way" in found.found
    found = memory_finding(NEEDS, limits, config(memory="1GB"), as_stored=False, measured=None)
    assert found.status is PROBLEM
    assert "the 1.00 GB that the setting memory allows" in found.found


def test_room_on_the_disk(workspace: Workspace) -> None:
    needed = run_disk_needed(NEEDS, config(prefix_cache_gb=2), workspace, 11)
    assert GB < needed < 1.1 * GB
    # A cache that the budget does not allow is not written.
    assert run_disk_needed(NEEDS, config(prefix_cache_gb=0.5), workspace, 11) < 0.1 * GB
    assert disk_finding(needed, 3 * GB).status is OK
    assert disk_finding(needed, 2 * GB).status is WARNING
    assert disk_finding(needed, GB).status is PROBLEM


@pytest.mark.parametrize(
    ("name", "free", "status"),
    [
        ("mistral-7b-4bit", 30 * GB, OK),
        ("mistral-7b-4bit", 20 * GB, WARNING),
        ("mistral-7b-4bit", 3 * GB, PROBLEM),
        ("another", 3 * GB, WARNING),
    ],
)
def test_room_for_a_model_that_is_not_here(name: str, free: int, status: Status) -> None:
    assert download_finding(name, free).status is status


def test_what_a_pull_takes_is_told_beforehand() -> None:
    found = download_finding("smollm2-135m-4bit", 30 * GB).found
    assert "is 92.9 MB to download and 100.0 MB in models/" in found
    assert "needs 300.0 MB of disk space, 30.00 GB free" in found


def test_sizes_in_tokens_end_at_max_seq_length(workspace: Workspace) -> None:
    write_rows(workspace.data / "train.jsonl", questions(5))
    write_rows(workspace.data / "valid.jsonl", questions(2, first=9))
    report = data_report(config(), workspace, None)
    size = data_size(report, config())
    # Without a tokenizer nothing is known but the limit.
    assert (size.tokens, size.longest) == (7 * 96, 96)
    assert 0 < size.learned < 1
    assert data_size(report, config(mask_prompt=False)).learned == 1


# All together


def test_a_check_that_fails_itself_is_a_finding() -> None:
    def fail() -> Finding:
        raise ZeroDivisionError("two\nlines")

    def refuse() -> Finding:
        raise DataError("it broke", "mend it")

    checkup = Checkup()
    assert not checkup.add("one", fail)
    assert not checkup.add("two", refuse)
    assert checkup.add("three", lambda: ok("three", "fine"))
    first, second, _ = checkup.findings
    assert (first.status, second.status) == (WARNING, PROBLEM)
    assert "ZeroDivisionError: two lines" in first.found
    assert (second.found, second.action) == ("it broke", "mend it")


def test_a_workspace_where_all_is_well_and_then_is_not(
    workspace: Workspace, preset: Preset
) -> None:
    before = sorted(workspace.root.rglob("*"))
    found = by_check(examine(preset, workspace))
    assert [f.check for f in found.values() if f.status is PROBLEM] == []
    assert set(found) >= {"python", "packages", "device", "sleep", "notebook", "workspace"}
    assert set(found) >= {"queue", "daemon", "model", "data", "leakage", "plan", "memory", "disk"}
    assert "an estimate" in found["memory"].found
    assert EmbeddedServer(workspace).pid() is None
    assert sorted(workspace.root.rglob("*")) == before


def test_problems_are_told_together(
    workspace: Workspace, preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.doctor.doctor.ask_device", lambda useful: CPU)
    monkeypatch.setenv("FARENSE_LEASE_SECONDS", "soon")
    shutil.rmtree(workspace.models / "tiny")
    (workspace.data / "train.jsonl").write_text("nada\n")
    found = by_check(examine(preset, workspace))
    problems = {f.check for f in found.values() if f.status is PROBLEM}
    assert problems == {"settings", "model", "data"}
    assert all(f.action for f in found.values() if f.status is not OK)
    assert "FARENSE_LEASE_SECONDS" in found["settings"].found
    assert "known once it is here" in found["disk"].found


def test_a_model_that_would_not_load_is_a_problem(
    workspace: Workspace, preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.doctor.doctor.ask_device", lambda useful: CPU)
    model = workspace.models / "tiny"
    config, tokenizer = (read_json(model / name) for name in ("config.json", "tokenizer.json"))
    for name, values in (
        ("config.json", {**config, "model_type": "unheard_of"}),
        ("config.json", {**config, "hidden_size": 2 * config["hidden_size"]}),
        ("tokenizer.json", {}),
    ):
        write_json(model / name, values)
        found = by_check(examine(preset, workspace))
        assert found["model"].status is PROBLEM
        assert found["model"].action
        assert found["data"].status is OK
        # It is here: what is missing is not room for it.
        assert "disk" not in found
        write_json(model / "config.json", config)
    write_json(model / "tokenizer.json", tokenizer)
    assert by_check(examine(preset, workspace))["model"].status is OK


def test_an_mlx_that_takes_its_process_down_is_a_finding(
    workspace: Workspace, preset: Preset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'metal: no such thing' >&2\nkill -ABRT $$\n")
    broken.chmod(0o755)
    monkeypatch.setattr("jobs.backend.device.sys.executable", str(broken))
    found = by_check(examine(preset, workspace))
    assert found["device"].status is PROBLEM
    assert "metal: no such thing" in found["device"].found
    # What needs no MLX is looked at all the same.
    assert found["data"].status is OK
