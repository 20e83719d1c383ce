"""A server that speaks JSON over HTTP, asked by its address; each way it may fail is one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import orjson

from jobs.errors import InvalidInput, NetworkError
from jobs.storage.values import printable

# A server may read a large model from disk before its first word.
SECONDS = 300.0
# That it is there it has to say at once.
GREETING_SECONDS = 10.0
# More than the longest answer comes to, each token in an object of its own.
MOST_BYTES = 64_000_000
LONGEST_LINE = 4_000_000
SCHEMES: Mapping[str, type[HTTPConnection]] = {"http": HTTPConnection, "https": HTTPSConnection}
EXAMPLE = "Give its address as in --via http://127.0.0.1:11434 (Ollama) or :8080 (llama.cpp)."


class NoSuccess(Exception):
    """A server answered with a status of no success.

    Attributes:
        message: what it said of it; empty where it said nothing.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message


class Server:
    """A server at an address.

    No proxy of the environment comes between: it is nearly always this machine.

    Args:
        url: ``http://127.0.0.1:11434``; without a scheme it is ``http``.
        seconds: how long it may be silent.

    Raises:
        InvalidInput: that is no address.
    """

    def __init__(self, url: str, seconds: float = SECONDS) -> None:
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError as error:
            raise InvalidInput(f"{url!r} is no address: {error}.", EXAMPLE) from error
        kind = SCHEMES.get(parts.scheme)
        if kind is None or not parts.hostname or parts.query or parts.fragment:
            raise InvalidInput(f"{url!r} is no address of a server.", EXAMPLE)
        self._kind, self._host, self._port = kind, parts.hostname, port
        self._base, self._seconds = parts.path.rstrip("/"), seconds
        shown = f"[{self._host}]" if ":" in self._host else self._host
        where = shown if port is None else f"{shown}:{port}"
        self.url = f"{parts.scheme}://{where}{self._base}"

    def get(self, path: str) -> Any:
        """Return the JSON at a path.

        Raises:
            NoSuccess: the server answers, and has no such thing.
            NetworkError: it cannot be reached, says nothing in time, or answers no JSON.
        """
        with closing(self._connection(min(self._seconds, GREETING_SECONDS))) as connection:
            return self._json(self._read(self._asked(connection, "GET", path)))

    def post(self, path: str, body: object) -> Iterator[dict[str, Any]]:
        """Yield the JSON objects of an answer, as they come: one, or one a line, or as events.

        Raises: what :meth:`get` raises, an object that is none among them.
        """
        with closing(self._connection(self._seconds)) as connection:
            response = self._asked(connection, "POST", path, orjson.dumps(body))
            read = 0
            while line := self._line(response):
                read += len(line)
                if read > MOST_BYTES:
                    raise NetworkError(f"{self.url} came to no end of its answer.")
                text = line.strip().removeprefix(b"data:").strip()
                if not text or text == b"[DONE]" or text.startswith(b":"):
                    continue
                found = self._json(text)
                if not isinstance(found, dict):
                    raise self._no_json(text)
                yield found

    def _connection(self, seconds: float) -> HTTPConnection:
        return self._kind(self._host, self._port, timeout=seconds)

    def _asked(
        self, connection: HTTPConnection, method: str, path: str, body: bytes | None = None
    ) -> HTTPResponse:
        try:
            connection.request(
                method, self._base + path, body, {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
        except (OSError, HTTPException, ValueError) as error:
            raise self._away(error) from error
        if response.status != 200:
            raise NoSuccess(response.status, _said(self._read(response)))
        return response

    def _read(self, response: HTTPResponse) -> bytes:
        try:
            return response.read(LONGEST_LINE)
        except (OSError, HTTPException) as error:
            raise self._away(error) from error

    def _line(self, response: HTTPResponse) -> bytes:
        try:
            return response.readline(LONGEST_LINE)
        except (OSError, HTTPException) as error:
            raise self._away(error) from error

    def _json(self, text: bytes) -> Any:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise self._no_json(text) from error

    def _no_json(self, text: bytes) -> NetworkError:
        return NetworkError(
            f"{self.url} did not answer in JSON: {shown(text.decode(errors='replace'))!r}",
            EXAMPLE,
        )

    def _away(self, error: Exception) -> NetworkError:
        if isinstance(error, TimeoutError):
            return NetworkError(
                f"{self.url} was silent for too long.", "See what it is doing, and ask again."
            )
        if isinstance(error, ConnectionRefusedError):
            return NetworkError(
                f"Nothing listens at {self.url}.",
                "Start Ollama there (ollama serve), or llama-server.",
            )
        why = shown(str(error)) or type(error).__name__
        return NetworkError(f"{self.url} did not answer: {why}.")


def shown(text: str) -> str:
    """Return a server's words for one line of a message."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= 200 else f"{line[:200]}..."


def _said(answer: bytes) -> str:
    """Return what an answer says of an error."""
    try:
        found: Any = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return shown(answer.decode(errors="replace"))
    said = found.get("error") if isinstance(found, dict) else None
    if isinstance(said, dict):
        said = said.get("message")
    return shown(said) if isinstance(said, str) else ""
