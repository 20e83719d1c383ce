"""What is suggested for a command or an option that there is not."""

from __future__ import annotations

import click

from jobs.suggest import did_you_mean


def with_suggestion(error: click.ClickException) -> click.ClickException:
    """Return an error of Click's with our suggestion in place of its own; any other as it is."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    if ctx is None:
        return error
    if isinstance(error, click.exceptions.NoSuchCommand) and isinstance(ctx.command, click.Group):
        typed, known = error.command_name, ctx.command.list_commands(ctx)
    elif isinstance(error, click.exceptions.NoSuchOption):
        options = [p for p in ctx.command.get_params(ctx) if isinstance(p, click.Option)]
        typed = error.option_name
        known = [name for option in options for name in (*option.opts, *option.secondary_opts)]
    else:
        return error
    return click.UsageError(f"{error.message} {did_you_mean(typed, known)}".rstrip(), ctx)
