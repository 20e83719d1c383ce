"""``farense export``: a job's best adapter in the forms in which other programs load it."""

from __future__ import annotations

import shlex
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.foreground import foreground_job
from cli.options import job_argument, json_option
from cli.output import note, print_json, warn
from jobs.export.kinds import OLLAMA, ExportRequest
from jobs.paths import Workspace
from jobs.storage.formatting import size_text

if TYPE_CHECKING:
    from jobs.export.kinds import Exported


@click.command(short_help="Write a job's adapter where other programs load it.")
@job_argument
@click.option("--fuse", is_flag=True, help="Also a whole model, its weights not quantized.")
@click.option(
    "--requantize",
    is_flag=True,
    help="With --fuse: quantize again, which loses a part of the adapter.",
)
@click.option("--peft", is_flag=True, help="Also in the layout of Hugging Face PEFT.")
@click.option(
    "--ollama",
    metavar="NAME",
    help="With --fuse: also a Modelfile, by which Ollama makes a model of that name.",
)
@click.option("--to", "name", metavar="NAME", help="The folder's name in output/.")
@click.option("--force", is_flag=True, help="Replace an export of another job or kind.")
@json_option
def export(
    job: str,
    fuse: bool,
    requantize: bool,
    peft: bool,
    ollama: str | None,
    name: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write a training job's best adapter to output/, with a model card.

    JOB is an id, part of one, a name, or `latest`. The adapter goes to
    output/MODEL-farense-qlora-PRESET/, as mlx-lm loads it. --peft adds a folder of that name with
    -peft behind it. --fuse adds one with -fused: the base model with the adapter in its weights, in
    16 bits (some 14.5 GB for a model of 7 billion weights). With --requantize it is as small as the
    base model (-fused-quantized), but 4 bits hold only a part of what an adapter adds. Either way
    its loss over the validation set is measured, beside the adapter's.

    --ollama NAME adds a folder with -ollama behind it: a Modelfile with the prompts, the system
    message and the ends that the model was trained with. The command that makes a model of it is
    told, and not run.

    A folder has its name once it is whole. An earlier export of the same job is replaced. Where
    another job has that name already, the end of this job's id is put behind it.

    \b
    Examples:
      farense export latest
      farense export latest --fuse --peft --to farense-assistant
      farense export latest --fuse --ollama farense-assistant
    """
    wanted = ExportRequest(
        fuse=fuse, requantize=requantize, peft=peft, ollama=ollama, name=name, force=force
    )
    with foreground_job(job, "Export") as (spec, state):
        from jobs.export.export import export as run_export  # noqa: PLC0415 - loads MLX

        if not state.finished:
            warn(f"{spec.id} has not ended: this is its best adapter so far.")
        written = []
        for exported in run_export(Workspace.current(), spec, wanted, note, warn):
            written.append(exported)
            if not as_json:
                click.echo(described(exported))
            if ollama is not None and exported.kind == OLLAMA:
                note(offer(ollama, Path(exported.folder)))
    if as_json:
        print_json([{**asdict(found), "moved": found.moved} for found in written])


def offer(model: str, folder: Path) -> str:
    """Return how a person makes a model of a Modelfile in Ollama."""
    with suppress(ValueError):
        folder = folder.relative_to(Path.cwd())
    command = f"ollama create {model} -f {shlex.quote(str(folder / 'Modelfile'))}"
    if shutil.which("ollama") is None:
        return f"There is no ollama on the PATH here; where there is: {command}"
    return f"To have it in Ollama: {command}"


def described(found: Exported) -> str:
    """Return what was written: folder and size, and of a fused model its loss."""
    form = f", weights in {found.dtype}" if found.kind == "fused" else ""
    text = f"{found.folder}  ({found.kind}, {size(found.bytes)}{form})"
    if found.moved is not None:
        text += (
            f"\n  validation loss {found.validation_loss:.4f}, of the adapter beside the base "
            f"model {found.adapter_validation_loss:.4f} ({found.moved:+.4f})"
        )
    return text


def size(count: int) -> str:
    """Return a number of bytes for people."""
    return size_text(count) if count >= 1e6 else f"{count / 1e3:.0f} kB"
