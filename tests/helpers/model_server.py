"""A server on 127.0.0.1 that answers as Ollama and LM Studio do, or misbehaves.

The shapes of its answers are those of their published documentation.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OLLAMA_PS = {
    "models": [
        {
            "name": "gemma3:4b",
            "model": "gemma3:4b",
            "size": 6591830464,
            "digest": "a2af6cc3eb7fa8be8504abaf9b04e88f17a119ec3f04a3addf55f92841195f5a",
            "details": {"format": "gguf", "family": "gemma3", "parameter_size": "4.3B"},
            "expires_at": "2025-10-17T16:47:07.93355-07:00",
            "size_vram": 5333539264,
            "context_length": 4096,
        }
    ]
}
OLLAMA_UNLOADED = {
    "model": "gemma3:4b",
    "created_at": "2024-09-12T03:54:03.516566Z",
    "response": "",
    "done": True,
    "done_reason": "unload",
}
LMSTUDIO_MODELS = {
    "models": [
        {
            "type": "llm",
            "publisher": "google",
            "key": "google/gemma-4-26b-a4b",
            "display_name": "Gemma 4 26B A4B",
            "size_bytes": 17990911801,
            "loaded_instances": [
                {"id": "google/gemma-4-26b-a4b", "config": {"context_length": 4096}}
            ],
        },
        {
            "type": "embedding",
            "key": "text-embedding-nomic-embed-text-v1.5",
            "size_bytes": 274290560,
            "loaded_instances": [],
        },
    ]
}
LMSTUDIO_MODELS_V0 = {
    "object": "list",
    "data": [
        {"id": "qwen/qwen3-8b", "object": "model", "type": "llm", "state": "loaded"},
        {"id": "qwen/qwen3-30b", "object": "model", "type": "llm", "state": "not-loaded"},
    ],
}
OLLAMA_VERSION = {"version": "0.14.2"}
OLLAMA_TAGS = {
    "models": [
        {"name": "gemma3:4b", "model": "gemma3:4b", "size": 3338801804},
        {"name": "farense-v2:latest", "model": "farense-v2:latest", "size": 271000000},
    ]
}
LLAMA_PROPS = {
    "default_generation_settings": {"n_ctx": 4096, "params": {"temperature": 0.8}},
    "total_slots": 1,
    "model_alias": "",
    "model_path": "/home/ana/models/farense-q8_0.gguf",
    "build_info": "b6500-1a2b3c4d",
}
# What LM Studio says, with status 200, on a path that it does not have.
UNEXPECTED = {"error": "Unexpected endpoint or method. (GET /api/v1/models)"}


@dataclass
class ModelServer:
    """What a server was asked, and how it answers.

    Attributes:
        answers: JSON, bytes, a status alone, or one with JSON, by path.
        drips: it sends a byte now and then, and comes to no end.
        silent: it takes the question, and says nothing.
        asked: the questions in their order: method, path and body.
    """

    answers: dict[str, Any] = field(default_factory=dict)
    drips: bool = False
    silent: bool = False
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    address: tuple[str, int] = ("127.0.0.1", 0)
    over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def model_server(**ways: Any) -> Iterator[ModelServer]:
    """Run a server for a while; ``ways`` are fields of :class:`ModelServer`."""
    served = ModelServer(**ways)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: Any) -> None:
            served.asked.append((self.command, self.path, body))
            if served.silent:
                served.over.wait()
                return
            answer = served.answers.get(self.path, 404)
            status = answer if isinstance(answer, int) else 200
            if isinstance(answer, tuple):
                status, answer = answer
            self.send_response(status)
            self.end_headers()
            while served.drips and not served.over.wait(0.05):
                self.wfile.write(b" ")
            if not isinstance(answer, int):
                self.wfile.write(
                    answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                )

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Say nothing of those who did not want to hear the end."""

    server = Server(("127.0.0.1", 0), Handler)
    served.address = ("127.0.0.1", server.server_port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        served.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def ollama(*words: str, reason: str = "stop") -> dict[str, Any]:
    """Return how Ollama answers a question with these words, a token each."""
    lines = [{"model": "farense-v2", "response": word, "done": False} for word in words]
    end = {"model": "farense-v2", "response": "", "done": True, "done_reason": reason}
    return {
        "/api/version": OLLAMA_VERSION,
        "/api/tags": OLLAMA_TAGS,
        "/api/generate": b"".join(json.dumps(line).encode() + b"\n" for line in [*lines, end]),
    }


def llama_cpp(*words: str, tokens: list[int], reason: str = "eos") -> dict[str, Any]:
    """Return how llama.cpp's server answers a question of these tokens with these words."""
    events = [{"index": 0, "content": word, "stop": False} for word in words]
    end = {"index": 0, "content": "", "stop": True, "stop_type": reason, "tokens_predicted": 2}
    return {
        "/props": LLAMA_PROPS,
        "/tokenize": {"tokens": tokens},
        "/completion": b"".join(
            b"data: " + json.dumps(event).encode() + b"\n\n" for event in [*events, end]
        ),
    }
