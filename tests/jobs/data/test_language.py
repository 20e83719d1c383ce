"""Data in another language than the prompt: told where it is sure, and only there."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from daemon.submit.checks import SubmitChecks, Wanted
from jobs.data.check import check
from jobs.data.examples import Dialogue, Document, read_examples
from jobs.data.language import language_warning, other_language
from jobs.data.messages import Message
from jobs.paths import REPOSITORY, Workspace
from tests.daemon.conftest import fill
from tests.helpers.runs import questions, write_rows

ENGLISH = (
    "What was the name of the ship that they were on? It was the Beagle, which had been there.",
    "Who wrote the novel that you have on your desk? She wrote it when they were in York.",
    "How does the engine of this car work? The fuel is mixed with air, which burns.",
)
SPANISH = (
    "¿Quién fue el autor del libro? El autor fue Miguel de Cervantes, y también escribió más.",
    "¿Cuál es la capital del país y cuándo se fundó? Está en el centro, y es muy antigua.",
    "¿Cómo se llama el equipo? El equipo se llama así porque los jugadores son de la ciudad.",
)
FRENCH = (
    "Quel est le nom du fleuve qui traverse la ville ? Le fleuve est la Seine, et il est long.",
    "Comment fait-on une tarte ? On mélange la farine et les œufs avec du beurre, pas plus.",
)
GERMAN = (
    "Wie heißt der Fluss, der durch die Stadt fließt? Das ist die Elbe, und sie ist sehr lang.",
    "Wann war das Konzert, und wer war dabei? Ich weiß es nicht, aber wir sind auch eingeladen.",
)
PORTUGUESE = (
    "Qual foi o resultado do jogo? O Farense venceu por dois a um em casa, com um golo no fim.",
    "Quem é o treinador da equipa? Não sei quem é, mas o clube foi fundado em Faro há muito tempo.",
    "Onde joga a equipa? A equipa joga no Estádio de São Luís, onde cabem mais de sete mil.",
)
CODE = (
    "def area(width, height):\n    return width * height\n\nfor item in items:\n    print(item)",
    "SELECT name, total FROM orders WHERE total > 10 AND name IS NOT NULL ORDER BY total;",
    "if (x is None) and not done:\n    raise ValueError('x')\nwhile True:\n    x = next(rows)",
)
RUSSIAN = ("Кто написал роман и когда он вышел? Роман написал Толстой, и вышел он давно.",)


def many(texts: tuple[str, ...], words: int = 600) -> list[str]:
    """Return texts over and over until they have so many words."""
    found: list[str] = []
    for text in itertools.cycle(texts):
        if sum(len(t.split()) for t in found) >= words:
            return found
        found.append(text)
    raise AssertionError("nothing to repeat")


@pytest.mark.parametrize(
    ("texts", "language"),
    [(ENGLISH, "English"), (SPANISH, "Spanish"), (FRENCH, "French"), (GERMAN, "German")],
)
def test_another_language_is_told(texts: tuple[str, ...], language: str) -> None:
    assert other_language(many(texts)) == language


def test_other_letters_are_told() -> None:
    assert other_language(many(RUSSIAN)) == "a language that is not written in Latin letters"


@pytest.mark.parametrize("texts", [PORTUGUESE, CODE])
def test_portuguese_and_code_are_not(texts: tuple[str, ...]) -> None:
    assert other_language(many(texts)) is None
    # Portuguese questions about code, or with code in the answers.
    assert other_language(many(PORTUGUESE + texts)) is None


@pytest.mark.parametrize("other", [ENGLISH, SPANISH, FRENCH, GERMAN])
def test_short_and_mixed_data_are_not(other: tuple[str, ...]) -> None:
    assert other_language(many(other, 100)) is None
    assert other_language([]) is None
    assert other_language(many(other) + many(PORTUGUESE)) is None
    # A quarter is enough to be meant for both.
    assert other_language(many(other, 900) + many(PORTUGUESE, 300)) is None


def test_enqueue_tells_it(workspace: Workspace, tiny_model: Path) -> None:
    preset = fill(workspace, tiny_model)
    rows = [{"prompt": text, "completion": text} for text in many(ENGLISH)]
    write_rows(workspace.data / "train.jsonl", rows)
    (remarks,) = SubmitChecks(workspace).check([Wanted(preset.config)])
    assert [text for text in remarks if "look like English" in text]
    write_rows(workspace.data / "train.jsonl", questions(40))
    (remarks,) = SubmitChecks(workspace).check([Wanted(preset.config)])
    assert not [text for text in remarks if "look like" in text]


@pytest.mark.parametrize("name", ["train", "valid"])
def test_the_sample_is_portuguese(name: str) -> None:
    rows = read_examples(REPOSITORY / "data" / "sample" / f"{name}.jsonl")
    assert language_warning(rows, "farense") is None


def test_only_the_format_with_portuguese_words_is_warned_of() -> None:
    rows = [Dialogue((Message("user", text),), text) for text in many(ENGLISH)]
    told = language_warning(rows, "farense")
    assert told is not None
    assert "look like English" in told
    assert "prompt_format: chat" in told
    assert language_warning(rows, "chat") is None
    # No prompt is put around plain texts.
    assert language_warning([Document(text) for text in many(ENGLISH)], "farense") is None


def test_data_check_tells_it_once(tmp_path: Path) -> None:
    rows = [{"prompt": text, "completion": text} for text in many(ENGLISH)]
    train = write_rows(tmp_path / "train.jsonl", rows)
    valid = write_rows(tmp_path / "valid.jsonl", questions(3))
    (told,) = check(train, valid, None).prompt_warnings
    assert "look like English" in told
    assert check(valid, train, None).prompt_warnings == ()
    assert check(train, valid, None, prompt_format="chat").prompt_warnings == ()
