"""``farense compare``: two runs side by side, and which of them to use."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from cli.completion import jobs_in
from cli.options import json_option, preset_from
from cli.output import print_json, terminal_width, wants_colour
from cli.past import past_run
from cli.reading import reading
from jobs.config.config_file import flatten
from jobs.errors import ConfigError
from jobs.storage.files import sha256_of

if TYPE_CHECKING:
    from jobs.compare.comparison import Comparison
    from jobs.past_run import PastRun
    from jobs.paths import Workspace


@click.command(short_help="Compare two runs, and say which to use.")
@click.argument("a", metavar="A", shell_complete=jobs_in())
@click.argument("b", metavar="B", shell_complete=jobs_in())
@json_option
def compare(a: str, b: str, as_json: bool) -> None:
    """Show how run B differs from run A, and say which of them to use.

    A and B are job ids, unique parts of ids, `latest`, or folders of older runs with a
    training_metrics.json. Both must have been validated on the same data. Starts nothing: without
    Redis the files of the workspace answer.

    \b
    The decision, whose reasons are printed with it:
    - Both were evaluated, on 6 questions or more: B is better where the 95%
      interval of the difference in token F1 (paired bootstrap) lies above 0,
      worse where it lies below, else similar.
    - Otherwise the best validation losses decide; within 0.01 nats per token
      they are similar. Of runs with another model, prompt_format, mask_prompt
      or max_seq_length losses do not compare: without answers, no decision.
    - Better: use B. Worse: keep A. Similar: use B if its gap at the best step
      is smaller by more than 0.01 (below 0 counts as 0) and its validation
      loss not higher by more than 0.01, else keep A.

    Where B is not to be used, or lacks what a decision needs, settings to change follow. The exit
    code is 0 whatever the decision.

    \b
    Example: farense compare v1 latest
             farense compare checkpoints_qlora_v1_backup/ latest
    """
    from cli.show.comparison_lines import comparison_lines  # noqa: PLC0415 - loads what compares
    from jobs.compare.comparison import compare as compared  # noqa: PLC0415 - loads what compares

    with reading() as reader:
        first, second = past_run(a, reader), past_run(b, reader)
        workspace = reader.workspace
    found = compared(first, second)
    command = train_again(second, found, workspace)
    if as_json:
        print_json({**asdict(found), "train_again": command})
        return
    click.echo("\n".join(comparison_lines(found, command, terminal_width(), wants_colour())))


def train_again(run: PastRun, found: Comparison, workspace: Workspace) -> str | None:
    """Return the command that trains B with the changes of the advice; None where there are none.

    It sets what B's settings have that its preset, as it is today, has not.
    """
    from cli.show.differences import set_text  # noqa: PLC0415 - loads YAML
    from jobs.config.differences import differences  # noqa: PLC0415 - loads YAML

    changes = {row.setting: row.to for finding in found.advice for row in finding.changes}
    if run.spec is None or not changes:
        return None
    preset = None
    # A config file that lies elsewhere, or is gone: what it was made from does as well.
    for name in (run.spec.preset, *run.spec.made_from):
        with suppress(ConfigError):
            preset = preset_from(name)
            break
    if preset is None:
        return None
    wanted = flatten(found.b.config) | changes
    there = flatten(preset.config.model_dump(mode="json"))
    there |= {key: wanted[key] for key in _same_data(run, there, workspace) if key not in changes}
    sets = [f"--set {row.setting}={set_text(row.b)}" for row in differences(there, wanted)]
    return " ".join([shlex.join(["farense", "enqueue", name]), *sets])


def _same_data(run: PastRun, preset: dict[str, Any], workspace: Workspace) -> list[str]:
    """Return the settings by which the preset names the very data that the run had."""
    spec, same = run.spec, []
    for key, file in (("data.train", spec and spec.train), ("data.valid", spec and spec.valid)):
        try:
            if file and preset[key] and sha256_of(workspace.root / preset[key]) == file.sha256:
                same.append(key)
        except OSError:
            continue
    return same
