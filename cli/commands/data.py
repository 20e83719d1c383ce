"""``farense data``: getting data into our form; and are they fit to be trained on?"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options import json_option
from cli.output import note, print_json, warn
from cli.show.data_report import report_lines
from cli.show.import_report import import_lines, next_lines, plain_example
from daemon.runs.private_folder import temporary_folder
from jobs.config.share import percent, share_of
from jobs.data.tokenizer import TemplateSettings
from jobs.errors import ExitCode, FarenseError, InvalidInput
from jobs.model_store.folder import check_model
from jobs.model_store.listing import list_models
from jobs.model_store.place import model_folder
from jobs.paths import Workspace
from jobs.storage.values import printable

if TYPE_CHECKING:
    from jobs.data.prompts import PromptFormat
    from jobs.data.tokenizer import TemplateSettings, Thinking, Tokenizer
    from jobs.paths import Workspace

# What a data set of the hub is called here.
HUB = "hf:"
# Tokens of an example that are shown after an import.
LONGEST = 2048


@click.group(short_help="Import and check training data.")
def data() -> None:
    """Import training data that others wrote in their forms, and check data.

    \b
    Examples:
      farense data import perguntas.csv --valid 10%
      farense data check data/train.jsonl --valid data/valid.jsonl
    """


@data.command(name="import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where train.jsonl is written. [default: data/ and the name of the first file]",
)
@click.option(
    "--valid",
    metavar="SHARE",
    help="Write valid.jsonl, too: 10%, or a number of examples. The same question stays on one "
    "side, and each metadata.tipo keeps its share.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=42,
    show_default=True,
    help="Of the choice of examples for validation.",
)
@click.option(
    "--map",
    "columns",
    metavar="KEY=COLUMN",
    multiple=True,
    help="Name a column: prompt=, completion=, system=, messages= or text=; may be repeated.",
)
@click.option("--config", metavar="NAME", help="Which part of a data set of the hub.")
@click.option("--model", "name", metavar="NAME", help="Model that reads the examples shown.")
@click.option("--force", is_flag=True, help="Replace files that are there already.")
@json_option
def import_(
    files: tuple[str, ...],
    to: Path | None,
    valid: str | None,
    seed: int,
    columns: tuple[str, ...],
    config: str | None,
    name: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write FILEs of other forms as JSON Lines that can be trained on.

    FILE is JSON Lines, a JSON array, CSV, TSV or Parquet (the first four also packed by gzip), or
    hf:OWNER/NAME or hf:OWNER/NAME:SPLIT on the Hugging Face hub. Its rows may be ours, chat
    messages (also with tools), ShareGPT, Alpaca, or columns of questions and answers: which form
    was taken, and why, is said. What cannot be used is left out, and told by its line.

    \b
    Examples:
      farense data import perguntas.csv --valid 10%
      farense data import chat.parquet --to data/chat --map prompt=Q --map completion=A
      farense data import hf:OWNER/NAME:train
    """
    from jobs.importing.importing import columns_of, import_files  # noqa: PLC0415 - loads NumPy

    try:
        share = share_of(valid) if valid is not None else None
    except ValueError as error:
        raise click.UsageError(f"--valid: {error}.") from error
    workspace, here = Workspace.current(), Path.cwd()
    mapped = columns_of(columns)
    if to == Path():
        raise click.UsageError("--to needs the name of a folder: --to data/mine")
    folder = here / to if to is not None else workspace.data / _name_of(files[0])
    _check_target(folder, workspace)
    with _local(files, config, workspace) as (paths, names):
        done = import_files(
            paths, folder, columns=mapped, share=share, seed=seed, force=force, names=names
        )
    shown, read_by = _examples(done.train, workspace, name)
    if as_json:
        print_json({**done.as_dict(), "examples": shown, "model": read_by})
        return
    for line in import_lines(done):
        click.echo(line)
    by = f", as {read_by} reads it," if read_by else ""
    click.echo(printable(f"\nWhat is learned{by} stands between >> and <<:"))
    for line in shown:
        click.echo(printable(line))
    if read_by is None:
        click.echo("No model of models/ has read them: these are texts, not tokens.")
    click.echo()
    for line in next_lines(done, workspace.root, here, read_by):
        click.echo(printable(line))
    stale = folder / "valid.jsonl"
    if done.valid is None and stale.exists():
        warn(f"{stale} is of an earlier import: its questions may be trained on now.")


