"""Each row of the table of checks, on each way on which it can occur: refused, and nothing is left.

What only the tokenizer, mlx-lm or the machine can say is refused by the command, too: no job is
made, and no process but the one that looks is started.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from daemon.client import FarenseClient
from daemon.submit.check_table import CLIENT, ENQUEUE, EVALUATE, RETRY, SWEEP, TABLE, Check
from daemon.track.kinds import Tracker
from jobs.config.config import Preset, load_preset
from jobs.errors import FarenseError, command_code
from jobs.model.load import load_tokenizer
from jobs.paths import RunDirectory, Workspace
from jobs.resources.preflight import MemoryLimits
from jobs.spec import read_spec
from jobs.state import State, read_state, write_state
from jobs.storage.files import read_json, write_json
from tests.cli.conftest import Run
from tests.helpers.made_up_adapter import put_made_up_adapter, write_arrays
from tests.helpers.runs import write_rows

QUESTION = {"prompt": "Onde joga o Farense?", "completion": "Em Faro."}
SYSTEM = {
    "messages": [
        {"role": "system", "content": "Responde."},
        {"role": "user", "content": "Onde?"},
        {"role": "assistant", "content": "Em Faro."},
    ]
}
TURNS = {"messages": [*SYSTEM["messages"][1:], *SYSTEM["messages"][1:]]}
CHAT = {"prompt_format": "chat"}
REFUSES_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{{ m['content'] }}{% endfor %}"
)


@dataclass(frozen=True)
class Bad:
    """An input that a check refuses.

    Attributes:
        says: parts of what is said, on every way.
        settings: of the config.
        rows: of ``data/bad.jsonl``, which it then trains on.
        model: what is done to the model.
        done: what is done to a job that has ended, before it is done again or evaluated.
        machine: what the machine is made to be.
        code: exit code.
        flags: of `farense enqueue`, and of `farense retry`.
    """

    says: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    rows: tuple[Any, ...] = ()
    model: Callable[[Path], object] = lambda folder: None
    done: Callable[[Workspace, RunDirectory], object] = lambda workspace, run: None
    machine: Callable[[pytest.MonkeyPatch], object] = lambda patch: None
    code: int = 2
    flags: tuple[str, ...] = ()
    sweep: dict[str, Any] = field(default_factory=dict)


def edit(name: str, **changes: Any) -> Callable[[Path], None]:
    """Return what changes a JSON file of a model; None takes a key out."""

    def edited(folder: Path) -> None:
        values = read_json(folder / name) | changes
        write_json(folder / name, {key: v for key, v in values.items() if v is not None})

    return edited


def lose_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def lose_data(workspace: Workspace, run: RunDirectory) -> None:
    for file in workspace.imported.iterdir():
        file.unlink()


def odd_weights(folder: Path) -> None:
    """Leave the model one more tensor than mlx-lm's has; the header is whole."""
    write_arrays(folder / "model-extra.safetensors", {"model.layers.0.nothing.weight": (4, 4)})


def in_six_bits(folder: Path) -> None:
    """Quantize the model anew, as mlx-lm does it."""
    from mlx_lm.utils import dequantize_model, load_model, quantize_model, save

    module, config = load_model(folder)
    config = {key: value for key, value in config.items() if not key.startswith("quantization")}
    module, config = quantize_model(dequantize_model(module), config, 32, 6)
    save(folder, folder, module, load_tokenizer(folder).wrapper, config)


def no_memory(patch: pytest.MonkeyPatch) -> None:
    limits = MemoryLimits(whole=100_000, available=100_000)
    patch.setattr("daemon.submit.resources.memory_limits", lambda *device: limits)


