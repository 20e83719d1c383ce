"""Other programs that hold GPU memory, by a real server that answers like them."""

from __future__ import annotations

import socket
import time

import pytest

from daemon.night.programs import Programs
from tests.helpers.model_server import (
    LMSTUDIO_MODELS,
    LMSTUDIO_MODELS_V0,
    OLLAMA_PS,
    OLLAMA_UNLOADED,
    UNEXPECTED,
    ModelServer,
    model_server,
)

HOLDS = "Ollama holds 5.33 GB of GPU memory (gemma3:4b)"
# Of what a test waits for at most, not what it should take.
LONG_SECONDS = 60.0


def ollama(server: ModelServer, seconds: float = LONG_SECONDS) -> Programs:
    return Programs({"ollama": server.address}, seconds)


def lmstudio(server: ModelServer, seconds: float = LONG_SECONDS) -> Programs:
    return Programs({"lmstudio": server.address}, seconds)


def test_ollama_is_named_with_what_it_holds() -> None:
    with model_server(answers={"/api/ps": OLLAMA_PS}) as server:
        assert ollama(server).make_room() == [HOLDS]
        assert server.asked == [("GET", "/api/ps", None)]


def test_ollama_is_asked_to_let_go_where_that_is_wanted() -> None:
    answers = {"/api/ps": OLLAMA_PS, "/api/generate": OLLAMA_UNLOADED}
    with model_server(answers=answers) as server:
        assert ollama(server).make_room(("lmstudio",)) == [HOLDS]
        (said,) = ollama(server).make_room(("ollama",))
        assert said == f"{HOLDS}; asked to let go of it, it agreed"
        asked = {"model": "gemma3:4b", "keep_alive": 0}
        assert server.asked[-1] == ("POST", "/api/generate", asked)
        del server.answers["/api/generate"]
        (said,) = ollama(server).make_room(("ollama",))
        assert said.endswith("it did not agree: close it yourself if memory runs out")


def test_models_on_the_processor_and_small_ones_are_passed_over() -> None:
    model = OLLAMA_PS["models"][0]
    for held in (0, 300_000_000):
        with model_server(
            answers={"/api/ps": {"models": [{**model, "size_vram": held}]}}
        ) as server:
            assert ollama(server).make_room(("ollama",)) == []
            assert len(server.asked) == 1


def test_lm_studio_is_named_and_lets_go() -> None:
    instance = "google/gemma-4-26b-a4b"
    answers = {
        "/api/v1/models": LMSTUDIO_MODELS,
        "/api/v1/models/unload": {"instance_id": instance},
    }
    with model_server(answers=answers) as server:
        (said,) = lmstudio(server).make_room(("lmstudio",))
        assert said.startswith(f"LM Studio holds 17.99 GB of GPU memory ({instance}); asked")
        assert server.asked[-1] == ("POST", "/api/v1/models/unload", {"instance_id": instance})


@pytest.mark.parametrize("first", [404, UNEXPECTED])
def test_an_older_lm_studio_tells_on_another_path_and_lets_go_of_nothing(first: object) -> None:
    answers = {"/api/v1/models": first, "/api/v0/models": LMSTUDIO_MODELS_V0}
    with model_server(answers=answers) as server:
        (said,) = lmstudio(server).make_room(("lmstudio",))
        assert said.startswith("LM Studio has qwen/qwen3-8b loaded; asked")
        assert "did not agree" in said
        assert [path for _, path, _ in server.asked] == ["/api/v1/models", "/api/v0/models"]


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>It works!</html>",
        b"\xff\xfe",
        b"",
        [],
        {"models": None},
        {"models": [{"name": "x"}]},
        {"models": ["x"]},
        {"models": [{"name": "x", "size_vram": "much"}]},
        {"models": []},
        500,
        401,
        302,
    ],
)
def test_another_server_on_that_port_says_nothing(answer: object) -> None:
    answers = dict.fromkeys(("/api/ps", "/api/v1/models", "/api/v0/models"), answer)
    with model_server(answers=answers) as server:
        assert ollama(server).make_room(("ollama",)) == []
        assert lmstudio(server).make_room(("lmstudio",)) == []
        assert all(method == "GET" for method, _, _ in server.asked)


def test_where_nobody_listens_nothing_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        closed = taken.getsockname()
    programs = Programs({"ollama": closed, "lmstudio": closed}, LONG_SECONDS)
    assert programs.make_room(("ollama",)) == []
    assert Programs({}).make_room() == []


@pytest.mark.parametrize("ways", [{"silent": True}, {"drips": True}])
def test_one_that_hangs_is_not_waited_for(ways: dict[str, bool]) -> None:
    with model_server(answers={"/api/ps": OLLAMA_PS}, **ways) as server:
        began = time.monotonic()
        assert ollama(server, 0.2).make_room() == []
        # It would have taken for ever; how soon it ended depends on the machine.
        assert time.monotonic() - began < LONG_SECONDS
        assert len(server.asked) == 1


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with model_server(answers={"/api/ps": OLLAMA_PS}) as server:
        assert ollama(server).make_room() == [HOLDS]


def test_a_name_obeys_no_terminal() -> None:
    model = {**OLLAMA_PS["models"][0], "name": "\x1b[31mred"}
    with model_server(answers={"/api/ps": {"models": [model]}}) as server:
        (said,) = ollama(server).make_room()
        assert "\x1b" not in said
