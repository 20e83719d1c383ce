"""Sending a message now, so that a person sees whether an address is right."""

from __future__ import annotations

from daemon.host import host_name
from daemon.night.settings import NightSettings
from daemon.notify.addresses import all_addresses, named_address, notify_folder
from daemon.notify.delivery import Delivered, Delivery, to_address, to_command
from daemon.notify.matters import Notice
from daemon.notify.sender import ON_EVENT
from jobs.errors import FarenseError
from jobs.paths import Workspace


def try_out(workspace: Workspace, name: str | None = None) -> list[tuple[str, Delivered]]:
    """Send a message to one address, or to all and to the command of ``on_event``.

    Returns:
        What became of it, by the name of each.

    Raises:
        InvalidInput: there is no address of that name.
        ConfigError: a setting is not allowed.
        FarenseError: no process could be started for it.
    """
    host = host_name()
    body = "This is how you will be told when something matters."
    message = Notice("test", f"A test from farense on {host}", body, ())
    on_event = NightSettings.of(workspace).on_event
    questions = {}
    if name != ON_EVENT or on_event is None:
        addresses = [named_address(workspace, name)] if name else all_addresses(workspace)
        questions = {address.name: to_address(address.url, message) for address in addresses}
    if on_event is not None and name in (None, ON_EVENT):
        notify_folder(workspace)  # where its output goes
        questions[ON_EVENT] = to_command(on_event, message, workspace)
    try:
        couriers = [(target, Delivery.start(question)) for target, question in questions.items()]
    except OSError as error:
        raise FarenseError(f"No message could be sent: {error.strerror}.") from error
    return [(target, courier.delivered()) for target, courier in couriers]
