"""``farense doctor``: is everything there for a night of training?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from cli.commands.quickstart import PRESET as QUICKSTART
from cli.commands.quickstart import sample_data
from cli.completion import presets
from cli.options import json_option, preset_from, set_option
from cli.output import print_json, terminal_width, wants_colour
from jobs.errors import ExitCode
from jobs.paths import Workspace
from jobs.storage.formatting import counted
from jobs.storage.values import printable

if TYPE_CHECKING:
    from daemon.doctor.findings import Finding

WIDTH = 100
NEWLINE = "\n"
COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}
STATUS_WIDTH = max(map(len, COLOURS)) + 2
CHECK_WIDTH = len("workspace") + 2
INDENT = " " * (STATUS_WIDTH + CHECK_WIDTH)


@click.command(short_help="Check everything a preset needs to be trained.")
@click.argument("preset", default="v2", metavar="[PRESET]", shell_complete=presets)
@set_option
@json_option
@click.pass_context
def doctor(ctx: click.Context, preset: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check everything that PRESET (a name or a YAML file; v2 by default) needs to be trained.

    Packages, Metal or CPU, sleep, power and heat, other programs on the GPU, workspace, queue,
    daemon, addresses of messages, model, data, memory and disk. Starts and changes nothing. Ends
    with exit code 1 where something keeps a job from being trained.

    \b
    Example: farense doctor v2 --set batch_size=1
    """
    from daemon.doctor.doctor import examine  # noqa: PLC0415 - loads what it looks at
    from daemon.night.night import Night  # noqa: PLC0415
    from daemon.night.settings import NightSettings  # noqa: PLC0415

    # As the command of that name does it.
    extra = sample_data(Workspace.current()) if preset == QUICKSTART else ()
    loaded = preset_from(preset, (*extra, *overrides))
    night = Night(NightSettings.of(Workspace.current()))  # refused like a preset that is none
    findings = examine(loaded, Workspace.current(), night)
    counts = Counter(str(finding.status) for finding in findings)
    ready = not counts["problem"]
    if as_json:
        rows = [asdict(finding) for finding in findings]
        print_json({"preset": loaded.name, "ready": ready, "findings": rows})
    else:
        width = min(terminal_width() or WIDTH, WIDTH)
        for line in lines(findings, width, colour=wants_colour()):
            click.echo(line)
        click.echo(verdict(loaded.name, counts))
    if not ready:
        ctx.exit(ExitCode.FAILED)


def lines(findings: Sequence[Finding], width: int, *, colour: bool = False) -> Iterator[str]:
    """Yield the findings, each with its status and check in front and what to do below."""
    for finding in findings:
        status = str(finding.status)
        mark = status.ljust(STATUS_WIDTH)
        head = (click.style(mark, fg=COLOURS[status]) if colour else mark) + finding.check.ljust(
            CHECK_WIDTH
        )
        first, *rest = _wrapped(printable(finding.found, keep=NEWLINE), width)
        yield head + first
        yield from (INDENT + line for line in rest)
        if finding.action:  # not wrapped: commands are there to be copied
            yield from (
                f"{INDENT}{line}"
                for line in f"-> {printable(finding.action, keep=NEWLINE)}".splitlines()
            )


def verdict(preset: str, counts: Counter[str]) -> str:
    """Return the last line: whether training can start."""
    warnings = counted(counts["warning"], "warning")
    if counts["problem"]:
        also = f" ({warnings} beside)" if counts["warning"] else ""
        return f"{preset} cannot be trained yet: {counted(counts['problem'], 'problem')}{also}."
    return f"Ready to train {preset}" + (f", with {warnings}." if counts["warning"] else ".")


def _wrapped(text: str, width: int) -> list[str]:
    room = max(20, width - len(INDENT))
    return [
        piece
        for line in text.splitlines()
        for piece in wrap(line, room, break_long_words=False, break_on_hyphens=False) or [""]
    ] or [""]
