"""Addresses to which messages go: added by hand, or in ``FARENSE_NOTIFY``.

An address is a URL of the library apprise, and nearly all of it may be secret: a password, but also
the token, the topic or the path that lets anybody write there. So it is shown by its scheme, and by
its host where that is the name of a server; it stands in one file, for the user alone.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon.notify.kinds import DEFAULT, NoticeKind, kinds_in
from daemon.notify.paths import NotifyFolder
from daemon.runs.private_folder import PRIVATE, private_folder
from jobs.errors import ConfigError, FarenseError, InvalidInput, WorkspaceError
from jobs.paths import Workspace
from jobs.storage.files import explain, read_json, write_json
from jobs.storage.locks import FileLock
from jobs.suggest import did_you_mean

VARIABLE, KINDS_VARIABLE = "FARENSE_NOTIFY", "FARENSE_NOTIFY_ON"
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")
SCHEME = re.compile(r"([a-z][a-z0-9+.-]{0,31})://", re.IGNORECASE)
HOST = re.compile(r"(?:[A-Za-z0-9-]+\.)*[A-Za-z0-9-]+(?::\d{1,5})?|\[[0-9A-Fa-f:]+\](?::\d{1,5})?")
# Of other schemes what stands in the place of the host may be a token or a topic.
SERVERS = frozenset(
    f"{name}{secure}"
    for name in ("json", "xml", "form", "mailto", "gotify", "http", "apprise", "mmost", "rocket")
    for secure in ("", "s")
)
LOCK_SECONDS = 10.0


@dataclass(frozen=True)
class Address:
    """Where messages go.

    Attributes:
        name: that a person calls it by.
        url: all of it, secrets too; not in the object's text, which may be logged.
        kinds: what is sent there.
        added: by ``farense notify add``; else it stands in ``FARENSE_NOTIFY``.
    """

    name: str
    url: str = field(repr=False)
    kinds: tuple[NoticeKind, ...] = DEFAULT
    added: bool = True

    @property
    def key(self) -> str:
        """What tells it apart in the outbox, whatever it is called."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]

    @property
    def shown(self) -> str:
        """The address without anything that may be secret."""
        return redacted_address(self.url)


def redacted_address(url: str) -> str:
    """Return an address without user, password, token, path and query: fit for log and screen."""
    scheme = SCHEME.match(url)
    if scheme is None:
        return "(not an address)"
    rest = url[scheme.end() :]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, _, host = authority.rpartition("@")
    # A password with a bare / or ? ends what looks like the host within it.
    strayed = "@" in rest[len(authority) :] or ("@" in user)
    name = scheme[1].lower()
    known = name in SERVERS and not strayed and HOST.fullmatch(host) is not None
    return f"{name}://{host if known else '...'}"


def all_addresses(
    workspace: Workspace, environment: Mapping[str, str] = os.environ
) -> list[Address]:
    """Return the addresses that were added, then those of ``FARENSE_NOTIFY``; each once.

    Raises:
        WorkspaceError: the file cannot be read, or is damaged.
        ConfigError: ``FARENSE_NOTIFY_ON`` names a kind that there is not.
    """
    found = {address.url: address for address in added_addresses(workspace)}
    for address in environment_addresses(environment, {a.name for a in found.values()}):
        found.setdefault(address.url, address)
    return list(found.values())