def _name_of(file: str) -> str:
    """Return the name of the folder into which a file is imported, unless one is given."""
    if file.startswith(HUB):
        return file.removeprefix(HUB).partition(":")[0].rpartition("/")[2] or "hub"
    return Path(Path(file).name.removesuffix(".gz")).stem or "data"


def _check_target(folder: Path, workspace: Workspace) -> None:
    """Refuse a folder that is none, or that holds the data of jobs."""
    if folder.suffix in (".jsonl", ".json") or folder.is_file():
        raise InvalidInput(
            f"--to names a folder, in which train.jsonl is written: {folder} is a file.",
            f"Type --to {shlex.quote(str(folder.with_suffix('')))}",
        )
    if folder.resolve().is_relative_to(workspace.imported.resolve()):
        raise InvalidInput(
            f"{folder} is where jobs keep their data.", "Name another folder: --to data/mine"
        )


@contextmanager
def _local(
    files: Sequence[str], config: str | None, workspace: Workspace
) -> Iterator[tuple[list[Path], dict[Path, str]]]:
    """Yield the files to read and what to call them; those of the hub stay only so long."""
    paths: list[Path] = []
    names: dict[Path, str] = {}
    if config is not None and not any(file.startswith(HUB) for file in files):
        raise click.UsageError("--config is of data sets of the hub: hf:owner/name.")
    with ExitStack() as stack:
        for file in files:
            if not file.startswith(HUB):
                paths.append(Path(file))
                continue
            from jobs.importing.hub_data import fetched  # noqa: PLC0415 - loads huggingface_hub

            found = stack.enter_context(
                fetched(file.removeprefix(HUB), config, temporary_folder(workspace), report=note)
            )
            paths += found
            names |= found
        yield paths, names


def _examples(path: Path, workspace: Workspace, name: str | None) -> tuple[list[str], str | None]:
    """Return the first examples as lines, and the model that read them."""
    from jobs.data.examples import Problem, scan_examples  # noqa: PLC0415 - as `check`
    from jobs.data.marked import marked_examples, shown  # noqa: PLC0415 - as `check`

    rows = [row for _, row in islice(scan_examples(path), 2) if not isinstance(row, Problem)]
    folder = _model_folder(workspace, name)
    if folder is not None:
        try:
            tokenizer = _tokenizer(folder, TemplateSettings())
            style: PromptFormat = "chat" if tokenizer.has_chat_template else "farense"
            wanted = [row.origin.line for row in rows if row.origin]
            marked = marked_examples(
                path, tokenizer, style, wanted, everything=False, max_seq_length=LONGEST
            )
            return [line for it in marked for line in shown(it)], folder.name
        except FarenseError as error:
            if name is not None:
                raise
            warn(f"{folder.name} cannot read them: {error.message}")
    return [line for row in rows for line in plain_example(row)], None


