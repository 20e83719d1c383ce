"""Write the sample data: questions in Portuguese about matches of Sporting Clube Farense.

``python data/sample/build.py`` reads ``facts.csv`` and writes ``train.jsonl`` and ``valid.jsonl``
beside it, always the same bytes. Training asks each known fact in three ways. Validation asks some
of these facts in wordings that training never uses (``conhecido: true``), and facts that training
does not mention in wordings that it does use (``conhecido: false``): the first show whether the
model generalizes from what it was told, the second cannot be known.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent

# Every ninth fact stays unknown to training.
UNKNOWN_EVERY = 9
REWORDED = 56

MONTHS = (
    *("janeiro", "fevereiro", "março", "abril", "maio", "junho"),
    *("julho", "agosto", "setembro", "outubro", "novembro", "dezembro"),
)
FEMININE_CLUBS = {"Académica", "CUF", "União de Leiria"}


@dataclass(frozen=True)
class Fact:
    """One away match; goals are counted for Farense and for its opponent."""

    season: str
    competition: str
    day: date
    opponent: str
    scored: int
    conceded: int

    @property
    def _article(self) -> str:
        return "a" if self.opponent in FEMININE_CLUBS else "o"

    @property
    def written_day(self) -> str:
        """The date in words: ``29 de setembro de 1991``."""
        return f"{self.day.day} de {MONTHS[self.day.month - 1]} de {self.day.year}"

    def fill(self, wording: str) -> str:
        """Return ``wording`` with this fact in its gaps.

        ``{adv}`` is the opponent, ``{o_adv}`` and ``{do_adv}`` the same with its article;
        ``{jogo}`` the match, ``{data}`` its date, ``{prova}`` competition and season.
        """
        return wording.format(
            adv=self.opponent,
            o_adv=f"{self._article} {self.opponent}",
            do_adv=f"d{self._article} {self.opponent}",
            jogo=f"{self.opponent}-Farense",
            data=self.written_day,
            prova=f"{self.competition} de {self.season}",
        )


@dataclass(frozen=True)
class Question:
    """A type of question: wordings for training, wordings kept for validation, and the answer."""

    trained: tuple[str, ...]
    held_out: tuple[str, ...]
    answer: Callable[[Fact], str]


def result_answer(fact: Fact) -> str:
    """Say how the match ended for Farense, its own goals first."""
    score = f"{fact.scored}-{fact.conceded}"
    if fact.scored == fact.conceded:
        return fact.fill(f"O Farense empatou {score} em casa {{do_adv}}.")
    verb = "venceu" if fact.scored > fact.conceded else "perdeu"
    return fact.fill(f"O Farense {verb} por {score} em casa {{do_adv}}.")


def winner_answer(fact: Fact) -> str:
    """Name the winner, the winner's goals first."""
    high, low = max(fact.scored, fact.conceded), min(fact.scored, fact.conceded)
    if high == low:
        return f"Ninguém venceu: empataram {high}-{low}."
    winner = "o Farense" if fact.scored > fact.conceded else fact.fill("{o_adv}")
    return f"Venceu {winner}, por {high}-{low}."


def goals_answer(fact: Fact) -> str:
    """Count the goals that Farense scored and conceded."""
    match fact.scored, fact.conceded:
        case 0, 0:
            return "O Farense não marcou nem sofreu golos."
        case 0, conceded:
            return f"O Farense não marcou e sofreu {_goals(conceded)}."
        case scored, 0:
            return f"O Farense marcou {_goals(scored)} e não sofreu nenhum."
        case scored, conceded:
            return f"O Farense marcou {_goals(scored)} e sofreu {conceded}."


def season_answer(fact: Fact) -> str:
    """Name the competition and the season, which the date gives away."""
    return fact.fill("Foi na {prova}.")


def day_answer(fact: Fact) -> str:
    """Give the date."""
    return fact.fill("Foi em {data}.")


def _goals(count: int) -> str:
    return "1 golo" if count == 1 else f"{count} golos"


