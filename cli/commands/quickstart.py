"""``farense quickstart``: the whole way of a job on a fresh machine, small."""

from __future__ import annotations

import json
import shlex
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.commands.watch import report_end, show
from cli.foreground import interrupted_by_signals
from cli.options import preset_from
from cli.output import note
from daemon.submit.data_files import named_files
from jobs.backend.blas import load_fast_blas
from jobs.data.examples import Dialogue, read_examples
from jobs.data.messages import Message
from jobs.data.prompts import farense_prompt
from jobs.model_store.store import pull
from jobs.paths import REPOSITORY, Workspace
from jobs.verdict import NOT_LEARNED

if TYPE_CHECKING:
    from daemon.client import FarenseClient
    from daemon.store.records import JobRecord
    from jobs.config.config import TrainConfig
    from jobs.paths import Workspace

PRESET = "quickstart"
MODEL = "smollm2-135m"
TINY = "tiny-random"
INTERRUPTED = 130
NOTHING_TO_ASK = (
    f"The model has not learned ({NOT_LEARNED}), so its adapter is nothing to ask questions of. If "
    "you changed configs/quickstart.yaml, look at learning_rate and warmup_steps there."
)
# Ahead of whatever waits in the queue: a person sits in front of it.
PRIORITY = 100


@click.command(short_help="Train a small model now, from nothing.")
@click.pass_context
def quickstart(ctx: click.Context) -> None:
    """Train a small model on the sample data, through the queue, and watch.

    Downloads the model where it is missing, starts a daemon where none runs, queues the preset
    `quickstart` like any job, and leaves nothing running that it started. Ctrl-C cancels the job.

    \b
    Example: farense quickstart
    """
    from daemon.client import FarenseClient  # noqa: PLC0415 - a Tab would wait for redis

    workspace = Workspace.current()
    preset = preset_from(PRESET, (*sample_data(workspace), *model_settings(workspace)))
    with running_daemon(workspace), FarenseClient.connect(workspace) as client:
        record = client.enqueue(preset, priority=PRIORITY)
        note(f"Queued {record.id}.")
        code = train(client, record.id)
        record = client.job(record.id)
    if code == 0 and record.gap_status == NOT_LEARNED:
        note(NOTHING_TO_ASK)
    elif code == 0:
        for line in next_steps(workspace, preset.config, record):
            click.echo(line)
    ctx.exit(code)


def model_settings(workspace: Workspace) -> tuple[str, ...]:
    """Provide the model and return the settings that name it, if it is not the preset's own.

    On a Linux CPU without a fast BLAS a step of the real model takes a minute: a tiny one with
    random weights shows the way of a job, and nothing else.
    """
    if sys.platform != "linux" or load_fast_blas():
        pull(MODEL, workspace, report=note)
        return ()
    from jobs.model_store.tiny import make_tiny_model  # noqa: PLC0415 - loads MLX

    note(
        "No fast BLAS was found, so a tiny model with random weights is trained instead: its "
        "answers mean nothing. For the real one install OpenBLAS (on Debian: libopenblas0)."
    )
    folder = make_tiny_model(workspace.models / TINY)
    return (f"model=models/{folder.name}", "lora.num_layers=2", "learning_rate=5e-3")


def sample_data(workspace: Workspace) -> tuple[str, ...]:
    """Return the settings that point a workspace without sample data to the repository's."""
    if (workspace.data / "sample").is_dir():
        return ()
    folder = REPOSITORY / "data" / "sample"
    return tuple(
        f"data.{part}={json.dumps(str(folder / f'{part}.jsonl'))}" for part in ("train", "valid")
    )


@contextmanager
def running_daemon(workspace: Workspace) -> Iterator[None]:
    """Provide a daemon; one that is started here is stopped at the end, whatever happens."""
    from daemon.process import daemon_status, start_daemon, stop_daemon  # noqa: PLC0415 - a Tab would wait for redis

    with interrupted_by_signals():
        started = not daemon_status(workspace).running
        if started:
            start_daemon(workspace)
        try:
            yield
        finally:
            if started:
                stop_daemon(workspace)


def train(client: FarenseClient, job_id: str) -> int:
    """Show the job until it ends and return its exit code; an interrupted job is cancelled."""
    try:
        show(client, job_id)
    except KeyboardInterrupt:
        note(f"Cancelling {job_id} ...")
        client.cancel(job_id)
        with suppress(KeyboardInterrupt):
            deque(client.follow(job_id), maxlen=0)
        return INTERRUPTED
    except BaseException:
        client.cancel(job_id)
        raise
    return report_end(client.job(job_id))


def next_steps(workspace: Workspace, config: TrainConfig, record: JobRecord) -> list[str]:
    """Return where the adapter is, and the commands that ask both models the same question."""
    adapters = f"{record.run_dir}/adapters"
    base = [str(Path(sys.executable).parent / "mlx_lm.generate"), "--model", config.model]
    question = ["--max-tokens", "60", *prompt_options(sample_question(workspace, config), config)]
    return [
        "",
        "The adapter is in:",
        f"  {workspace.root / adapters}",
        "",
        f"Ask the base model, then the same with the adapter (in {workspace.root}):",
        f"  {shlex.join([*base, *question])}",
        f"  {shlex.join([*base, '--adapter-path', adapters, *question])}",
    ]


def sample_question(workspace: Workspace, config: TrainConfig) -> str:
    """Return the first question of the data the job was validated on."""
    *_, file = named_files(config, workspace)
    examples = read_examples(file)
    dialogues = (example for example in examples if isinstance(example, Dialogue))
    first = next(dialogues, None)
    return first.context[-1].content if first else "Quem és tu?"


def prompt_options(question: str, config: TrainConfig) -> list[str]:
    r"""Return the options of mlx_lm.generate that put a question as training did.

    mlx_lm.generate reads ``\n`` in a prompt as a new line.
    """
    if config.prompt_format == "chat":
        return ["--prompt", question]
    text = farense_prompt(Dialogue((Message("user", question),), ""))
    return ["--ignore-chat-template", "--prompt", text.replace("\n", "\\n")]
