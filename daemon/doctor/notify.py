"""Whether somebody is told when something matters, and whether that can work."""

from __future__ import annotations

import shutil

from daemon.doctor.findings import Finding, ok, warning
from daemon.night.settings import NightSettings
from daemon.notify.addresses import Address, all_addresses
from daemon.notify.delivery import service_of
from daemon.notify.outbox import waiting_for
from daemon.notify.paths import NotifyFolder
from jobs.errors import InvalidInput
from jobs.paths import Workspace
from jobs.storage.formatting import counted

CHECK = "notify"


def notify_findings(workspace: Workspace) -> list[Finding]:
    """Tell of each address whether apprise can use it, and whether messages wait for it.

    Nothing is sent.

    Raises:
        WorkspaceError: the file of addresses is damaged.
        ConfigError: a setting is not allowed.
    """
    found = [_of_address(workspace, address) for address in all_addresses(workspace)]
    command = NightSettings.of(workspace).on_event
    if command is not None:
        found.append(_of_command(workspace, command[0]))
    none = "nobody is told when a job fails or the night is over: farense notify add"
    return found or [ok(CHECK, none)]


def _of_address(workspace: Workspace, address: Address) -> Finding:
    shown = f"{address.name} ({address.shown})"
    try:
        service = service_of(address.url)
    except InvalidInput as error:
        return warning(CHECK, f"{shown}: {error.message}", "Add it anew: farense notify add -")
    waiting = waiting_for(NotifyFolder.of(workspace).outbox, address.key)
    if waiting:
        return warning(
            CHECK,
            f"{shown}: {counted(waiting, 'matter')} not sent yet; logs/daemon.jsonl says why.",
            f"Try it: farense notify test {address.name}",
        )
    return ok(CHECK, f"{shown}: an address of {service}")


def _of_command(workspace: Workspace, program: str) -> Finding:
    if shutil.which(program) or (workspace.root / program).is_file():
        return ok(CHECK, f"on_event runs {program}")
    return warning(
        CHECK,
        f"on_event: there is no program {program}.",
        "Set it to another one in configs/daemon/night.yaml.",
    )
