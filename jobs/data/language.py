"""Whether data is in the language of the prompt format. Pure.

The format ``farense`` puts Portuguese words around every question. That is told where the data are
surely in another language: by the words that hold a language together, which hardly any sentence
of it lacks, and which code and names do not have.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import islice

from jobs.data.examples import Dialogue, Example, Problem
from jobs.data.prompts import PromptFormat

WORD = re.compile(r"[^\W\d_]+")
# Function words. Those of two languages, and those that programs are written with (`for`, `in`,
# `is`, `if`, ...), tell nothing and are left out.
WORDS: dict[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "Portuguese": "não uma um os são é em na nos nas do da dos das ao aos à às pelo pela com "
        "mais também foi ou seu sua isso este esta você eu ele ela muito qual quem onde quando já",
        "English": "the of that was were are be been what which who where when how you your it its "
        "this they their have has had does did on at by an my we he she would can",
        "Spanish": "el los las y del una un al lo su más pero también fue está qué quién cuál cómo "
        "cuándo dónde muy ya eres usted yo hay sus porque con por",
        "French": "le les des et est une un dans pour qui du pas au sur plus vous je nous il elle "
        "ce cette avec sont était quel quelle où comment ne se",
        "German": "der die das und ist nicht ein eine zu den mit von auf für sich dem des ich wir "
        "sie wie was wer wo wann war sind auch als bei aus",
        "Italian": "il di che è per non gli della una un del dei con sono nel più anche quale chi "
        "dove quando come ha lo le i alla questo",
    }.items()
}
OURS = "Portuguese"
# Rows that are looked at; a language shows in far fewer.
ROWS = 500
# Fewer words, or fewer telling ones, are too few to say anything.
FEWEST_WORDS = 200
# Of all words, those that tell the other language; prose has two to four times as many.
SHARE = 0.08
# Portuguese ones beside them: where there are more, the data are of both.
MIXED = 0.1
LATIN_END = "\u024f"


def language_warning(rows: Iterable[Example | Problem], prompt_format: PromptFormat) -> str | None:
    """Return what a person should know of data that the prompt format was not made for.

    Args:
        rows: of a file, in order; the first :data:`ROWS` count, and texts without a prompt do not.
    """
    if prompt_format != "farense":
        return None
    asked = (row for row in islice(rows, ROWS) if isinstance(row, Dialogue))
    texts = (text for row in asked for text in (row.context[-1].content, row.completion))
    found = other_language(texts)
    if found is None:
        return None
    return (
        f"The data look like {found}, and prompt_format: farense puts Portuguese words around each "
        "question (### Pergunta: ... ### Resposta:). prompt_format: chat uses the model's own "
        "template."
    )


def other_language(texts: Iterable[str]) -> str | None:
    """Return the language that texts are in rather than Portuguese; None where that is not sure.

    Short, mixed and unknown texts, and code, are none.
    """
    words: Counter[str] = Counter()
    foreign = letters = 0
    for text in texts:
        words.update(WORD.findall(text.lower()))
        letters += sum(map(str.isalpha, text))
        foreign += sum(character > LATIN_END and character.isalpha() for character in text)
    if letters >= 5 * FEWEST_WORDS and foreign > letters / 2:
        return "a language that is not written in Latin letters"
    total = words.total()
    if total < FEWEST_WORDS:
        return None
    counts = {language: sum(words[word] for word in telling(language)) for language in WORDS}
    ours = counts.pop(OURS)
    language, most = max(counts.items(), key=lambda item: item[1])
    return language if most >= SHARE * total and ours <= MIXED * most else None


def telling(language: str) -> frozenset[str]:
    """Return the words that belong to one of the languages alone."""
    others = [words for name, words in WORDS.items() if name != language]
    return WORDS[language].difference(*others)
