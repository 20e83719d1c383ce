"""A question that farense answers, put to a server: the same prompt, greedily, with the same ends.

Ollama takes a prompt as it is with ``raw``; llama.cpp takes its token ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jobs.errors import InvalidInput, NetworkError
from jobs.served.http import EXAMPLE, NoSuccess, Server, shown

Report = Callable[[str], None]


@dataclass(frozen=True)
class Prompt:
    """What a model is given.

    Attributes:
        tokens: its token ids, BOS among them.
        text: the same without that BOS, where the server puts one before it itself.
        bos: the token id that does not stand in ``text``; None where all of them do.
        ends: texts at which an answer ends.
    """

    tokens: Sequence[int]
    text: str
    bos: int | None
    ends: Sequence[str]


@dataclass(frozen=True)
class Completion:
    """What a server wrote.

    Attributes:
        cut: it ended at the limit.
    """

    text: str
    cut: bool


class Serving(Protocol):
    """A server that goes on with a prompt.

    Attributes:
        name: of the program, with its version.
        model: that it is asked for.
        url: where it is.
    """

    name: str
    model: str
    url: str

    def complete(self, prompt: Prompt, limit: int, report: Report) -> Completion:
        """Return how a prompt goes on, for ``limit`` tokens at most.

        Args:
            report: told what makes the prompt another one there.

        Raises:
            InvalidInput: the server refuses the question.
            NetworkError: it fails, or does not answer.
        """


def find_server(server: Server, model: str | None, usual: str | None = None) -> Serving:
    """Return what serves models at an address.

    Args:
        model: that a person named; None where there is no need to, or ``usual`` is right.
        usual: the name of the job's model in Ollama, if it has one.

    Raises:
        InvalidInput: something else is there, or it has no such model.
        NetworkError: nothing answers.
    """
    if (props := _at(server, "/props")) is not None and "default_generation_settings" in props:
        return LlamaCpp(server, props)
    version = _at(server, "/api/version")
    if version is not None and isinstance(version.get("version"), str):
        return Ollama(server, version["version"], model, usual)
    raise InvalidInput(
        f"{server.url} is neither Ollama nor a server of llama.cpp: it has neither "
        "/api/version nor /props.",
        EXAMPLE,
    )


def _at(server: Server, path: str) -> dict[str, Any] | None:
    """Return the object at a path; None where the server has none."""
    try:
        found = server.get(path)
    except NoSuccess as error:
        if error.status in (401, 403):
            raise InvalidInput(
                f"{server.url} asks for a key ({error.status}), and farense sends none.",
                "Start it without one, on 127.0.0.1.",
            ) from error
        if error.status == 503:
            raise NetworkError(
                f"{server.url} is not ready: {error.message or error.status}.", "Ask again soon."
            ) from error
        return None
    return found if isinstance(found, dict) else None


class Ollama:
    """Ollama, which serves many models by their names.

    Raises:
        InvalidInput: it does not have the model, or several and no choice was made.
        NetworkError: it does not answer.
    """

    def __init__(self, server: Server, version: str, model: str | None, usual: str | None) -> None:
        self._server, self.url = server, server.url
        self.name = f"Ollama {shown(version)}"
        self.model = self._chosen(model, usual)

    def complete(self, prompt: Prompt, limit: int, report: Report) -> Completion:
        """Return how a prompt goes on; see :class:`Serving`."""
        if prompt.bos is not None and prompt.tokens[0] != prompt.bos:
            report("Ollama puts a token before the prompt, which farense does not.")
        options = {"temperature": 0, "repeat_penalty": 1.0, "seed": 0, "num_predict": limit}
        body = {
            "model": self.model,
            "prompt": prompt.text,
            "raw": True,
            "stream": True,
            "options": options | {"stop": list(prompt.ends)},
        }
        parts, reason = [], None
        for found in _objects(self._server, "/api/generate", body):
            parts.append(_text(self._server, found, "response"))
            if found.get("done") is True:
                reason = found.get("done_reason")
                break
        else:
            raise NetworkError(f"{self.url} ended in the middle of its answer.")
        return Completion("".join(parts), reason == "length")

    def _chosen(self, model: str | None, usual: str | None) -> str:
        """Return the model that is asked, by the name that Ollama lists it under.

        Raises:
            InvalidInput: there is none of that name, or several and no name.
        """
        try:
            listed = self._server.get("/api/tags")
        except NoSuccess as error:
            raise NetworkError(f"{self.url} does not list its models: {error}.") from error
        entries = listed.get("models") if isinstance(listed, dict) else None
        names = [
            entry["name"]
            for entry in (entries if isinstance(entries, list) else [])
            if isinstance(entry, dict) and isinstance(entry.get("name"), str)
        ]
        wanted = model or usual
        for name in names:
            if wanted is not None and name.lower() in (wanted.lower(), f"{wanted}:latest".lower()):
                return str(name)
        if wanted is None and len(names) == 1:
            return str(names[0])
        have = ", ".join(map(shown, names)) or "none"
        if wanted is None:
            raise InvalidInput(
                f"Which model of {self.url}? It has: {have}.",
                "Name it: --via-model " + (names[0] if names else "farense"),
            )
        raise InvalidInput(
            f"{self.url} has no model {wanted!r}; it has: {have}.",
            "Name another with --via-model, or make it: "
            f"farense export latest --gguf q8_0 --ollama {wanted}",
        )


class LlamaCpp:
    """llama.cpp's server, which serves one model."""

    def __init__(self, server: Server, props: dict[str, Any]) -> None:
        self._server, self.url = server, server.url
        build = props.get("build_info")
        self.name = f"llama.cpp {shown(build)}" if isinstance(build, str) else "llama.cpp"
        path = props.get("model_alias") or props.get("model_path") or ""
        self.model = shown(str(path)).rpartition("/")[2]

    def complete(self, prompt: Prompt, limit: int, report: Report) -> Completion:
        """Return how a prompt goes on; see :class:`Serving`."""
        whole: object = list(prompt.tokens)
        if self._tokens(prompt.text) != _without(prompt.bos, prompt.tokens):
            report(
                f"{self.url} makes other tokens of this prompt, which was sent as text: it holds "
                "another model, or its tokenizer differs."
            )
            whole = prompt.text
        body = {
            "prompt": whole,
            "n_predict": limit,
            "temperature": 0,
            "repeat_penalty": 1.0,
            "stop": list(prompt.ends),
            "stream": True,
            "cache_prompt": False,
        }
        parts = []
        for found in _objects(self._server, "/completion", body):
            parts.append(_text(self._server, found, "content"))
            if found.get("stop") is True:
                return Completion("".join(parts), found.get("stop_type") == "limit")
        raise NetworkError(f"{self.url} ended in the middle of its answer.")

    def _tokens(self, text: str) -> object:
        body = {"content": text, "add_special": False, "parse_special": True}
        found = next(iter(_objects(self._server, "/tokenize", body)), {})
        return found.get("tokens")


def _without(bos: int | None, tokens: Sequence[int]) -> list[int]:
    return list(tokens[1:] if bos is not None and tokens[0] == bos else tokens)


def _objects(server: Server, path: str, body: object) -> Iterable[dict[str, Any]]:
    """Yield what a server answers.

    Raises:
        InvalidInput, NetworkError: it says that there was an error.
    """
    try:
        for found in server.post(path, body):
            if (error := found.get("error")) is not None:
                said = error.get("message") if isinstance(error, dict) else error
                raise NetworkError(f"{server.url} failed: {shown(str(said))}")
            yield found
    except NoSuccess as error:
        what = f"{server.url} refused the question ({error.status})"
        kind = InvalidInput if error.status in range(400, 500) else NetworkError
        raise kind(f"{what}: {error.message}" if error.message else f"{what}.") from error


def _text(server: Server, found: dict[str, Any], key: str) -> str:
    text = found.get(key, "")
    if not isinstance(text, str):
        raise NetworkError(f"{server.url} answered no text: {shown(str(found))}")
    return text
