"""Where a sweep file is that somebody names, and what to say where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from cli.completion import sweep_files

FILES = (".yaml", ".yml")

FOLDER = Path("configs", "sweeps")


def find_file(file: Path) -> Path:
    """Return the sweep file that is named as from here, from the workspace or the repository.

    Raises:
        ConfigError: there is none; the nearest is suggested.
    """
    from jobs.errors import ConfigError
    from jobs.suggest import nearest

    for path in (file, *(root / file for root in _roots())):
        if path.is_file():
            return path
    known = {path.stem: path for path in known_files()}
    meant = [file.stem] if file.stem in known else nearest(file.stem, known)
    near = [str(known[stem]) for stem in meant]
    hint = f"Did you mean {' or '.join(near)}?" if near else None
    if hint is None and known:
        hint = f"There are: {', '.join(str(path) for path in known.values())}"
    raise ConfigError(f"There is no sweep file {file}.", hint)


def named_file(word: str) -> Path | None:
    """Return the sweep file that somebody may mean who names it as a preset is named."""
    here = Path(f"{word}.yaml")
    if here.is_file():
        return here
    return next((path for path in known_files() if path.stem == word), None)


def known_files() -> Iterator[Path]:
    """Yield the sweep files there are, named as a person would name them."""
    for root in _roots():
        yield from (path.relative_to(root) for path in sorted((root / FOLDER).glob("*.yaml")))


def _roots() -> tuple[Path, Path]:
    from jobs.paths import REPOSITORY, Workspace

    return Workspace.current().root, REPOSITORY


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
