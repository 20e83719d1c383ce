"""`farense sweep FILE`: a group whose first word may be a file."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from cli.completion import sweep_files
from cli.sweep_files import named_file

FILES = (".yaml", ".yml")


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