def no_disk(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("daemon.submit.resources.free_bytes", lambda folder: 1_000_000)


def no_mlx(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("jobs.rehearsal._known", lambda part, workspace: None)
    patch.setattr("sys.executable", "/bin/false")


def no_batches(patch: pytest.MonkeyPatch) -> None:
    """Let the kept rehearsal say that the architecture is one of those."""
    from jobs import rehearsal

    facts_from = rehearsal._facts_from
    said = {"unbatched": "mlx-lm cannot generate in batches for this architecture"}
    patch.setattr(rehearsal, "_facts_from", lambda values: facts_from({**values, **said}))


def other_adapter(workspace: Workspace, run: RunDirectory) -> None:
    write_arrays(run.adapter_weights, {"model.layers.3.self_attn.q_proj.lora_a": (64, 4)})


def texts_alone(workspace: Workspace, run: RunDirectory) -> None:
    """Let the order be one of before there was a check: of questions it has none."""
    spec = read_json(run.job)
    path = workspace.root / spec["valid"]["path"]
    path.chmod(0o600)
    write_rows(path, [{"text": "O Farense joga em Faro."}])


def name_a_tracker(workspace: Workspace, run: RunDirectory) -> None:
    """A job of a time when it was installed."""
    spec = read_json(run.job)
    spec["config"]["trackers"] = ["wandb"]
    run.job.chmod(0o600)
    write_json(run.job, spec)


BAD: dict[str, Bad] = {
    "settings": Bad(
        ("learning_rate", "memory: '6 tons' is neither auto nor a size; write 6GB"),
        {"learning_rate": -1, "memory": "6 tons"},
    ),
    "trackers": Bad(
        ("wandb is not installed here", "make trackers"),
        {"trackers": ["wandb"]},
        done=name_a_tracker,
        machine=lambda patch: patch.setattr(Tracker, "installed", False),
    ),
    "model's place": Bad(("out of the workspace",), {"model": "../elsewhere"}),
    "model's files": Bad(("has no weights",), model=lose_weights),
    "architecture": Bad(
        ("spaceship", "mlx-lm does not have"), model=edit("config.json", model_type="spaceship")
    ),
    "adapted layers": Bad(("no layer w_proj",), {"lora.keys": ["w_proj"]}),
    "layers of DoRA": Bad(
        ("lora.kind: dora cannot adapt layers of 6 bits", "set lora.kind to lora"),
        {"lora.kind": "dora"},
        model=in_six_bits,
    ),
    "adapter to start from": Bad(
        ("init_from: There is no job 'nowhere'", "the folder of one"), {"init_from": "nowhere"}
    ),
    "lines of the data": Bad(
        ("bad.jsonl", 'line 2: "completion" is missing'), rows=(QUESTION, {"prompt": "Quem?"})
    ),
    "share for validation": Bad(
        ("10% of 1 example would leave none",),
        {"data.train": "data/bad.jsonl", "data.valid": "10%"},
        (QUESTION,),
    ),
    "turns": Bad(("bad.jsonl, line 2", "prompt_format: chat"), rows=(QUESTION, TURNS)),
    "frozen data": Bad(("data of", "train.jsonl"), done=lose_data),
    "model is the same": Bad(
        ("has changed since this job was enqueued",),
        model=edit("config.json", rope_theta=20_000.0),
        flags=("--from-checkpoint",),
    ),
    "tokenizer": Bad(
        ("names no EOS token",),
        model=edit("tokenizer_config.json", eos_token=None),
    ),
    "chat template": Bad(
        ("has no chat template", "prompt_format: farense"),
        CHAT,
        model=edit("tokenizer_config.json", chat_template=None),
    ),
    "conversations": Bad(
        ("bad.jsonl, line 2", "refuses the conversation: System role not supported"),
        CHAT,
        (QUESTION, SYSTEM),
        edit("tokenizer_config.json", chat_template=REFUSES_SYSTEM),
    ),
    "model loads": Bad(("cannot be loaded",), model=odd_weights),
    "something to learn": Bad(
        ("bad.jsonl: no example is left", "--set max_seq_length="),
        {"max_seq_length": 8},
        (QUESTION,),
    ),
    "memory": Bad(("are needed at one time", "this machine gives"), machine=no_memory),
    "disk": Bad(("Not enough disk space",), machine=no_disk, code=1),
    "questions": Bad(
        ("no questions",),
        {"data.valid": "data/bad.jsonl"},
        ({"text": "O Farense joga em Faro."},),
        done=texts_alone,
        flags=("--evaluate",),
        sweep={"objective": "token_f1"},
    ),
    "answers in batches": Bad(
        ("cannot generate in batches",),
        machine=no_batches,
        flags=("--evaluate",),
        sweep={"objective": "token_f1"},
    ),
    "adapter": Bad(("does not fit its model", "it lacks"), done=other_adapter),
    "checkpoint": Bad(("no checkpoint",), flags=("--from-checkpoint",)),
    "MLX": Bad(("gave no answer", "Nothing was queued"), machine=no_mlx, code=1),
}
CASES = [
    pytest.param(check, way, id=f"{check.name}-{way}") for check in TABLE for way in check.ways
]


def test_every_row_is_tried() -> None:
    assert BAD.keys() == {check.name for check in TABLE}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The modules that this process has started processes of."""
    modules: list[str] = []
    popen = subprocess.Popen

    class Noted(popen):  # type: ignore[valid-type,misc]  # a class, whatever its parameters
        def __init__(self, command: list[str], *arguments: Any, **options: Any) -> None:
            modules.append(command[command.index("-m") + 1] if "-m" in command else command[0])
            super().__init__(command, *arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    yield modules


def settings_of(bad: Bad, model: str) -> tuple[str, ...]:
    values = {"model": model, **bad.settings}
    if bad.rows and "data.valid" not in values:
        values["data.train"] = "data/bad.jsonl"
    return tuple(f"{key}={json.dumps(value)}" for key, value in values.items())


def ended(client: FarenseClient, preset: Preset) -> RunDirectory:
    """Return a job that has ended well, with an adapter and a checkpoint."""
    run = client.workspace.run(client.enqueue(preset).id)
    client.cancel(run.job_id)
    write_state(run, type(read_state(run))(State.COMPLETED, attempt=1))
    put_made_up_adapter(run)
    return run


def put_checkpoint(run: RunDirectory) -> None:
    whole = {"version": 2, "counters": {}, "versions": {}, "files": {}}
    write_json(run.checkpoint(0, 5) / "checkpoint.json", whole)


def sweep_file(workspace: Workspace, bad: Bad, settings: tuple[str, ...]) -> Path:
    fixed = dict(setting.split("=", 1) for setting in settings)
    path = workspace.configs / "bad.yaml"
    plan = {
        "preset": "tiny",
        "set": {key: json.loads(value) for key, value in fixed.items()},
        "space": {"weight_decay": [0.0, 0.1]},
        "trials": 2,
        **bad.sweep,
    }
    path.write_text(yaml.safe_dump(plan))
    return path


@pytest.mark.parametrize(("check", "way"), CASES)
def test_it_is_refused_and_nothing_is_left(
    check: Check,
    way: str,
    invoke: Run,
    client: FarenseClient,
    preset: Preset,
    started: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad, workspace = BAD[check.name], client.workspace
    if bad.rows:
        write_rows(workspace.data / "bad.jsonl", bad.rows)
    before: set[str] = set()
    if way in (RETRY, EVALUATE):
        run = ended(client, _good(preset, bad, workspace))
        before = {run.job_id}
        if check.name != "checkpoint":
            put_checkpoint(run)
        bad.done(workspace, run)
        bad.model(workspace.models / "tiny")
        if check.name == "conversations":
            _as_an_older_version_left_it(workspace, run)
    else:
        model = workspace.models / "bad"
        shutil.copytree(workspace.models / "tiny", model)
        bad.model(model)
    started.clear()
    bad.machine(monkeypatch)
    settings = settings_of(bad, "models/bad")
    if way == CLIENT:
        _refused_by_client(client, bad, settings)
    else:
        arguments = {
            ENQUEUE: ["enqueue", "tiny", *bad.flags],
            SWEEP: ["sweep", "run"],
            RETRY: ["retry", *before, *bad.flags],
            EVALUATE: ["evaluate", *before],
        }[way]
        if way == ENQUEUE:
            arguments += [part for setting in settings for part in ("--set", setting)]
        if way == SWEEP:
            arguments.append(str(sweep_file(workspace, bad, settings)))
        done = invoke(*arguments)
        assert (done.code, done.out) == (bad.code, ""), done.err
        for part in bad.says:
            assert part in done.err
        assert "data/imported/" not in done.err
        assert "Traceback" not in done.err
    assert {job.id for job in client.jobs()} == before
    assert {path.name for path in workspace.runs.glob("2*")} == before
    assert not list(workspace.runs.glob("sweeps/2*"))
    assert set(started) <= {"jobs.rehearsal", "/bin/false"}


def _good(preset: Preset, bad: Bad, workspace: Workspace) -> Preset:
    """Return the preset of the job that is done again: as far as it was good at that time."""
    if bad.settings == CHAT:
        return load_preset("tiny", (workspace.configs,), ("prompt_format=chat",))
    return preset


def _as_an_older_version_left_it(workspace: Workspace, run: RunDirectory) -> None:
    """Let the frozen training data hold a conversation that nobody had checked."""
    from jobs.storage.files import sha256_of

    values = read_json(run.job)
    path = write_rows(workspace.imported / "new.jsonl", (QUESTION, SYSTEM))
    digest = sha256_of(path)
    path.rename(workspace.imported / f"{digest}.jsonl")
    frozen = f"data/imported/{digest}.jsonl"
    values["train"] = {"path": frozen, "sha256": digest, "examples": 2, "source": "bad.jsonl"}
    values["config"]["data"]["train"] = frozen
    write_json(run.job, values)
    assert read_spec(run).train.source == "bad.jsonl"


def _refused_by_client(client: FarenseClient, bad: Bad, settings: tuple[str, ...]) -> None:
    with pytest.raises(FarenseError) as refused:
        client.enqueue_many([load_preset("tiny", (client.workspace.configs,), settings)] * 2)
    said = f"{refused.value.message} {refused.value.hint}"
    assert command_code(refused.value) == bad.code
    for part in bad.says:
        assert part in said
