"""Other programs that hold GPU memory: which of their models are loaded, and letting go of them.

Ollama and LM Studio tell so on a port of this machine. They are asked where a job starts, both at
once, and waited for no longer than a second, and a second more where they are to let go.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from threading import Timer
from typing import Any

import orjson

from daemon.night.settings import Program
from jobs.storage.formatting import size_text
from jobs.storage.values import printable

Address = tuple[str, int]

ADDRESSES: Mapping[Program, Address] = {
    "ollama": ("127.0.0.1", 11434),
    "lmstudio": ("127.0.0.1", 1234),
}
NAMES: Mapping[Program, str] = {"ollama": "Ollama", "lmstudio": "LM Studio"}
# For all answers about what is loaded, from the first connection to the last byte, and for all
# that let go.
SECONDS = 1.0
MOST_BYTES = 4 << 20
# Less than this is not worth a word: an embedding model, say.
MUCH_BYTES = 500_000_000
# What a program that is away, hangs or is another one than expected does to a question.
NO_ANSWER = (OSError, HTTPException, ValueError, LookupError, TypeError, AttributeError)

log = logging.getLogger(__name__)  # not structlog: `farense doctor` asks, too


@dataclass(frozen=True)
class Loaded:
    """A model that a program has loaded.

    Attributes:
        size: bytes of GPU memory; None where the program does not say.
        handle: by what the program is asked to let go of it; None where it cannot be asked.
    """

    model: str
    size: int | None
    handle: str | None


class Programs:
    """The programs of this machine that may hold GPU memory.

    Args:
        addresses: where they listen.
        seconds: how long one is waited for.
    """

    def __init__(
        self, addresses: Mapping[Program, Address] = ADDRESSES, seconds: float = SECONDS
    ) -> None:
        self._addresses, self._seconds = addresses, seconds

    def make_room(self, unload: Sequence[Program] = ()) -> list[str]:
        """Look which programs hold much GPU memory, and ask some of them to let go of it.

        Args:
            unload: those that are asked.

        Returns:
            For a person, what each holds and whether it let go; never an error.
        """
        if not self._addresses:
            return []
        with ThreadPoolExecutor(len(self._addresses)) as pool:
            found = pool.map(lambda program: self._look_at(program, unload), self._addresses)
            return [line for line in found if line is not None]

    def _look_at(self, program: Program, unload: Sequence[Program]) -> str | None:
        found = self._loaded(program, time.monotonic() + self._seconds)
        models = [model for model in found if model.size != 0]
        if not models or _total(models) < MUCH_BYTES:
            return None
        line = held_line(program, models)
        if program not in unload:
            return line
        deadline = time.monotonic() + self._seconds
        gone = [self._let_go(program, model, deadline) for model in models]
        return f"{line}; {asked_line(sum(gone), len(gone))}"

    def _loaded(self, program: Program, deadline: float) -> list[Loaded]:
        for path, read in LISTINGS[program]:
            try:
                return read(self._exchange(program, "GET", path, deadline))
            except NO_ANSWER as error:
                log.debug("%s does not answer %s: %r", NAMES[program], path, error)
                if isinstance(error, OSError):  # nobody is there, or nobody in time
                    break
        return []

    def _let_go(self, program: Program, model: Loaded, deadline: float) -> bool:
        """Ask for one model; tell whether the program agreed in time."""
        if model.handle is None:
            return False
        path, name = UNLOADING[program]
        body = {name: model.handle, **({"keep_alive": 0} if program == "ollama" else {})}
        try:
            answer = self._exchange(program, "POST", path, deadline, orjson.dumps(body))
        except NO_ANSWER as error:
            log.debug("%s does not answer %s: %r", NAMES[program], path, error)
            return False
        return isinstance(answer, dict) and "error" not in answer

    def _exchange(
        self, program: Program, method: str, path: str, deadline: float, body: bytes | None = None
    ) -> Any:
        """Return the JSON of an answer.

        ``http.client`` asks the address itself: no proxy of the environment comes between.

        Raises:
            OSError, HTTPException: there is no answer, or none in time.
            ValueError: it is none of success, too long, or no JSON.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection = HTTPConnection(*self._addresses[program], timeout=left)
        try:
            connection.connect()
            with _cut_off(connection.sock, deadline):
                connection.request(method, path, body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                text = answer.read(MOST_BYTES)
        finally:
            connection.close()
        if answer.status != 200:
            raise ValueError(f"status {answer.status}")
        return orjson.loads(text)


@contextmanager
def _cut_off(end: socket.socket, deadline: float) -> Iterator[None]:
    """End a connection at a moment: a time-out of a socket begins anew with each byte."""

    def shut_down() -> None:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)

    timer = Timer(max(0.0, deadline - time.monotonic()), shut_down)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def ollama_loaded(answer: Any) -> list[Loaded]:
    """Return what Ollama's ``/api/ps`` tells: ``size_vram`` is what lies in GPU memory.

    Raises:
        LookupError, TypeError, ValueError: it is another answer.
    """
    return [
        Loaded(str(model["name"]), int(model["size_vram"]), str(model["name"]))
        for model in answer["models"]
    ]


def lmstudio_loaded(answer: Any) -> list[Loaded]:
    """Return what LM Studio's ``/api/v1/models`` tells: files of a model take what memory it does.

    Raises:
        LookupError, TypeError, ValueError: it is another answer.
    """
    return [
        Loaded(str(model["key"]), _size(model.get("size_bytes")), str(instance["id"]))
        for model in answer["models"]
        for instance in model["loaded_instances"]
    ]


def old_lmstudio_loaded(answer: Any) -> list[Loaded]:
    """Return what ``/api/v0/models`` of an older LM Studio tells, which lets go of nothing.

    Raises:
        LookupError, TypeError, ValueError: it is another answer.
    """
    return [
        Loaded(str(model["id"]), None, None)
        for model in answer["data"]
        if model["state"] == "loaded"
    ]


# Where each program lists its models, newest first, and how to read that.
LISTINGS: Mapping[Program, Sequence[tuple[str, Callable[[Any], list[Loaded]]]]] = {
    "ollama": (("/api/ps", ollama_loaded),),
    "lmstudio": (("/api/v1/models", lmstudio_loaded), ("/api/v0/models", old_lmstudio_loaded)),
}
# What lets go of a model, and the name under which it takes a handle.
UNLOADING: Mapping[Program, tuple[str, str]] = {
    "ollama": ("/api/generate", "model"),
    "lmstudio": ("/api/v1/models/unload", "instance_id"),
}


def held_line(program: Program, models: Sequence[Loaded]) -> str:
    """Return for a person what a program holds."""
    names = printable(", ".join(model.model for model in models)[:200])
    if any(model.size is None for model in models):
        return f"{NAMES[program]} has {names} loaded"
    return f"{NAMES[program]} holds {size_text(int(_total(models)))} of GPU memory ({names})"


def asked_line(gone: int, asked: int) -> str:
    """Return for a person what became of the wish that a program lets go."""
    if gone == asked:
        return "asked to let go of it, it agreed"
    some = f"agreed for {gone} of {asked}" if gone else "did not agree"
    return f"asked to let go of it, it {some}: close it yourself if memory runs out"


def _total(models: Sequence[Loaded]) -> float:
    """Return the bytes that are held; endless where a size is not known."""
    sizes = [model.size for model in models]
    return float("inf") if None in sizes else sum(size or 0 for size in sizes)


def _size(value: Any) -> int | None:
    return None if value is None else int(value)
