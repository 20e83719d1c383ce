"""An answer as it grows, and the prompt it answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.data.examples import Dialogue
from jobs.data.reasoning import Frame, Marks
from jobs.errors import InvalidInput
from jobs.evaluation.ask import Answerer, pieces
from jobs.paths import Workspace
from jobs.spec import read_spec
from jobs.storage.files import read_json, whole_lines
from tests.helpers.past_runs import FIRST
from tests.helpers.runs import make_run


def decode(tokens: list[int]) -> str:
    return bytes(tokens).decode(errors="replace")


def grown(text: bytes, end: str) -> list[str]:
    """Return the texts of the pieces of an answer whose tokens are bytes."""
    made = [(byte, None) for byte in text[:-1]] + [(text[-1], end)]
    return [piece.text for piece in pieces(made, decode)]


def test_an_answer_grows_by_whole_characters_without_white_space_around_it() -> None:
    assert grown("  É o 2.º \n\n".encode(), "length") == [
        *("", "", "", "É", "", " o", "", " 2", ".", "", "º", "", "", ""),
    ]


def test_the_token_that_ends_it_is_none_of_it() -> None:
    assert grown(b"Sim.x", "stop") == ["S", "i", "m", ".", ""]
    assert [p.tokens for p in pieces([(1, "stop")], decode)] == [0]


CHANNELS = Frame(
    Marks("<|channel|>analysis<|message|>", "<|end|>", "<|start|>assistant"),
    head="<|channel|>final<|message|>",
    tail="<|fim|>",
)
ANSWER = b"<|channel|>final<|message|> Em <Faro>.<|fim|>"


@pytest.mark.parametrize(
    ("frame", "said", "reasoning"),
    [
        (CHANNELS, ANSWER, ""),
        (
            CHANNELS,
            b"<|channel|>analysis<|message|>No < sul.<|end|><|start|>assistant" + ANSWER,
            "No < sul.",
        ),
        (Frame(Marks("<think>", "</think>")), b"<think>\n1 < 2\n</think>\n\nEm <Faro>.", "1 < 2"),
        (Frame(Marks("<think>", "</think>"), opened=True), b"A.</think>Em <Faro>.", "A."),
        (Frame(Marks("<think>", "</think>")), b"Em <Faro>.", ""),
    ],
)
@pytest.mark.parametrize("end", ["length", "stop"])
def test_reasoning_and_marks_around_an_answer_are_none_of_it(
    frame: Frame, said: bytes, reasoning: str, end: str
) -> None:
    made: list[tuple[int, str | None]] = [(byte, None) for byte in said]
    made[-1:] = [(said[-1], "length")] if end == "length" else [(said[-1], None), (0, "stop")]
    found = list(pieces(made, decode, frame))
    assert "".join(piece.text for piece in found) == "Em <Faro>."
    assert "".join(piece.reasoning for piece in found) == reasoning
    # Both grow a little at a time.
    longest = max(len(piece.text) for piece in found), max(len(p.reasoning) for p in found)
    assert longest <= (len("<Faro>."), len("< sul."))


def test_reasoning_that_never_ends_is_no_answer() -> None:
    made: list[tuple[int, str | None]] = [(byte, None) for byte in b"<think>Talvez </thi"]
    found = list(pieces([*made, (ord("n"), "length")], decode, Frame(Marks("<think>", "</think>"))))
    assert "".join(piece.text for piece in found) == ""
    assert "".join(piece.reasoning for piece in found) == "Talvez </thin"


def test_what_no_character_comes_of_is_shown_at_the_end() -> None:
    assert grown(b"a\xc3", "length") == ["a", "\N{REPLACEMENT CHARACTER}"]


@pytest.mark.parametrize("base", [False, True])
def test_the_answers_are_those_of_the_evaluation(past: Workspace, base: bool) -> None:
    run = past.run(FIRST)
    limit = read_json(run.evaluation / "evaluation_report.json")["max_new_tokens"]
    answerer = Answerer(past, read_spec(run), base=base)
    by = "base_" if base else ""
    for row in map(json.loads, whole_lines(run.evaluation / "answers.jsonl")):
        found = list(answerer.answer(row["question"], limit))
        assert "".join(piece.text for piece in found) == row[f"{by}answer"]
        assert (found[-1].end == "length") == row[f"{by}cut"]


def test_a_system_message_that_all_examples_have_comes_before_the_question(
    workspace: Workspace, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def row(system: str) -> dict[str, object]:
        turns = (("system", system), ("user", "Quem?"), ("assistant", "O Farense."))
        return {"messages": [{"role": role, "content": text} for role, text in turns]}

    asked: list[list[str]] = []

    def remembered(question: Dialogue, *_: object) -> tuple[int, ...]:
        asked.append([message.content for message in question.context])
        return (0,)

    for letters, rows in (("aaaa", [row("Sê breve.")] * 2), ("bbbb", [row("A"), row("B")])):
        run = make_run(workspace, tiny_model, f"20261122-210000-tiny-{letters}", valid_rows=rows)
        answerer = Answerer(workspace, read_spec(run), base=True)
        with monkeypatch.context() as patch:
            patch.setattr("jobs.evaluation.ask.prompt_tokens", remembered)
            list(answerer.answer("Onde?", 1))
    assert asked == [["Sê breve.", "Onde?"], ["Onde?"]]


def test_without_an_adapter_only_the_base_model_answers(
    workspace: Workspace, tiny_model: Path
) -> None:
    spec = read_spec(make_run(workspace, tiny_model))
    with pytest.raises(InvalidInput, match="has no adapter"):
        Answerer(workspace, spec)
    assert list(Answerer(workspace, spec, base=True).answer("Quem?", 2))[-1].tokens == 2
