"""``farense ui``: the page to watch, in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.output import note, warn
from jobs.errors import InvalidInput
from jobs.paths import Workspace

if TYPE_CHECKING:
    from daemon.page.address import PageAddress
    from daemon.page.secret import Secret

PORT = click.IntRange(1, 65535)
SHARED = (
    "This page is served to the network. Whoever has the link sees this workspace's jobs, data and "
    "answers, and can change the queue; it is sent unencrypted, for all in the network to read. "
    "Only in a network that you trust, and never through a router to the internet."
)


@click.command(short_help="Serve a page to watch and steer the queue.")
@click.option("--port", type=PORT, help="Its port (default: the first free one from 8417).")
@click.option(
    "--host",
    default="127.0.0.1",
    metavar="ADDRESS",
    help="0.0.0.0: for other machines of a network that you trust, too (default: this one alone).",
)
@click.option("--open", "opening", is_flag=True, help="Open it in the browser.")
@click.option("--link", "only_link", is_flag=True, help="Print the link of the page that runs.")
@click.option("--new-token", is_flag=True, help="Make a new token; older links no longer work.")
def ui(port: int | None, host: str, opening: bool, only_link: bool, new_token: bool) -> None:
    """Serve a local page: the queue, live curves, logs, answers, sweeps, machines; enqueue, change.

    It prints a link with a token, which your browser then remembers; without it nothing is shown.
    Ctrl-C ends the page, and no job: it reads as the other commands do and holds nothing itself.
    `farense daemon --ui` serves it for as long as the daemon runs.

    With --host 0.0.0.0 a phone in the same network can open it. What is sent is not encrypted.

    \b
    Example: farense ui
    """
    from daemon.page.address import known_address  # noqa: PLC0415 - a Tab would wait for it
    from daemon.page.secret import Secret  # noqa: PLC0415 - for the same reason

    workspace = Workspace.current()
    address = known_address(workspace)
    if only_link and address is None:
        raise InvalidInput("No page is served in this workspace.", "Serve it: farense ui")
    secret = Secret.of(workspace, anew=new_token)
    if address is not None and (only_link or new_token):
        _tell(address, secret)  # of the page that runs, which goes by the new token at once
        return

    from daemon.page.server import serve  # noqa: PLC0415 - loads Starlette and uvicorn

    def ready(address: PageAddress) -> None:
        _tell(address, secret)
        note("Ctrl-C ends the page; jobs go on.")
        if opening:
            click.launch(address.links(secret)[0])

    serve(workspace, host, port, ready=ready)


def _tell(address: PageAddress, secret: Secret) -> None:
    for link in address.links(secret):
        click.echo(link)
    if address.shared:
        warn(SHARED)
