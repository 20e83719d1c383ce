"""``farense data``: is this data fit to be trained on?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options import json_option
from cli.output import print_json
from cli.show.data_report import report_lines
from jobs.data.tokenizer import TemplateSettings
from jobs.errors import ExitCode, InvalidInput
from jobs.model_store.folder import check_model
from jobs.model_store.listing import list_models
from jobs.model_store.place import model_folder
from jobs.paths import Workspace
from jobs.storage.values import printable

if TYPE_CHECKING:
    from jobs.data.prompts import PromptFormat
    from jobs.data.tokenizer import TemplateSettings, Thinking, Tokenizer
    from jobs.paths import Workspace


@click.group(short_help="Check training data.")
def data() -> None:
    """Check training data.

    \b
    Example: farense data check data/train.jsonl --valid data/valid.jsonl
    """


@data.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--valid", type=click.Path(path_type=Path), help="The validation file beside it.")
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
    valid: Path | None,
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
        valid,
        tokenizer,
        prompt_format=prompt_format,
        max_seq_length=max_seq_length,
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
