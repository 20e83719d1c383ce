"""``farense push``: an export of a job to the Hugging Face hub."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from cli.commands.export import size
from cli.foreground import interrupted_by_signals
from cli.options import job_argument, json_option
from cli.output import note, print_json, warn
from cli.reading import job_named, reading
from daemon.latest import ADAPTER as WITH_ADAPTER
from daemon.runs.training import check_has_adapter, training_of
from jobs.errors import InvalidInput
from jobs.export.kinds import ADAPTER, FUSED, PEFT, REQUANTIZED, SUFFIXES
from jobs.storage.formatting import counted

if TYPE_CHECKING:
    from jobs.paths import Workspace
    from jobs.push.exports import ExportFolder
    from jobs.push.push import Prepared

# What stands for itself there.
KINDS = [
    kind
    for kind in SUFFIXES
    if kind in (ADAPTER, FUSED, REQUANTIZED, PEFT) or kind.startswith("gguf-")
]
# `farense export`, where a process of its own has to run it: it works offline and with MLX.
EXPORT = (sys.executable, "-P", "-c", "from cli.main import main; main()", "export")


@click.command(short_help="Send a job's adapter to the Hugging Face hub.")
@job_argument
@click.argument("repository", metavar="OWNER/NAME")
@click.option(
    "--what",
    "kind",
    type=click.Choice(KINDS),
    default=ADAPTER,
    show_default=True,
    help="Which export of the job.",
)
@click.option("--public", is_flag=True, help="Let everybody see it; else it is private.")
@click.option(
    "--base-model",
    metavar="OWNER/NAME",
    help="The base model on the hub, for the card; known of models pulled from there.",
)
@click.option("--license", "license_id", metavar="ID", help="For the card: apache-2.0, say.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and send nothing.")
@json_option
def push(
    job: str,
    repository: str,
    kind: str,
    public: bool,
    base_model: str | None,
    license_id: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Send an export of a training job, with its model card, to a repository of the hub.

    JOB is an id, part of one, a name, or `latest`. The repository is made where there is none,
    private unless you say --public. The newest export of the job's best adapter goes; where there
    is none it is written first, as `farense export` does it. Weights, configuration, tokenizer and
    card go and nothing else: no data, no logs, and no file that holds a path of this machine.

    Who you are there says the log-in of the hub's own library: `hf auth login`, or HF_TOKEN.

    \b
    Examples:
      farense push latest maria/farense-assistant --dry-run
      farense push latest maria/farense-assistant
      farense push latest maria/farense-assistant-mlx --what fused --public --license apache-2.0
    """
    from jobs.push.push import check_repository, prepare  # noqa: PLC0415 - --help needs none of it

    check_repository(repository)
    with interrupted_by_signals():
        workspace, export = _export_of(job, kind)
        prepared = prepare(
            workspace, export, repository, base_model=base_model, license_id=license_id
        )
        _remark(prepared)
        if dry_run:
            _show(prepared, public=public, as_json=as_json)
            return
        from jobs.push.hub import pushed_text, send  # noqa: PLC0415 - loads huggingface_hub

        files = prepared.contents.files
        total = size(prepared.contents.size)
        note(f"Sending {counted(len(files), 'file')}, {total}, to {repository} ...")
        pushed = send(repository, files, f"Push {export.path.name}", warn, public=public)
    if public and pushed.private:
        warn(f"{repository} was there and stays private: its page on the hub makes it public.")
    if as_json:
        print_json({**_described(prepared), **asdict(pushed)})
        return
    note(pushed_text(pushed, len(files)))
    click.echo(pushed.commit_url)


def _export_of(job: str, kind: str) -> tuple[Workspace, ExportFolder]:
    """Return the export that goes; write it where there is none."""
    from jobs.push.exports import current_export  # noqa: PLC0415 - as above

    with reading() as reader:
        workspace = reader.workspace
        record = job_named(reader, job, WITH_ADAPTER)
        spec, run, state = training_of(record, workspace, "Push")
    check_has_adapter(run, state)
    if not state.finished:
        warn(f"{spec.id} has not ended: this is its best adapter so far.")
    found = current_export(workspace, spec.id, kind)
    if found is None:
        _write_export(spec.id, kind)
        found = current_export(workspace, spec.id, kind)
    if found is None:
        raise InvalidInput(
            f"{spec.id} has no export of its best adapter as {kind}.",
            "`farense export --help` shows how to write one.",
        )
    note(f"From {found.path}")
    return workspace, found


def _write_export(job: str, kind: str) -> None:
    from jobs.push.exports import options_of  # noqa: PLC0415 - as above

    note(f"{job} has no export of its best adapter as {kind}: writing it ...")
    done = subprocess.run(
        [*EXPORT, job, *options_of(kind)], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        # It has said why.
        raise click.exceptions.Exit(done.returncode)


def _remark(prepared: Prepared) -> None:
    for name in prepared.contents.left:
        note(f"{name} stays here: it is no part of an export.")
    if prepared.base_model is None:
        note("The card names no base model of the hub: --base-model says which it is.")


def _show(prepared: Prepared, *, public: bool, as_json: bool) -> None:
    if as_json:
        print_json({**_described(prepared), "private": not public})
        return
    files = prepared.contents.files
    seen = "public" if public else "private"
    total = f"{counted(len(files), 'file')}, {size(prepared.contents.size)}"
    click.echo(f"{prepared.repository} ({seen}): {total}")
    width = max(len(file.name) for file in files)
    for file in files:
        click.echo(f"  {file.name:<{width}}  {file.size:>13,} bytes")
    note("Nothing was sent.")


def _described(prepared: Prepared) -> dict[str, Any]:
    return {
        "repository": prepared.repository,
        "kind": prepared.export.kind,
        "folder": str(prepared.export.path),
        "base_model": prepared.base_model,
        "files": [
            {"name": file.name, "bytes": file.size, "sha256": file.sha256}
            for file in prepared.contents.files
        ],
        "left": list(prepared.contents.left),
    }
