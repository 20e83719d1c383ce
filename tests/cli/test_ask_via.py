"""`farense ask --via`: the same question to a server, both answers side by side."""

from __future__ import annotations

import json

from jobs.paths import Workspace
from jobs.storage.files import write_json
from tests.cli.conftest import Run
from tests.helpers.model_server import ModelServer, llama_cpp, model_server, ollama
from tests.helpers.past_runs import FIRST

QUICK = {"MLX_DISABLE_COMPILE": "1"}
QUESTION = "Qual foi o resultado do jogo 101?"
PROMPT = f"### Pergunta:\n{QUESTION}\n\n### Resposta:\n"


def url(served: ModelServer) -> str:
    return "http://{}:{}".format(*served.address)


def test_both_answers_are_shown_and_whether_they_are_the_same(
    past: Workspace, farense: Run
) -> None:
    # As `export --ollama` leaves it: by this the model is known that is meant.
    marker = {"job": FIRST, "kind": "ollama", "ollama": "farense-v2"}
    write_json(past.output / "x-ollama/farense_export.json", marker)
    arguments = ("ask", FIRST, QUESTION, "--max-new-tokens", "6", "--via")
    with model_server(answers=ollama(" O Porto ", "venceu.\x1b[2J")) as served:
        done = farense(*arguments, url(served), **QUICK)
    assert done.code == 0, done.err
    assert served.asked[-1][2]["model"] == "farense-v2:latest"
    assert served.asked[-1][2]["prompt"] == PROMPT
    assert served.asked[-1][2]["options"]["num_predict"] == 6
    ours, theirs = done.out.split("\n\n", 1)
    assert ours.startswith("farense:\nO ")
    answer = ours.removeprefix("farense:\n")
    assert theirs.startswith("Ollama 0.14.2, farense-v2:latest:\nO Porto venceu.?[2J\n")
    assert "They part at word 2: " in theirs

    with model_server(answers=llama_cpp(f" {answer}\n", tokens=[])) as served:
        done = farense(*arguments, url(served), "--json", **QUICK)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["answer"], found["via"]["answer"], found["via"]["same"]) == (answer, answer, True)
    assert (found["via"]["url"], found["via"]["cut"]) == (url(served), False)


def test_a_server_is_looked_for_before_the_model_is_loaded(past: Workspace, farense: Run) -> None:
    with model_server() as served:
        done = farense("ask", FIRST, QUESTION, "--via", url(served))
    assert (done.code, done.out) == (2, "")
    assert "is neither Ollama nor a server of llama.cpp" in done.err
    away = farense("ask", FIRST, QUESTION, "--via", url(served))
    assert (away.code, away.out) == (1, "")
    assert "Nothing listens at" in away.err


def test_options_that_need_each_other_say_so(past: Workspace, invoke: Run) -> None:
    done = invoke("ask", FIRST, QUESTION, "--via-model", "x")
    assert done.code == 2
    assert "give both" in done.err
    done = invoke("ask", FIRST, QUESTION, "--via", "x", "--reasoning")
    assert done.code == 2
    assert "--json" in done.err
