"""What an answer is worth: SQuAD's definitions computed a second time, and Portuguese."""

from __future__ import annotations

import random
import re
import string

import pytest

from jobs.evaluation.scores import METRICS, score, words

# No article of either language, no accent, no digits: there both normalizations do the same.
VOCABULARY = ("Farense", "venceu", "Benfica", "casa", "golos", "dois", "perdeu", "Leixoes", "em")
PUNCTUATION = ("", "", "", ".", ",", "!", "?", ";", ":", "-", "'", '"', "(", ")", "$", "%")


def squad_words(text: str) -> list[str]:
    """The evaluation script of SQuAD v1.1, once more: lower case, punctuation, articles, space."""
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def squad(answer: str, reference: str) -> tuple[float, float]:
    given, wanted = squad_words(answer), squad_words(reference)
    rest, common = list(wanted), 0
    for word in given:
        if word in rest:
            rest.remove(word)
            common += 1
    if common == 0:
        return float(given == wanted), 0.0
    precision, recall = common / len(given), common / len(wanted)
    return float(given == wanted), 2 * precision * recall / (precision + recall)


def sentence(chance: random.Random, length: int) -> str:
    found = []
    for _ in range(length):
        word = chance.choice(VOCABULARY)
        cased = chance.choice((word, word.lower(), word.upper()))
        found.append(chance.choice(PUNCTUATION) + cased + chance.choice(PUNCTUATION))
    return chance.choice((" ", "  ", "\n")).join(found)


def test_exact_match_and_token_f1_are_those_of_squad() -> None:
    chance = random.Random(7)  # noqa: S311 - generated text
    compared: list[tuple[float, float]] = []
    for number in range(200):
        reference = sentence(chance, chance.randint(1, 8))
        # Every fourth answer is right but for case and punctuation.
        right = number % 4 == 0
        answer = f" {reference.upper()} ." if right else sentence(chance, chance.randint(0, 8))
        expected = squad(answer, reference)
        found = score(answer, reference)
        assert found["exact_match"] == expected[0], (answer, reference)
        assert found["token_f1"] == pytest.approx(expected[1], abs=1e-12), (answer, reference)
        compared.append(expected)
    # Hits, misses and halves are all among them.
    assert {0.0, 1.0} == {exact for exact, _ in compared}
    assert sum(0 < f1 < 1 for _, f1 in compared) > 50


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("O Farense perdeu por 0-3.", ["o", "farense", "perdeu", "por", "0-3"]),
        ("(0–3), 0—3; 0−3", ["0-3", "0-3", "0-3"]),
        ("Em 1995/96, às 21:30.", ["em", "1995/96", "às", "21:30"]),
        ("28-01-1973: 1.234,5 euros", ["28-01-1973", "1.234,5", "euros"]),
        ("O 1.º golo, aos 90'.", ["o", "1º", "golo", "aos", "90"]),
        ("«Beira-Mar» - Farense", ["beiramar", "farense"]),
        ("e\u0301poca", ["época"]),
        ("...", []),
    ],
)
def test_numbers_dates_and_scores_stay_tokens(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_articles_case_and_punctuation_make_no_difference_and_a_score_does() -> None:
    reference = "O Farense venceu a equipa por 2-1."
    assert score("FARENSE venceu uma equipa, por 2-1", reference)["exact_match"] == 1.0
    wrong = score("O Farense venceu a equipa por 1-2.", reference)
    assert wrong["exact_match"] == 0.0
    assert wrong["token_f1"] == pytest.approx(0.8)


def test_accents_make_a_difference_unless_told_otherwise() -> None:
    given, wanted = "Nao foi a epoca", "Não foi à época"
    assert score(given, wanted)["token_f1"] == pytest.approx(2 / 7)
    same = score(given, wanted, ignore_accents=True)
    assert (same["token_f1"], same["exact_match"], same["rouge_l"]) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    # From Google's rouge-score 0.1.2 with these words as its tokens. (Its own tokenizer takes
    # accented letters and dashes for gaps: 0.7 for the first.)
    [
        (
            "O Farense perdeu por 1-4 em casa do Barreirense.",
            "O Farense perdeu em casa do Barreirense por 4-1.",
            0.7777777777777778,
        ),
        ("Não marcou à época.", "Nao marcou a época", 0.5),
        ("", "O Farense venceu.", 0.0),
    ],
)
def test_rouge_l_is_that_of_the_reference_implementation(
    answer: str, reference: str, expected: float
) -> None:
    assert score(answer, reference)["rouge_l"] == pytest.approx(expected, abs=1e-12)


def test_every_score_is_one_for_the_reference_and_none_for_nothing() -> None:
    text = "Foi em 28 de janeiro de 1973."
    assert score(text, text) == dict.fromkeys(METRICS, 1.0)
    assert score("", text) == dict.fromkeys(METRICS, 0.0)


def test_chrf_sees_that_a_word_is_nearly_right() -> None:
    near, far = (score(a, "Foi o Leixões")["chrf"] for a in ("Foi o Leixoes", "Foi o Benfica"))
    assert 1 > near > far > 0
