"""Two answers beside each other on a terminal."""

from __future__ import annotations

import pytest

from cli.show.side_by_side import parting, side_by_side

HEADS = ("farense", "Ollama 1, x")


def test_on_a_wide_terminal_they_stand_in_columns() -> None:
    heads = ("farense", "llama.cpp b6500, farense-v2-q8_0.gguf")
    texts = ("Em Faro, desde mil novecentos e vinte e três.", "Não sei.\nTalvez.")
    assert side_by_side(heads, texts, 65) == (
        "farense                         |  llama.cpp b6500,\n"
        "                                |  farense-v2-q8_0.gguf\n"
        "------------------------------  |  ------------------------------\n"
        "Em Faro, desde mil novecentos   |  Não sei.\n"
        "e vinte e três.                 |  Talvez."
    )


@pytest.mark.parametrize("width", [None, 40])
def test_elsewhere_one_below_the_other(width: int | None) -> None:
    assert side_by_side(HEADS, ("a b", "c"), width) == "farense:\na b\n\nOllama 1, x:\nc"


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ("Em Faro.", "Em Faro.", "The same answer."),
        ("Em Faro.", "Em  Faro.", "The same words, with other white space between them."),
        ("Em Faro.", "Em Olhão.", "They part at word 2: 'Faro.' here, 'Olhão.' there."),
        ("Em Faro.", "Em", "They part at word 2: 'Faro.' here, the end there."),
        ("", "Em", "They part at word 1: the end here, 'Em' there."),
    ],
)
def test_where_they_part_is_said(ours: str, theirs: str, said: str) -> None:
    assert parting(ours, theirs) == said
