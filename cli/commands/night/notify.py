"""``farense notify``: the addresses to which messages go."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from cli.options import json_option
from cli.output import note, print_json
from cli.show.table import table
from jobs.errors import ExitCode, InvalidInput
from jobs.paths import Workspace
from jobs.storage.values import printable

if TYPE_CHECKING:
    from daemon.notify.addresses import Address
    from daemon.notify.delivery import Delivered
    from daemon.notify.kinds import NoticeKind

STDIN = "-"
HEADINGS = ("NAME", "ADDRESS", "ON", "WAITING", "FROM")


class NotifyGroup(click.Group):
    """The commands of ``farense notify``; an address in their place is not repeated."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that ``args`` name."""
        if "://" in args[0]:
            raise click.UsageError("To add an address, put `add` before it: farense notify add")
        return super().resolve_command(ctx, args)


def _names(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Complete the names of addresses."""
    from daemon.notify.addresses import all_addresses  # noqa: PLC0415 - only a shell needs it
    from jobs.errors import FarenseError  # noqa: PLC0415 - likewise

    try:
        found = all_addresses(Workspace.current())
    except FarenseError:
        return []
    return [
        CompletionItem(address.name, help=address.shown)
        for address in found
        if address.name.startswith(incomplete)
    ]


@click.group(cls=NotifyGroup, short_help="Choose who is told when something matters.")
def notify() -> None:
    """Choose who is told when a job fails, the queue is empty, or the daemon is gone.

    An address is a URL of the library apprise: ntfy, Telegram, Slack, Discord, mail, Pushover,
    macOS notifications, webhooks and a hundred more (https://appriseit.com/services/). Addresses
    in FARENSE_NOTIFY, several separated by spaces, count too. Nothing secret of one is ever shown.

    \b
    Examples:
      farense notify add ntfy://my-mac-trains-9f2c
      farense notify test
    """


@notify.command(short_help="Add an address.")
@click.argument("address", nargs=-1, required=True)
@click.option(
    "--on",
    "kinds",
    metavar="KIND,...",
    help="What is sent there: failed, finished, early_stopped, best, sweep, queue_empty, held, "
    "daemon_gone, morning, or all (default: all but best and morning).",
)
@click.option("--name", help="What it is called here (default: the name of the service).")
@json_option
def add(address: tuple[str, ...], kinds: str | None, name: str | None, as_json: bool) -> None:
    """Add an address, or change what is sent to one that is there.

    A running daemon sends there from now on. `-` reads the address from standard input: then it
    does not stand in the history of the shell.

    \b
    Examples:
      farense notify add ntfy://my-mac-trains-9f2c --on failed,queue_empty
      farense notify add - --name phone < address.txt
    """
    from daemon.notify.addresses import add_address  # noqa: PLC0415 - a Tab would wait for it
    from daemon.notify.delivery import service_of  # noqa: PLC0415 - likewise
    from daemon.notify.kinds import DEFAULT, kinds_in  # noqa: PLC0415 - likewise

    chosen = kinds_in(kinds) if kinds is not None else DEFAULT
    urls = _given(address)
    if name is not None and len(urls) > 1:
        raise click.UsageError("--name goes with one address.")
    services = [service_of(url) for url in urls]  # all of them, before any is added
    workspace = Workspace.current()
    added = [
        add_address(workspace, url, chosen, name, service)
        for url, service in zip(urls, services, strict=True)
    ]
    if as_json:
        print_json([_as_dict(address, workspace) for address in added])
        return
    for one in added:
        click.echo(f"Added {one.name}: {one.shown}, {_on(one.kinds)}")
    note(f"To try it: farense notify test {added[-1].name}")
    if STDIN not in address:
        note("The history of the shell has the address now; `farense notify add -` leaves none.")


@notify.command("list", short_help="Show the addresses.")
@json_option
def list_addresses(as_json: bool) -> None:
    """Show the addresses, what is sent there, and how many matters wait to be sent.

    Those of FARENSE_NOTIFY are of this shell: a daemon has them from where it was started.

    \b
    Example: farense notify list --json
    """
    from daemon.notify.addresses import all_addresses  # noqa: PLC0415 - a Tab would wait for it

    workspace = Workspace.current()
    entries = [_as_dict(address, workspace) for address in all_addresses(workspace)]
    if as_json:
        print_json(entries)
        return
    if not entries:
        note("Nobody is told of anything. To be told: farense notify add -")
        return
    rows = [HEADINGS, *(_row(entry) for entry in entries)]
    for line in table(rows):
        click.echo(line)


@notify.command(short_help="Send a message to try an address.")
@click.argument("name", required=False, shell_complete=_names)
@json_option
@click.pass_context
def test(ctx: click.Context, name: str | None, as_json: bool) -> None:
    """Send a message now, to one address or to all, and to the command of `on_event`.

    Exit code 1: one of them did not take it.

    \b
    Example: farense notify test
    """
    from daemon.notify.try_out import try_out  # noqa: PLC0415 - a Tab would wait for it

    found = try_out(Workspace.current(), name)
    if as_json:
        print_json(
            [{"name": target, "sent": got.ok, "why": got.why or None} for target, got in found]
        )
    else:
        for target, got in found:
            click.echo(f"{target}: {_result(got)}")
    if not found:
        note("There is no address to try. To add one: farense notify add -")
    if not all(got.ok for _, got in found):
        ctx.exit(ExitCode.FAILED)


@notify.command(short_help="Remove an address.")
@click.argument("name", shell_complete=_names)
@json_option
def remove(name: str, as_json: bool) -> None:
    """Remove an address by its name; what waits to be sent there is dropped.

    \b
    Example: farense notify remove ntfy
    """
    from daemon.notify.addresses import remove_address  # noqa: PLC0415 - a Tab would wait for it

    workspace = Workspace.current()
    removed = remove_address(workspace, name)
    if as_json:
        print_json(_as_dict(removed, workspace))
    else:
        click.echo(f"Removed {removed.name}: {removed.shown}")


def _given(arguments: tuple[str, ...]) -> list[str]:
    """Return the addresses that were typed, and those on standard input where `-` asks for it."""
    found: list[str] = []
    for argument in arguments:
        found += sys.stdin.read().split() if argument == STDIN else [argument]
    if not found:
        raise InvalidInput(
            "There is no address on standard input.", "Put one on a line of its own."
        )
    return list(dict.fromkeys(found))


def _as_dict(address: Address, workspace: Workspace) -> dict[str, Any]:
    from daemon.notify.outbox import waiting_for  # noqa: PLC0415 - a Tab would wait for it
    from daemon.notify.paths import NotifyFolder  # noqa: PLC0415 - likewise

    return {
        "name": address.name,
        "address": address.shown,
        "on": list(map(str, address.kinds)),
        "waiting": waiting_for(NotifyFolder.of(workspace).outbox, address.key),
        "from": "added" if address.added else "FARENSE_NOTIFY",
    }


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    from daemon.notify.kinds import NoticeKind, shown_kinds  # noqa: PLC0415 - a Tab would wait for it

    on = shown_kinds(map(NoticeKind, entry["on"]))
    return tuple(
        map(printable, (entry["name"], entry["address"], on, str(entry["waiting"]), entry["from"]))
    )


def _on(kinds: tuple[NoticeKind, ...]) -> str:
    from daemon.notify.kinds import shown_kinds  # noqa: PLC0415 - a Tab would wait for it

    return f"told of {shown_kinds(kinds)}"


def _result(got: Delivered) -> str:
    return "sent" if got.ok else f"not sent: {got.why}"
