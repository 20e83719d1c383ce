"""The same question to Ollama and to llama.cpp's server: what is sent, and each way it may fail."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from jobs.errors import InvalidInput, NetworkError
from jobs.served.ask import Completion, Prompt, find_server
from jobs.served.http import Server
from tests.helpers.model_server import (
    LMSTUDIO_MODELS,
    OLLAMA_TAGS,
    OLLAMA_VERSION,
    ModelServer,
    llama_cpp,
    model_server,
    ollama,
)

PROMPT = Prompt([1, 7, 8], "### Pergunta:\nQuem?", 1, ("</s>", "<|im_end|>"))


def address(served: ModelServer) -> str:
    return "http://{}:{}".format(*served.address)


def asked(served: ModelServer, model: str | None = "farense-v2", seconds: float = 5) -> Completion:
    return find_server(Server(address(served), seconds), model).complete(PROMPT, 9, print)


def test_ollama_is_given_the_prompt_as_it_is_and_asked_greedily() -> None:
    with model_server(answers=ollama("Em ", "Faro.")) as served:
        there = find_server(Server(address(served)), None, "Farense-v2")
        assert there.complete(PROMPT, 9, print) == Completion("Em Faro.", cut=False)
    assert (there.name, there.model, there.url) == (
        "Ollama 0.14.2",
        "farense-v2:latest",
        address(served),
    )
    (method, path, body), options = served.asked[-1], served.asked[-1][2]["options"]
    assert (method, path) == ("POST", "/api/generate")
    assert (body["model"], body["raw"]) == ("farense-v2:latest", True)
    assert body["prompt"] == PROMPT.text
    assert options["stop"] == ["</s>", "<|im_end|>"]
    assert (options["temperature"], options["repeat_penalty"], options["num_predict"]) == (0, 1, 9)


def test_llama_cpp_is_given_the_very_tokens() -> None:
    with model_server(answers=llama_cpp("Em ", "Faro.", tokens=[7, 8])) as served:
        there = find_server(Server(address(served)), None)
        said: list[str] = []
        assert there.complete(PROMPT, 9, said.append) == Completion("Em Faro.", cut=False)
    assert (there.name, there.model) == ("llama.cpp b6500-1a2b3c4d", "farense-q8_0.gguf")
    assert said == []
    tokenized, (_, path, body) = served.asked[-2][2], served.asked[-1]
    assert tokenized["content"] == PROMPT.text
    assert (path, body["prompt"], body["n_predict"]) == ("/completion", [1, 7, 8], 9)
    assert (body["temperature"], body["stop"]) == (0, ["</s>", "<|im_end|>"])


def test_a_server_of_another_tokenizer_gets_the_text_and_that_is_told() -> None:
    with model_server(answers=llama_cpp("Não.", tokens=[9])) as served:
        said: list[str] = []
        find_server(Server(address(served)), None).complete(PROMPT, 9, said.append)
    assert served.asked[-1][2]["prompt"] == PROMPT.text
    assert len(said) == 1
    assert "other tokens" in said[0]


@pytest.mark.parametrize(
    "answers", [ollama("Em", reason="length"), llama_cpp("Em", tokens=[7, 8], reason="limit")]
)
def test_an_answer_that_was_cut_says_so(answers: dict[str, Any]) -> None:
    with model_server(answers=answers) as served:
        assert asked(served) == Completion("Em", cut=True)


def test_a_model_is_chosen_by_name_or_because_it_is_the_only_one() -> None:
    one = {"models": OLLAMA_TAGS["models"][:1]}
    with model_server(answers=ollama("Em") | {"/api/tags": one}) as served:
        assert find_server(Server(address(served)), None).model == "gemma3:4b"
        with pytest.raises(InvalidInput, match="has no model 'farense-v2'; it has: gemma3:4b"):
            find_server(Server(address(served)), "farense-v2")
    with model_server(answers=ollama("Em")) as served:
        with pytest.raises(InvalidInput, match="Which model") as refused:
            find_server(Server(address(served)), None)
        assert refused.value.hint == "Name it: --via-model gemma3:4b"


@pytest.mark.parametrize(
    ("answers", "error", "said"),
    [
        ({}, InvalidInput, "neither Ollama nor a server of llama.cpp"),
        ({"/api/v1/models": LMSTUDIO_MODELS}, InvalidInput, "neither Ollama nor"),
        ({"/props": [1], "/api/version": {"version": 3}}, InvalidInput, "neither Ollama nor"),
        ({"/props": 401}, InvalidInput, "asks for a key"),
        ({"/props": (503, {"error": {"message": "Loading model"}})}, NetworkError, "Loading model"),
        ({"/props": b"<html>hi\x1b[2J"}, NetworkError, r"did not answer in JSON: '<html>hi\?\[2J'"),
        ({"/api/version": OLLAMA_VERSION}, NetworkError, "does not list its models"),
        (ollama() | {"/api/generate": 404}, InvalidInput, r"refused the question \(404\)"),
        (
            ollama() | {"/api/generate": (404, {"error": "model 'x' not found"})},
            InvalidInput,
            "model 'x' not found",
        ),
        (ollama() | {"/api/generate": {"error": "out of memory"}}, NetworkError, "out of memory"),
        (ollama() | {"/api/generate": b'{"response": "Em"}\n'}, NetworkError, "in the middle"),
        (ollama() | {"/api/generate": b'{"response": 3}\n'}, NetworkError, "answered no text"),
        (ollama() | {"/api/generate": b'{"respo'}, NetworkError, "did not answer in JSON"),
        (ollama() | {"/api/generate": b"[]"}, NetworkError, "did not answer in JSON"),
        (
            llama_cpp(tokens=[7, 8]) | {"/completion": (500, {"error": {"message": "boom"}})},
            NetworkError,
            r"\(500\): boom",
        ),
        (llama_cpp(tokens=[7, 8]) | {"/completion": b""}, NetworkError, "in the middle"),
    ],
)
def test_each_way_to_fail_is_one_line(
    answers: dict[str, Any], error: type[Exception], said: str
) -> None:
    with model_server(answers=answers) as served, pytest.raises(error, match=said) as failed:
        asked(served)
    assert "\n" not in str(failed.value)


def test_a_server_that_says_nothing_is_given_up() -> None:
    with (
        model_server(silent=True) as served,
        pytest.raises(NetworkError, match="was silent for too long"),
    ):
        asked(served, seconds=0.3)


def test_where_nobody_listens_that_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(NetworkError, match=f"Nothing listens at http://127.0.0.1:{port}"):
        find_server(Server(f"127.0.0.1:{port}"), None)


@pytest.mark.parametrize(
    "url",
    ["", "http://", "ftp://x", "http://x:port", "http://x:99999", "http://x/?a", "http://[::1"],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="is no address"):
        Server(url)


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("127.0.0.1:11434", "http://127.0.0.1:11434"),
        ("localhost", "http://localhost"),
        ("https://x.example/ollama/", "https://x.example/ollama"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_addresses(url: str, read: str) -> None:
    assert Server(url).url == read
