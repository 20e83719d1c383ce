"""``farense export``: a job's best adapter in the forms in which other programs load it."""

from __future__ import annotations

import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.foreground import foreground_job
from cli.options import job_argument, json_option
from cli.output import note, print_json, warn
from jobs.errors import ExitCode
from jobs.export.kinds import OLLAMA, PRECISIONS, ExportRequest, as_told, verified_lines
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
    help="Also a Modelfile, by which Ollama makes a model of that name.",
)
@click.option(
    "--ollama-base",
    metavar="MODEL",
    help="With --ollama --gguf-lora: the base model by its name in Ollama, or its GGUF.",
)
@click.option("--gguf-lora", is_flag=True, help="Also as a GGUF adapter, for llama.cpp and Ollama.")
@click.option(
    "--gguf",
    type=click.Choice(PRECISIONS),
    multiple=True,
    help="Also a whole model as a GGUF, in this precision; may be given several times.",
)
@click.option("--verify", is_flag=True, help="Let llama.cpp compute with each GGUF, and compare.")
@click.option(
    "--base-gguf",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="With --verify --gguf-lora: the base model's GGUF that you have.",
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
    ollama_base: str | None,
    gguf_lora: bool,
    gguf: tuple[str, ...],
    verify: bool,
    base_gguf: Path | None,
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
    told, and not run. The model is the first of --gguf, or the adapter of --gguf-lora beside
    --ollama-base, or that of --fuse, of which Ollama takes few architectures.

    --gguf-lora and --gguf write for llama.cpp, Ollama and LM Studio: the adapter alone, to stand
    beside a GGUF of the base model, or the whole model with the adapter in its weights.

    A folder has its name once it is whole. An earlier export of the same job is replaced. Where
    another job has that name already, the end of this job's id is put behind it.

    \b
    Examples:
      farense export latest
      farense export latest --fuse --peft --to farense-assistant
      farense export latest --gguf-lora
      farense export latest --gguf q8_0 --gguf q4_0 --verify
      farense export latest --gguf q8_0 --ollama farense-assistant
      farense export latest --gguf-lora --ollama farense-assistant --ollama-base smollm2:135m
    """
    wanted = ExportRequest(
        fuse=fuse,
        requantize=requantize,
        peft=peft,
        gguf_lora=gguf_lora,
        gguf=gguf,
        verify=verify,
        base_gguf=base_gguf,
        ollama=ollama,
        ollama_base=ollama_base,
        name=name,
        force=force,
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
        print_json([{**as_told(found), "moved": found.moved} for found in written])
    if verify and any(found.file is not None and found.verified is None for found in written):
        sys.exit(ExitCode.FAILED)


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
    if found.verified is not None:
        text += "".join(f"\n  {line}" for line in verified_lines(found.verified))
    return text


def size(count: int) -> str:
    """Return a number of bytes for people."""
    return size_text(count) if count >= 1e6 else f"{count / 1e3:.0f} kB"
