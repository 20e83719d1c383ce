"""What the benchmarks share: a workspace, jobs made by hand, processes watched to their end.

This process stays small and imports no MLX: the resident peak that the system reports for a child
is never below that of its parent.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.config.config import TrainConfig, config_from
from jobs.data.examples import read_examples
from jobs.data.tokenize import TokenizedExample, tokenize
from jobs.data.tokenizer import Tokenizer
from jobs.paths import REPOSITORY, RunDirectory, Workspace
from jobs.spec import DataFile, JobSpec, read_spec
from jobs.state import JobState, State, now, write_state
from jobs.storage.files import sha256_of
from tests.helpers.specs import write_spec

MODEL = "smollm2-135m-4bit"
PULL = "farense model pull smollm2-135m"
PYTHON = [sys.executable, "-P", "-m"]
MAKE_TINY = (
    "import sys, pathlib, jobs.model_store.tiny as t; t.make_tiny_model(pathlib.Path(sys.argv[1]))"
)

# More steps than any run has: no checkpoint inside what is timed.
NEVER = 1_000_000

SETTINGS: dict[str, Any] = {
    "model": f"models/{MODEL}",
    "prompt_format": "farense",
    "mask_prompt": True,
    "lora": {
        "rank": 6,
        "scale": 16.0,
        "dropout": 0.08,
        "num_layers": 8,
        "keys": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    },
    "batch_size": 2,
    "gradient_accumulation": 4,
    "learning_rate": 5e-4,
    "adam_bias_correction": False,
    "weight_decay": 0.01,
    "num_epochs": 3,
    "max_seq_length": 256,
    "save_steps": NEVER,
    "eval_steps": 100,
    "log_steps": 10,
}

# What --quick changes: a tiny model (four blocks), to see in a minute that a benchmark works.
TINY_LORA = {**SETTINGS["lora"], "num_layers": 2}

Row = dict[str, Any]


@contextmanager
def benchmark_workspace(*, tiny: bool, shape: str | None = None) -> Iterator[Workspace]:
    """Yield a workspace on the disk of the user's own, with the model in it; removed afterwards.

    Args:
        tiny: put a random model of four blocks under the model's name.
        shape: put a random model of this shape under the shape's name (:mod:`benchmarks.shapes`).
    """
    private = Workspace.current().private
    private.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=private) as folder:
        workspace = Workspace(Path(folder))
        (workspace.private / "tmp").mkdir(mode=0o700, parents=True)
        model = workspace.root / SETTINGS["model"]
        if shape:
            small = ["--small"] if tiny else []
            made = [*PYTHON, "benchmarks.shapes", shape, str(workspace.models / shape), *small]
            subprocess.run(made, check=True)
        elif tiny:
            subprocess.run([sys.executable, "-P", "-c", MAKE_TINY, str(model)], check=True)
        else:
            shutil.copytree(installed_model(), model)
        yield workspace


def installed_model() -> Path:
    """Return the folder of the model that the benchmarks train; end the program without it."""
    path = Workspace.current().models / MODEL
    if not path.is_dir():
        sys.exit(f"There is no model {path}: get it with `{PULL}`.")
    return path


def sample_rows(name: str) -> list[Row]:
    """Return the rows of ``data/sample/<name>.jsonl``: ``train`` or ``valid``."""
    path = REPOSITORY / "data" / "sample" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def make_run(
    workspace: Workspace, train: Sequence[Row], valid: Sequence[Row] = (), **settings: Any
) -> RunDirectory:
    """Return the run directory of a queued job on ``train`` and ``valid``, as enqueue makes it."""
    train_file = _freeze(workspace, train, "train")
    valid_file = _freeze(workspace, valid, "valid") if valid else None
    data = {"train": train_file.path, "valid": valid_file.path if valid_file else None}
    config = config_from({**SETTINGS, **settings, "data": data}, "benchmark")
    run = workspace.run(_new_id(workspace))
    run.path.mkdir(parents=True)
    write_spec(
        run,
        JobSpec(
            id=run.job_id,
            preset="bench",
            created_at=now(),
            config=config.model_dump(mode="json"),
            train=train_file,
            valid=valid_file,
            model_fingerprint="",
            total_steps=config.schedule(len(train)).total_steps,
        ),
    )
    write_state(run, JobState(State.QUEUED))
    return run


def workspace_of(run: RunDirectory) -> Workspace:
    """Return the workspace that a run directory stands in."""
    return Workspace(run.path.parent.parent)


def config_of(run: RunDirectory) -> TrainConfig:
    """Return the config of a run."""
    return config_from(read_spec(run).config, str(run.job))


def tokenized(
    run: RunDirectory, file: DataFile | None, tokenizer: Tokenizer
) -> tuple[TokenizedExample, ...]:
    """Return the examples of a data file exactly as a job of this run trains on them."""
    if file is None:
        return ()
    config = config_of(run)
    data = tokenize(
        read_examples(workspace_of(run).inside(file.path)),
        tokenizer,
        prompt_format=config.prompt_format,
        mask_prompt=config.loss_on != "everything",
        max_seq_length=config.max_seq_length,
    )
    return data.examples


def forget(workspace: Workspace) -> None:
    """Remove everything that one job leaves to make the next one faster."""
    for cache in (workspace.prefix_cache, workspace.token_cache, workspace.baselines):
        shutil.rmtree(cache, ignore_errors=True)


@dataclass(frozen=True)
class Watched:
    """A process that has ended well.

    Attributes:
        launched: when it was started, UTC.
        seconds: from its start to its end.
        resident_mb: peak of its resident memory, megabytes.
        failure: how it ended where a failure was allowed; None where it ended well.
        stopped: it was killed at its limit.
    """

    launched: datetime
    seconds: float
    resident_mb: float
    failure: str | None = None
    stopped: bool = False


def watch(
    workspace: Workspace,
    module: str,
    *arguments: str,
    temporary: Path | None = None,
    limit: float | None = None,
) -> Watched:
    """Run ``python -P -m module`` as a worker runs a job; end the program if it fails.

    Args:
        temporary: its ``$TMPDIR``, where MLX keeps the kernels it compiles; else one that both
            sides share, warm for both or for neither.
        limit: seconds after which it is killed. A process that has one may also fail.
    """
    output = workspace.root / "output.txt"
    environment = {
        **os.environ,
        "FARENSE_HOME": str(workspace.root),
        "HF_HUB_OFFLINE": "1",
        "TMPDIR": str(temporary or workspace.private / "tmp"),
    }
    launched, started = datetime.now(UTC), time.perf_counter()
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*PYTHON, module, *arguments], env=environment, stdout=file, stderr=file
        )
        timer = threading.Timer(limit or threading.TIMEOUT_MAX, process.kill)
        timer.daemon = True
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds, failure, stopped = time.perf_counter() - started, None, False
    if process.returncode:
        said = output.read_text(errors="replace")
        if limit is None:
            sys.exit(f"{module} ended with {process.returncode}:\n{said[-4000:]}")
        stopped = seconds >= limit
        failure = (
            f"not finished in {limit:,.0f} s" if stopped else _failure(process.returncode, said)
        )
    return Watched(launched, seconds, megabytes(usage.ru_maxrss), failure, stopped)


def _failure(code: int, said: str) -> str:
    """Return how a process failed."""
    if code == -signal.SIGKILL:
        return "killed by the system, as where memory ends"
    return f"ended with {code}: {(said.strip().splitlines() or [''])[-1][-200:]}"


def megabytes(maxrss: int) -> float:
    """Return a ``ru_maxrss`` in megabytes: bytes on macOS, kibibytes elsewhere."""
    return maxrss / 1e6 if sys.platform == "darwin" else maxrss * 1024 / 1e6


def _freeze(workspace: Workspace, rows: Sequence[Row], source: str) -> DataFile:
    workspace.imported.mkdir(parents=True, exist_ok=True)
    loose = workspace.imported / "loose.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    loose.write_text("".join(lines), encoding="utf-8")
    digest = sha256_of(loose)
    loose.rename(workspace.imported / f"{digest}.jsonl")
    return DataFile(f"data/imported/{digest}.jsonl", digest, len(rows), source)


def _new_id(workspace: Workspace) -> str:
    number = len(list(workspace.runs.glob("*"))) if workspace.runs.exists() else 0
    letters = itertools.islice(itertools.product("abcdefghij", repeat=4), number, None)
    return f"20261122-210000-bench-{''.join(next(letters))}"