@data.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--valid",
    metavar="FILE|SHARE",
    help="The validation file beside it; or a share of the first, chosen as by data.valid: 10%.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=42, show_default=True, help="Of such a share."
)
@click.option(
    "--model",
    "name",
    metavar="NAME",
    help="Model whose tokenizer counts. [default: first in models/]",
)
@click.option(
    "--format",
    "prompt_format",
    type=click.Choice(["farense", "chat"]),
    default="farense",
    show_default=True,
    help="The prompt format that the job will use.",
)
@click.option(
    "--chat-template", metavar="NAME", help="Which chat template, if the model has several."
)
@click.option(
    "--thinking",
    type=click.Choice(["off", "on"]),
    default="off",
    show_default=True,
    help="Whether the chat template asks the model to reason first.",
)
@click.option(
    "--loss-on",
    type=click.Choice(["last_answer", "all_answers", "everything"]),
    default="last_answer",
    show_default=True,
    help="What the job will learn.",
)
@click.option(
    "--line",
    "lines",
    type=click.IntRange(min=1),
    multiple=True,
    help="Show what is learned of this line. [default: the first two; may be repeated]",
)
@click.option(
    "--max-seq-length",
    type=click.IntRange(min=8),
    default=512,
    show_default=True,
    help="Longest example, in tokens.",
)
@json_option
@click.pass_context
def check(
    ctx: click.Context,
    file: Path,
    valid: str | None,
    seed: int,
    name: str | None,
    prompt_format: PromptFormat,
    chat_template: str | None,
    thinking: Thinking,
    loss_on: str,
    lines: tuple[int, ...],
    max_seq_length: int,
    as_json: bool,
) -> None:
    """Report what FILE holds: bad lines, duplicates, leakage, lengths.

    It ends with some examples as the model reads them: what is learned stands between >> and <<.
    Leakage and duplicates are warnings. Bad lines, or no example that fits, end with exit code 2.

    \b
    Example: farense data check data/train.jsonl --valid data/valid.jsonl
    """
    from jobs.data.check import check as check_data  # noqa: PLC0415 - loads NumPy
    from jobs.data.marked import (  # noqa: PLC0415 - as above
        MarkedExample,
        marked_examples,
        shown,
    )

    if prompt_format != "chat" and (chat_template is not None or thinking == "on"):
        raise click.UsageError("--chat-template and --thinking need --format chat.")
    try:
        share = percent(valid or "")
    except ValueError as error:
        raise click.UsageError(f"--valid: {error}.") from error
    settings = TemplateSettings(thinking, chat_template, all_answers=loss_on == "all_answers")
    folder = _model_folder(Workspace.current(), name)
    tokenizer = _tokenizer(folder, settings) if folder else None
    if lines and tokenizer is None:
        raise InvalidInput(
            "--line shows tokens, and there is no model in models/ to make them.",
            "Get one: farense model pull smollm2-135m",
        )
    report = check_data(
        file,
        Path(valid) if valid and not share else None,
        tokenizer,
        prompt_format=prompt_format,
        max_seq_length=max_seq_length,
        share=share,
        seed=seed,
    )

    def marked() -> list[MarkedExample]:
        if tokenizer is None:
            return []
        return marked_examples(
            file,
            tokenizer,
            prompt_format,
            lines,
            everything=loss_on == "everything",
            max_seq_length=max_seq_length,
        )

    if as_json:
        examples = {"examples": [asdict(example) for example in marked()]}
        model = {"model": folder.name if folder else None}
        print_json({**report.as_dict(), **model, **examples})
    else:
        measured_with = (
            f"Tokens are those of the model {folder.name}."
            if folder
            else "There is no model in models/, so lengths are in characters."
        )
        for line in report_lines(report, measured_with):
            click.echo(line)
        for number, example in enumerate(marked()):
            if not number:
                click.echo("\nWhat is learned stands between >> and <<:")
            for line in shown(example):
                click.echo(printable(line))
    if not report.usable:
        ctx.exit(ExitCode.INVALID)


def _model_folder(workspace: Workspace, name: str | None) -> Path | None:
    """Return the folder of the named model, else of the first usable one, else None."""
    if name is not None:
        # A config says models/NAME or an absolute path, a person NAME: all are understood.
        named = name if name[0:1] in ("/", "~") else f"models/{name.removeprefix('models/')}"
        return model_folder(workspace, named)
    usable = (model.path for model in list_models(workspace) if model.problem is None)
    return next(usable, None)


def _tokenizer(folder: Path, settings: TemplateSettings) -> Tokenizer:

    check_model(folder)
    # Importing MLX takes two seconds: not before the folder is known to hold a model.
    from jobs.model.load import load_tokenizer  # noqa: PLC0415 - loads MLX

    return load_tokenizer(folder, settings)