QUESTIONS = {
    "resultado": Question(
        trained=(
            "Qual foi o resultado do Farense em casa {do_adv} em {data}?",
            "Como terminou o jogo entre {o_adv} e o Farense de {data}?",
            "Em {data}, que resultado fez o Farense em casa {do_adv}?",
            "Que resultado obteve o Farense contra {o_adv} em {data}?",
        ),
        held_out=(
            "Como ficou o {jogo} de {data}?",
            "O Farense visitou {o_adv} em {data}. Qual foi o resultado?",
        ),
        answer=result_answer,
    ),
    "vencedor": Question(
        trained=(
            "Quem venceu o {jogo} da {prova}?",
            "Que equipa ganhou quando o Farense visitou {o_adv} na {prova}?",
            "Na {prova}, quem ganhou o jogo entre {o_adv} e o Farense?",
            "Quem levou a melhor no {jogo} da {prova}?",
        ),
        held_out=(
            "O Farense foi a casa {do_adv} na {prova}. Quem ganhou?",
            "Qual foi a equipa vencedora do {jogo} da {prova}?",
        ),
        answer=winner_answer,
    ),
    "golos": Question(
        trained=(
            "Quantos golos marcou e sofreu o Farense em casa {do_adv} em {data}?",
            "Em {data}, quantos golos marcou o Farense em casa {do_adv}, e quantos sofreu?",
            "Quantos golos fez o Farense contra {o_adv} em {data}, e quantos sofreu?",
            "No jogo de {data} com {o_adv}, quantos golos marcou e sofreu o Farense?",
        ),
        held_out=(
            "Quantos golos houve para cada lado no {jogo} de {data}?",
            "O Farense jogou em casa {do_adv} em {data}. Quantos golos marcou e quantos sofreu?",
        ),
        answer=goals_answer,
    ),
    "epoca": Question(
        trained=(
            "Em que competição e época se jogou o {jogo} de {data}?",
            "O jogo de {data} entre {o_adv} e o Farense contou para que competição e época?",
            "De que competição e época foi o jogo do Farense em casa {do_adv} em {data}?",
            "Em que competição e época é que o Farense visitou {o_adv} em {data}?",
        ),
        held_out=(
            "O Farense visitou {o_adv} em {data}. Em que competição e época foi?",
            "A que competição e época pertence o {jogo} de {data}?",
        ),
        answer=season_answer,
    ),
    "data": Question(
        trained=(
            "Em que dia o Farense visitou {o_adv} na {prova}?",
            "Quando se jogou o {jogo} da {prova}?",
            "Qual foi a data do jogo do Farense em casa {do_adv} na {prova}?",
            "Na {prova}, em que data jogou o Farense em casa {do_adv}?",
        ),
        held_out=(
            "Em que dia se disputou o {jogo} da {prova}?",
            "O Farense foi a casa {do_adv} na {prova}. Em que data?",
        ),
        answer=day_answer,
    ),
}

# What training asks about a fact, in turns.
THREES = (
    ("resultado", "vencedor", "golos"),
    ("resultado", "vencedor", "epoca"),
    ("resultado", "golos", "epoca"),
    ("vencedor", "golos", "data"),
)
# What validation asks about an unknown fact, in turns; a date could only be guessed.
ABOUT_UNKNOWN = ("resultado", "vencedor", "golos", "epoca")


def read_facts(path: Path = HERE / "facts.csv") -> list[Fact]:
    """Return the facts, oldest first."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Fact(
                season=row["epoca"],
                competition=row["competicao"],
                day=date.fromisoformat(row["data"]),
                opponent=row["adversario"],
                scored=int(row["golos_farense"]),
                conceded=int(row["golos_adversario"]),
            )
            for row in csv.DictReader(file)
        ]


def split_facts(facts: list[Fact]) -> tuple[list[Fact], list[Fact]]:
    """Return the facts that training asks about, and those it never mentions."""
    unknown = facts[UNKNOWN_EVERY - 1 :: UNKNOWN_EVERY]
    return [fact for fact in facts if fact not in unknown], unknown


def train_rows(known: list[Fact]) -> Iterator[dict[str, Any]]:
    """Yield three questions about each known fact; wordings take turns."""
    for number, fact in enumerate(known):
        for turn, kind in enumerate(THREES[number % len(THREES)]):
            wordings = QUESTIONS[kind].trained
            # The quotient moves on too: a type that comes every fourth fact gets all its wordings.
            wording = wordings[(number + number // len(wordings) + turn) % len(wordings)]
            yield _row(fact, kind, wording)


def valid_rows(known: list[Fact], unknown: list[Fact]) -> Iterator[dict[str, Any]]:
    """Yield known facts in wordings of their own, then unknown facts in wordings of training."""
    for number in range(REWORDED):
        index = number * len(known) // REWORDED
        kind = THREES[index % len(THREES)][number % 3]
        held_out = QUESTIONS[kind].held_out
        yield _row(known[index], kind, held_out[number // 3 % len(held_out)], known=True)
    for number, fact in enumerate(unknown):
        kind = ABOUT_UNKNOWN[number % len(ABOUT_UNKNOWN)]
        trained = QUESTIONS[kind].trained
        yield _row(fact, kind, trained[number // len(ABOUT_UNKNOWN) % len(trained)], known=False)


def _row(fact: Fact, kind: str, wording: str, known: bool | None = None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"tipo": kind}
    if known is not None:
        metadata["conhecido"] = known
    answer = QUESTIONS[kind].answer(fact)
    return {"prompt": fact.fill(wording), "completion": answer, "metadata": metadata}


def as_json_lines(rows: Iterator[dict[str, Any]]) -> str:
    """Return one JSON object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main() -> None:
    """Write both files."""
    known, unknown = split_facts(read_facts())
    for name, rows in (
        ("train.jsonl", train_rows(known)),
        ("valid.jsonl", valid_rows(known, unknown)),
    ):
        content = as_json_lines(rows)
        (HERE / name).write_text(content, encoding="utf-8", newline="\n")
        print(f"{name}: {content.count(chr(10))} examples")


if __name__ == "__main__":
    main()
