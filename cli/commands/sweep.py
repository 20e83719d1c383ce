"""``farense sweep``: try many settings, and keep the best."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from cli.commands.config import foreseen_of
from cli.commands.evaluate import refuse_both
from cli.commands.export import export
from cli.commands.report import sweep_report
from cli.completion import sweep_files
from cli.main import INTERRUPTED
from cli.options import json_option, queue_option, sweep_argument
from cli.output import note, print_json, terminal_width, wants_colour, warn
from cli.show.sweep_live import show_until_end
from cli.show.sweep_view import begun_lines, best_lines, best_values, list_lines, status_lines
from cli.sweep_files import FILES, find_file, named_file
from daemon.settings import Settings, check_queue_name
from daemon.standstill import daemon_runs, held_lines
from daemon.times import parse_at
from jobs.errors import ExitCode, FarenseError, JobFailed
from jobs.paths import REPOSITORY, Workspace
from jobs.state import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.sweep.view import SweepView
    from jobs.sweep.paths import SweepFolder


class SweepGroup(click.Group):
    """A group whose first word may be a sweep file: `farense sweep FILE` runs it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take options before a file for those of ``run``."""
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Complete the commands, and the sweep files that may stand in their place."""
        found = super().shell_complete(ctx, incomplete)
        return found if incomplete.startswith("-") else [*found, *sweep_files(incomplete)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that ``args`` name, ``run`` where they begin with a file."""
        word = args[0]
        if word in self.commands or word.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        if word.endswith(FILES) or "/" in word:
            return "run", self.commands["run"], args
        if (found := named_file(word)) is not None:
            raise click.UsageError(f"No command and no file {word!r}. Try: farense sweep {found}")
        raise click.exceptions.NoSuchCommand(word, ctx=ctx)


@click.group(
    cls=SweepGroup,
    short_help="Try many settings overnight, and keep the best.",
    subcommand_metavar="FILE | COMMAND [ARGS]...",
)
def sweep() -> None:
    """Try many settings overnight, and keep the best.

    `farense sweep FILE` starts what a sweep file says. Each trial is an ordinary training job; a
    daemon starts them one after another, ends those early that will come to nothing, and has the
    best evaluated. Several machines that share a queue work on one sweep.

    How many trials, until when, and --watch: `farense sweep run --help`.

    \b
    Examples:
      farense sweep configs/sweeps/overnight.yaml
      farense sweep status
    """


sweep.add_command(sweep_report)


@sweep.command(short_help="Start what a sweep file says.")
@click.argument(
    "file",
    type=click.Path(path_type=Path),
    shell_complete=lambda ctx, param, incomplete: sweep_files(incomplete),
)
@click.option("--trials", type=click.IntRange(1, 10_000), help="Maximum number of trials.")
@click.option("--until", metavar="TIME", help="When it must be finished: 07:00.")
@click.option("--name", help="A name for it (default: the file's name).")
@queue_option
@click.option("--watch", "watching", is_flag=True, help="Watch it until it ends.")
@json_option
@click.pass_context
def run(
    ctx: click.Context,
    file: Path,
    trials: int | None,
    until: str | None,
    name: str | None,
    queue_name: str | None,
    watching: bool,
    as_json: bool,
) -> None:
    """Start what a sweep file says, and print the sweep's id.

    Everything is checked first: the file, its preset, model and data, and that each value it names
    is allowed. The data are copied: editing them later changes nothing for this sweep. `run` itself
    may be left out.

    \b
    Example: farense sweep run configs/sweeps/overnight.yaml --until 07:00
    """
    from daemon.sweep.start import begin_sweep  # noqa: PLC0415 - loads pydantic

    refuse_both(watching, as_json, "farense sweep status --json")
    workspace = Workspace.current()
    queue = check_queue_name(queue_name) if queue_name else Settings.from_environment().queue
    presets = (workspace.configs, REPOSITORY / "configs")
    begun = begin_sweep(
        find_file(file), workspace, presets, name=name, trials=trials, until=until, queue=queue
    )
    warning = foreseen_of(begun.spec.base, begun.schedule)
    remarks = [*filter(None, [warning]), *begun.remarks]
    if as_json:
        print_json(_view(begun.folder).as_dict() | {"warning": warning, "warnings": remarks})
    else:
        for line in begun_lines(begun):
            click.echo(line)
    for remark in remarks:
        warn(remark)
    if watching:
        ctx.exit(_watch(begun.folder))
    _tell_why_nothing_runs()


@sweep.command(short_help="Show how a sweep stands.")
@sweep_argument
@click.option("--watch", "watching", is_flag=True, help="Keep watching until it ends.")
@json_option
@click.pass_context
def status(ctx: click.Context, name: str, watching: bool, as_json: bool) -> None:
    """Show a sweep's leaderboard, what mattered, and the time left.

    SWEEP is an id, a unique part of one, or `latest`.

    \b
    Example: farense sweep status --watch
    """
    refuse_both(watching, as_json, "farense sweep status --json")
    folder = _folder(name)
    if watching:
        ctx.exit(_watch(folder))
    view = _view(folder)
    if as_json:
        print_json(view.as_dict())
        return
    _print(view)
    if view.state.active:
        _tell_why_nothing_runs()


@sweep.command("list", short_help="Show all sweeps.")
@json_option
def list_sweeps(as_json: bool) -> None:
    """Show all sweeps of this workspace, newest first.

    \b
    Example: farense sweep list
    """
    from daemon.sweep.view import all_sweeps  # noqa: PLC0415 - loads pydantic

    views = all_sweeps(Workspace.current())
    if as_json:
        print_json([view.as_dict() for view in views])
        return
    for line in list_lines(views):
        click.echo(line)
    if not views:
        note("No sweeps yet. Start one: farense sweep configs/sweeps/overnight.yaml")
    if any(view.state.active for view in views):
        _tell_why_nothing_runs()


@sweep.command(short_help="Show the best trial.")
@sweep_argument
@click.option("--export", "exporting", is_flag=True, help="Also export its adapter to output/.")
@json_option
@click.pass_context
def best(ctx: click.Context, name: str, exporting: bool, as_json: bool) -> None:
    """Show the best trial so far: its settings, its job and where its adapter is.

    With --export its adapter goes to output/, as `farense export JOB` writes it.

    \b
    Example: farense sweep best --export
    """
    if exporting and as_json:
        raise click.UsageError(
            "--export and --json cannot be combined: `farense sweep best` names the job; "
            "export that with --json."
        )
    view = _view(_folder(name, lambda folder: _view(folder).best is not None, "has no best trial"))
    if view.best is None:
        if view.ranked:
            raise JobFailed(
                f"No trial of {view.spec.id} has learned: no validation loss is below the one "
                "before training.",
                "Search lower learning rates: space.learning_rate in the sweep file.",
            )
        raise JobFailed(f"No trial of {view.spec.id} has a result yet.")
    if as_json:
        print_json(best_values(view, view.best))
        return
    for line in best_lines(view, view.best):
        click.echo(line)
    if exporting:
        ctx.invoke(export, job=best_values(view, view.best)["job"])


@sweep.command(short_help="Pause a sweep.")
@sweep_argument
@json_option
def stop(name: str, as_json: bool) -> None:
    """Pause a sweep: nothing new is started, and running trials write a checkpoint and wait.

    \b
    Example: farense sweep stop
    """
    from daemon.client import FarenseClient  # noqa: PLC0415 - a Tab would wait for redis
    from daemon.sweep.start import stop_sweep  # noqa: PLC0415 - loads pydantic
    from jobs.sweep.folder import read_sweep_state  # noqa: PLC0415 - loads pydantic

    folder = _folder(name, lambda folder: read_sweep_state(folder).active, "does not run")
    with FarenseClient.connect() as client:
        stop_sweep(folder, client)
    _tell(folder, as_json)


@sweep.command(short_help="Resume a stopped sweep.")
@sweep_argument
@click.option("--until", metavar="TIME", help="When it must be finished now: 07:00.")
@json_option
def resume(name: str, until: str | None, as_json: bool) -> None:
    """Resume a stopped sweep, its trials from their last checkpoints.

    \b
    Example: farense sweep resume --until 07:00
    """
    from daemon.client import FarenseClient  # noqa: PLC0415 - a Tab would wait for redis
    from daemon.sweep.start import resume_sweep  # noqa: PLC0415 - loads pydantic
    from jobs.sweep.folder import read_sweep_state  # noqa: PLC0415 - loads pydantic

    folder = _folder(
        name, lambda folder: read_sweep_state(folder).state is State.PAUSED, "is not paused"
    )
    moment = parse_at(until, datetime.now(UTC)).isoformat(timespec="seconds") if until else None
    with FarenseClient.connect() as client:
        resume_sweep(folder, client, moment)
    _tell(folder, as_json)
    _tell_why_nothing_runs()


def _tell(folder: SweepFolder, as_json: bool) -> None:
    view = _view(folder)
    if as_json:
        print_json(view.as_dict())
    else:
        reason = f": {view.state.reason}" if view.state.reason else ""
        click.echo(f"{view.spec.id} {view.state.state.verb}{reason}")


def _folder(
    name: str, usable: Callable[[SweepFolder], bool] = lambda _: True, lacks: str = ""
) -> SweepFolder:
    """Return the sweep that is meant; say which one where ``latest`` is not the newest.

    Args:
        usable: tells which sweeps will do for ``latest``; one that is damaged will not.
        lacks: what is said of one that will not: ``is not paused``.
    """
    from jobs.sweep.folder import find_sweep  # noqa: PLC0415 - loads pydantic

    def will_do(folder: SweepFolder) -> bool:
        try:
            return usable(folder)
        except FarenseError:
            return False

    workspace = Workspace.current()
    found, newest = find_sweep(workspace, name, will_do), find_sweep(workspace)
    if name == "latest" and found.id != newest.id:
        note(f"`latest` is {found.id} here: {newest.id} is newer, but {lacks}.")
    return found


def _view(folder: SweepFolder) -> SweepView:
    from daemon.sweep.view import view_sweep  # noqa: PLC0415 - loads pydantic

    return view_sweep(folder)


def _print(view: SweepView) -> None:

    for line in status_lines(view, terminal_width(), wants_colour()):
        click.echo(line)


def _watch(folder: SweepFolder) -> int:
    """Show a sweep until it ends, or until Ctrl-C; return the exit code that tells how."""
    try:
        view = show_until_end(folder, _why_nothing_runs)
    except KeyboardInterrupt:
        note(f"Stopped watching; {folder.id} goes on. Watch again: farense sweep status --watch")
        return INTERRUPTED
    _print(view)
    return ExitCode.OK if view.state.state is State.COMPLETED else ExitCode.FAILED


def _tell_why_nothing_runs() -> None:
    for line in _why_nothing_runs():
        note(line)


def _why_nothing_runs() -> list[str]:
    """Return what keeps the sweeps of this workspace from going on; nothing where they do."""
    from daemon.reader import open_reader  # noqa: PLC0415 - a Tab would wait for redis

    if not daemon_runs(Workspace.current()):
        return ["No daemon of this workspace runs, which coordinates it. Start one: farense daemon"]
    reader, _ = open_reader()
    with reader:
        return held_lines(reader, reader.jobs())