def any_address(workspace: Workspace, environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether messages may be wanted: asked often, it looks at no more than is needed."""
    return (
        bool(environment.get(VARIABLE, "").strip()) or NotifyFolder.of(workspace).addresses.exists()
    )


def added_addresses(workspace: Workspace) -> list[Address]:
    """Return the addresses of the file, in the order in which they were added.

    Raises:
        WorkspaceError: it cannot be read, or is damaged.
    """
    path = NotifyFolder.of(workspace).addresses
    try:
        found = read_json(path)
        return [_address(entry) for entry in found["addresses"]]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise WorkspaceError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError):
        # Without the reason, which may quote what stands there.
        raise WorkspaceError(
            f"{path} is damaged.", "Remove it and add the addresses again: farense notify add -"
        ) from None


def add_address(
    workspace: Workspace, url: str, kinds: Sequence[NoticeKind], name: str | None, service: str
) -> Address:
    """Add an address; one that is there is given these kinds, and the name where there is one.

    Args:
        name: None for one made of the service's.
        service: what the address leads to.

    Raises:
        InvalidInput: the name cannot be one, or another address has it.
        WorkspaceError: the file cannot be read or written.
    """
    if name is not None and not NAME.fullmatch(name):
        raise InvalidInput(
            "That cannot be the name of an address.",
            "Use up to 40 small letters (a-z), digits, dots, dashes and underscores.",
        )
    with _changing(workspace):
        found = {address.url: address for address in added_addresses(workspace)}
        known = found.get(url)
        taken = {address.name for address in found.values() if address.url != url}
        if name in taken:
            raise InvalidInput(
                f"Another address is called {name}.",
                f"Choose another name, or remove that one: farense notify remove {name}",
            )
        called = name or (known.name if known else _free_name(service, taken))
        found[url] = Address(called, url, tuple(kinds))
        _write(workspace, list(found.values()))
    return found[url]


def remove_address(workspace: Workspace, name: str) -> Address:
    """Remove an address by its name, and return it.

    Raises:
        InvalidInput: there is none of that name, or it stands in ``FARENSE_NOTIFY``.
        WorkspaceError: the file cannot be read or written.
    """
    with _changing(workspace):
        found = added_addresses(workspace)
        kept = [address for address in found if address.name != name]
        if len(kept) == len(found):
            raise _unknown(name, found)
        _write(workspace, kept)
    return next(address for address in found if address.name == name)


def named_address(workspace: Workspace, name: str) -> Address:
    """Return the address of a name.

    Raises:
        InvalidInput: there is none.
        WorkspaceError: the file cannot be read.
    """
    found = all_addresses(workspace)
    named = next((address for address in found if address.name == name), None)
    if named is None:
        raise _unknown(name, found)
    return named


def _unknown(name: str, found: Sequence[Address]) -> InvalidInput:
    names = [address.name for address in found]
    if "://" in name:  # an address where a name was asked for: it is not repeated
        what, meant = "Addresses are called by their names here.", ""
    else:
        what, meant = f"No address is called {name[:40]!r}.", did_you_mean(name, names)
    known = f"Names: {', '.join(names)}." if names else "None was added: farense notify add -"
    return InvalidInput(what, f"{meant} {known}".lstrip())


def environment_addresses(
    environment: Mapping[str, str] = os.environ, taken: Collection[str] = ()
) -> list[Address]:
    """Return the addresses of ``FARENSE_NOTIFY``.

    Args:
        taken: names that they may not have.

    Raises:
        ConfigError: ``FARENSE_NOTIFY_ON`` names a kind that there is not.
    """
    return list(_of_environment(environment, set(taken)))


def _of_environment(environment: Mapping[str, str], taken: set[str]) -> Iterator[Address]:
    text = environment.get(KINDS_VARIABLE, "").strip()
    try:
        kinds = kinds_in(text) if text else DEFAULT
    except InvalidInput as error:
        raise ConfigError(f"{KINDS_VARIABLE}: {error.message}", error.hint) from error
    for url in environment.get(VARIABLE, "").split():
        scheme = SCHEME.match(url)
        name = _free_name(scheme[1] if scheme else "address", taken)
        taken = taken | {name}
        yield Address(name, url, kinds, added=False)


def _free_name(service: str, taken: set[str]) -> str:
    stem = re.sub(r"[^a-z0-9]+", "-", service.lower()).strip("-")[:30] or "address"
    names = [stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)


def _address(entry: Any) -> Address:
    kinds = tuple(kind for kind in NoticeKind if kind in entry["on"])
    name, url = entry["name"], entry["address"]
    if not isinstance(name, str) or not isinstance(url, str):
        raise TypeError("name and address are texts")
    return Address(name, url, kinds)


def _write(workspace: Workspace, addresses: list[Address]) -> None:
    path = NotifyFolder.of(workspace).addresses
    if not addresses:
        # A daemon looks whether there is a file, no more.
        path.unlink(missing_ok=True)
        return
    entries = [{"name": a.name, "address": a.url, "on": list(map(str, a.kinds))} for a in addresses]
    write_json(path, {"version": 1, "addresses": entries})


def notify_folder(workspace: Workspace) -> NotifyFolder:
    """Return the folder of notifications, made where it is missing.

    Raises:
        WorkspaceError: it cannot be made.
    """
    private_folder(workspace)
    folder = NotifyFolder.of(workspace)
    try:
        folder.path.mkdir(mode=PRIVATE, exist_ok=True)
    except OSError as error:
        raise explain(error, folder.path) from error
    return folder


@contextmanager
def _changing(workspace: Workspace) -> Iterator[None]:
    path: Path = notify_folder(workspace).path / "addresses.lock"
    lock = FileLock.acquire(path, LOCK_SECONDS)
    if lock is None:
        raise FarenseError(f"{path} is held by another process.", "Try again.")
    with lock:
        yield
