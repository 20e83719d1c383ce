"""Who may ask what: the door before all routes of the page.

A request comes in where its Host is one of ours (a site that lets its own name point to 127.0.0.1
has another), and its cookie says that the person has opened the link. A change needs more: it comes
from a page of this very address, and brings a word that only such a page can know.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

from daemon.page.secret import Secret, same

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

LOGIN = "/login"
CHANGE_HEADER = "x-farense-change"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
    (b"cache-control", b"no-store"),
)
READS = ("GET", "HEAD")
CLOSED = (
    "This page is locked. Open the link that `farense ui` prints: it holds the token, and this "
    "browser then remembers it."
)


class Guard:
    """Lets requests through to an application, or answers them: 400, 401 or 403.

    Args:
        secret: returns what has to be known now: a person may have made it anew.
        names: the host names under which the page is served, beside addresses.
        any_address: it is served to the network, under whichever address the machine has; else
            under those of this machine alone.
    """

    def __init__(
        self,
        application: Application,
        secret: Callable[[], Secret],
        names: Iterable[str] = (),
        *,
        any_address: bool = False,
    ) -> None:
        self._application, self._secret = application, secret
        self._names = {"localhost", *(name.lower() for name in names)}
        self._any_address = any_address

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        guarded = _with_headers(send)
        refused = (404, "Only HTTP.") if scope["type"] != "http" else self._refused(scope)
        if refused is not None:
            await _answer(guarded, *refused)
            return
        await self._application(scope, receive, guarded)

    def _refused(self, scope: Message) -> tuple[int, str] | None:
        """Return why a request is not let in, with its status; None where it is."""
        found: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        hosts = found.get("host", [])
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return 400, "This address is not one of this page."
        reads = scope["method"] in READS
        if scope["path"] == LOGIN and reads:
            return None
        if not self._knows(found.get("cookie", [])):
            return 401, CLOSED
        if reads:
            return None
        origin, word = found.get("origin", []), found.get(CHANGE_HEADER, [""])
        if origin != [f"{scope['scheme']}://{hosts[0]}"]:
            return 403, "A change comes from a page of another address: refused."
        if found.get("sec-fetch-site", ["same-origin"]) != ["same-origin"]:
            return 403, "A change comes from another site: refused."
        if not same(word[0], self._secret().change_word):
            return 403, "A change without the word of this page: reload it."
        if found.get("content-type", [""])[0].partition(";")[0].strip() != "application/json":
            return 415, "A change is sent as application/json."
        return None

    def _knows(self, cookies: list[str]) -> bool:
        try:
            secret = self._secret()
            kept = SimpleCookie("; ".join(cookies)).get(secret.cookie_name)
        except CookieError:
            return False
        return kept is not None and same(kept.value, secret.cookie)

    def _is_ours(self, host: str) -> bool:
        name = _name_in(host)
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name.lower().rstrip(".") in self._names
        # A name can be made to point here; an address is what it is.
        return self._any_address or address.is_loopback


def names_of_this_machine() -> set[str]:
    """Return the host names under which others in the home network reach this machine."""
    own = socket.gethostname()
    short = own.partition(".")[0]
    return {own, short, f"{short}.local"}


def _name_in(host: str) -> str:
    """Return the name or address in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] if host.count(":") == 1 else host


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {name for name, _ in message.get("headers", [])}
            added = [(name, value) for name, value in HEADERS if name not in own]
            message["headers"] = [*message.get("headers", []), *added]
        await send(message)

    return sending


async def _answer(send: Send, status: int, text: str) -> None:
    body = f"{text}\n".encode()
    head = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
