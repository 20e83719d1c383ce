"""Options and arguments that several commands share, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import completion
from jobs.state import HIGHEST_PRIORITY, LOWEST_PRIORITY

if TYPE_CHECKING:
    from jobs.config.config import Preset

PRIORITY = click.IntRange(LOWEST_PRIORITY, HIGHEST_PRIORITY)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    shell_complete=completion.settings,
    help="Change a setting of the preset; may be repeated. Keys are dotted: lora.rank=4",
)

queue_option = click.option(
    "--queue", "queue_name", metavar="NAME", help="Which queue (default: FARENSE_QUEUE, else one)."
)

output_option = click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="Where to write."
)
open_option = click.option("--open", "opening", is_flag=True, help="Open it in the browser.")

job_argument = click.argument("job", metavar="JOB", shell_complete=completion.jobs_in())
optional_job_argument = click.argument(
    "job", metavar="[JOB]", required=False, shell_complete=completion.jobs_in()
)
preset_argument = click.argument("preset", shell_complete=completion.presets)
sweep_argument = click.argument(
    "name", metavar="[SWEEP]", default="latest", shell_complete=completion.sweeps
)


def preset_from(name: str, overrides: tuple[str, ...] = ()) -> Preset:
    """Return a preset of the workspace, else of the repository, or a config file.

    Raises:
        ConfigError: there is none, or it is not valid.
    """
    from jobs.config.config import find_preset  # noqa: PLC0415 - loads pydantic
    from jobs.paths import Workspace  # noqa: PLC0415 - for the same reason

    return find_preset(name, Workspace.current(), overrides)
