"""The ``farense`` command: which commands there are, and what becomes of an error.

A command's module is imported when that command runs, so ``farense --help`` loads Click and nothing
else.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from cli.reader_gone import READER_GONE, let_go_of_output
from cli.suggestions import with_suggestion
from jobs.errors import ExitCode, FarenseError, command_code
from jobs.storage.values import printable

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

INTERRUPTED = 130
NEWLINE = "\n"

# name -> (where in cli.commands it is, its short help), in the order a person meets them. A test
# holds the short helps equal to the commands' own.
COMMANDS = {
    "quickstart": ("quickstart:quickstart", "Train a small model now, from nothing."),
    "enqueue": ("enqueue:enqueue", "Queue a training job."),
    "evaluate": ("evaluate:evaluate", "Score the answers of a job's best adapter."),
    "compare": ("compare:compare", "Compare two runs, and say which to use."),
    "report": ("report:report", "Make a page about runs, with plots."),
    "export": ("export:export", "Write a job's adapter where other programs load it."),
    "push": ("handing_on.push:push", "Send a job's adapter to the Hugging Face hub."),
    "track": (
        "handing_on.track:track",
        "Send a job's curves to TensorBoard, trackio, wandb or MLflow.",
    ),
    "ask": ("ask:ask", "Ask a job's best adapter a question."),
    "sweep": ("sweep:sweep", "Try many settings overnight, and keep the best."),
    "status": ("status:status", "Show the jobs, or one of them."),
    "morning": ("night.morning:morning", "Show what became of the jobs overnight."),
    "queue": ("queue:queue", "Show what waits, and change its order."),
    "watch": ("watch:watch", "Watch a job live until it ends."),
    "logs": ("logs:logs", "Print what a job has said so far."),
    "ui": ("night.ui:ui", "Serve a page to watch and steer the queue."),
    "cancel": ("job_actions:cancel", "Cancel jobs."),
    "pause": ("job_actions:pause", "Pause jobs until they are resumed."),
    "resume": ("job_actions:resume", "Let paused jobs go on."),
    "start": ("job_actions:start", "Start waiting jobs now, not at their time."),
    "retry": ("job_actions:retry", "Queue jobs that have ended once more."),
    "daemon": ("daemon:daemon", "Run the daemon that works through the queue."),
    "notify": ("night.notify:notify", "Choose who is told when something matters."),
    "workers": ("daemon:workers", "Show the daemons that share the queue."),
    "model": ("model:model", "Get and list base models."),
    "data": ("data:data", "Import and check training data."),
    "prune": ("prune:prune", "Remove jobs that have ended."),
    "cache": ("cache:cache", "List and clear what jobs keep to be faster."),
    "config": ("config:config", "Show and compare configurations."),
    "mcp": ("night.agents:mcp", "Let an agent look at jobs, and queue some."),
    "doctor": ("doctor:doctor", "Check everything a preset needs to be trained."),
}


class FarenseGroup(click.Group):
    """The commands in ``COMMANDS``, each loaded when it runs, behind one error boundary."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; None where there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(f"cli.commands.{module}"), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{name} is not a command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that ``args`` name."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            raise click.exceptions.NoSuchCommand(name, ctx=ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Complete the commands from the table, importing none."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only a shell needs it

        names = [
            CompletionItem(name, help=text)
            for name, (_, text) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Read the options before the command; a mistyped one suggests the nearest."""
        with quiet_without_reader():
            try:
                return super().make_context(info_name, args, parent, **extra)
            except click.UsageError as error:
                raise with_suggestion(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whatever goes wrong leaves as one message and an exit code."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise with_suggestion(error) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except Exception as error:
            if isinstance(error, BrokenPipeError) and let_go_of_output():
                ctx.exit(READER_GONE)
            if ctx.params.get("debug"):
                import traceback  # noqa: PLC0415 - only this needs it

                traceback.print_exc()
            ctx.exit(report(error))


@contextmanager
def quiet_without_reader() -> Iterator[None]:
    """End the program, without a word, where what it prints has no reader any more."""
    try:
        yield
    except BrokenPipeError:
        if not let_go_of_output():
            raise
        sys.exit(READER_GONE)


def report(error: Exception) -> int:
    """Say on stderr what went wrong and what to do about it; return the exit code."""
    if isinstance(error, FarenseError):
        message, hint, code = error.message, error.hint, int(command_code(error))
    elif isinstance(error, OSError) and error.filename:
        message, hint, code = f"{error.filename}: {error.strerror}.", None, ExitCode.FAILED
    else:
        message = f"internal error: {type(error).__name__}: {' '.join(str(error).split())}"
        hint = "This is a fault in farense; `farense --debug ...` shows where."
        code = ExitCode.FAILED
    click.echo(f"Error: {printable(message, keep=NEWLINE)}", err=True)
    if hint:
        click.echo(f"Hint: {printable(hint, keep=NEWLINE)}", err=True)
    return code


@click.group(
    cls=FarenseGroup,
    name="farense",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="farense", prog_name="farense")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def farense(debug: bool) -> None:
    """Queue QLoRA fine-tuning jobs, and read honest numbers in the morning.

    \b
    Try it on a small model:    farense quickstart
    Queue the V2 preset:        farense enqueue v2
    Work through the queue:     farense daemon
    See how it goes:            farense status
    """


def main() -> None:
    """Run the command line; the console script."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show an emoji or an accent gets a `?`, not an error.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        farense.main(prog_name="farense")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
