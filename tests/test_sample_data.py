"""The sample data: reproducible, clean, and split as its build script says."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from jobs.data.check import check
from jobs.paths import REPOSITORY

SAMPLE = REPOSITORY / "data" / "sample"

Row = dict[str, Any]


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sample_build", SAMPLE / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def rows(name: str) -> list[Row]:
    lines = (SAMPLE / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_script_writes_exactly_the_committed_files(tmp_path: Path) -> None:
    copy = tmp_path / "sample"
    copy.mkdir()
    for name in ("build.py", "facts.csv"):
        shutil.copy(SAMPLE / name, copy)
    subprocess.run([sys.executable, copy / "build.py"], check=True, capture_output=True)
    for name in ("train.jsonl", "valid.jsonl"):
        assert (copy / name).read_bytes() == (SAMPLE / name).read_bytes()


def test_data_check_finds_nothing(build: ModuleType) -> None:
    report = check(SAMPLE / "train.jsonl", SAMPLE / "valid.jsonl", None)
    assert report.usable
    assert not report.leaked_examples
    assert not report.leaked_questions
    assert report.valid is not None
    for file, examples in ((report.train, 600), (report.valid, 80)):
        assert file.examples == examples
        assert not (file.problems or file.duplicates or file.near_duplicates or file.conflicts)


def test_every_known_fact_is_asked_in_three_wordings(build: ModuleType) -> None:
    known, unknown = build.split_facts(build.read_facts())
    assert (len(known), len(unknown)) == (200, 24)
    prompts = {row["prompt"] for row in rows("train.jsonl")}
    for fact in known:
        assert len(asked_about(build, fact, "trained") & prompts) == 3
    for fact in unknown:
        assert not asked_about(build, fact, "trained") & prompts


def test_validation_flags_known_and_unknown_facts_rightly(build: ModuleType) -> None:
    known, unknown = build.split_facts(build.read_facts())
    reworded = set().union(*(asked_about(build, fact, "held_out") for fact in known))
    about_unknown = set().union(*(asked_about(build, fact, "trained") for fact in unknown))
    valid = rows("valid.jsonl")
    for row in valid:
        source = reworded if row["metadata"]["conhecido"] else about_unknown
        assert row["prompt"] in source
    assert sum(row["metadata"]["conhecido"] for row in valid) == 56


def test_what_validation_asks_about_a_known_fact_training_has_told(build: ModuleType) -> None:
    known, _ = build.split_facts(build.read_facts())
    told = {(row["prompt"], row["completion"]) for row in rows("train.jsonl")}
    for row in rows("valid.jsonl")[:56]:
        kind = row["metadata"]["tipo"]
        question = build.QUESTIONS[kind]
        (fact,) = [
            fact
            for fact in known
            if row["prompt"] in {fact.fill(wording) for wording in question.held_out}
        ]
        assert any((fact.fill(wording), row["completion"]) in told for wording in question.trained)


def test_every_type_of_question_is_there() -> None:
    kinds = {"resultado", "vencedor", "golos", "epoca", "data"}
    assert {row["metadata"]["tipo"] for row in rows("train.jsonl")} == kinds
    assert {row["metadata"]["tipo"] for row in rows("valid.jsonl")} == kinds


@pytest.mark.parametrize(
    ("scored", "conceded", "result", "winner", "goals"),
    [
        (2, 1, "venceu por 2-1", "Venceu o Farense, por 2-1.", "marcou 2 golos e sofreu 1."),
        (0, 1, "perdeu por 0-1", "Venceu a Académica, por 1-0.", "não marcou e sofreu 1 golo."),
        (1, 1, "empatou 1-1", "Ninguém venceu: empataram 1-1.", "marcou 1 golo e sofreu 1."),
        (0, 0, "empatou 0-0", "Ninguém venceu: empataram 0-0.", "não marcou nem sofreu golos."),
        (1, 0, "venceu por 1-0", "Venceu o Farense", "marcou 1 golo e não sofreu nenhum."),
        (0, 3, "perdeu por 0-3", "Venceu a Académica", "não marcou e sofreu 3 golos."),
    ],
)
def test_answers_agree_in_number_and_gender(
    build: ModuleType, scored: int, conceded: int, result: str, winner: str, goals: str
) -> None:
    fact = build.Fact("1991/92", "I Divisão", build.date(1991, 9, 1), "Académica", scored, conceded)
    assert build.result_answer(fact) == f"O Farense {result} em casa da Académica."
    assert build.winner_answer(fact).startswith(winner)
    assert build.goals_answer(fact) == f"O Farense {goals}"
    assert build.day_answer(fact) == "Foi em 1 de setembro de 1991."
    assert build.season_answer(fact) == "Foi na I Divisão de 1991/92."


def test_the_season_of_every_fact_fits_its_date(build: ModuleType) -> None:
    facts = build.read_facts()
    assert len({fact.day for fact in facts}) == len(facts)
    for fact in facts:
        first = fact.day.year if fact.day.month >= 8 else fact.day.year - 1
        assert fact.season == f"{first}/{(first + 1) % 100:02d}"


def asked_about(build: ModuleType, fact: Any, wordings: str) -> set[str]:
    """Return every question that there is about a fact, in trained or held-out wordings."""
    return {
        fact.fill(wording)
        for question in build.QUESTIONS.values()
        for wording in getattr(question, wordings)
    }
