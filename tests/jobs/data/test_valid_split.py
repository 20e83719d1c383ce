"""A part of the data for validation: the same by seed, a question on one side, kinds in shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from jobs.config.share import percent, share_of
from jobs.data.examples import Dialogue, Document, Example
from jobs.data.messages import Message
from jobs.data.valid_split import SplitKeys


def example(question: str, kind: str | None = None, answer: str = "Sim.") -> Dialogue:
    metadata = {} if kind is None else {"tipo": kind}
    return Dialogue((Message("user", question),), answer, metadata=metadata)


def sides(rows: Sequence[Example], share: str, seed: int = 42) -> Sequence[bool]:
    keys = SplitKeys(seed)
    for row in rows:
        keys.add(row)
    return keys.valid_rows(share_of(share))


def asked(rows: Sequence[Dialogue], chosen: Sequence[bool]) -> set[str]:
    return {row.context[0].content for row, it in zip(rows, chosen, strict=True) if it}


def test_the_same_by_seed_in_whatever_order_the_rows_are() -> None:
    rows = [example(f"Pergunta {number}?") for number in range(500)]
    mixed = [*rows[1::2], *reversed(rows[0::2])]
    found = asked(rows, sides(rows, "10%"))
    assert len(found) == 50
    assert asked(mixed, sides(mixed, "10%")) == found
    assert asked(rows, sides(rows, "10%", seed=43)) != found


def test_a_few_more_rows_change_little() -> None:
    rows = [example(f"Pergunta {number}?") for number in range(500)]
    before = asked(rows, sides(rows, "10%"))
    rows += [example(f"Outra {number}?") for number in range(20)]
    assert len(before & asked(rows, sides(rows, "10%"))) >= 45


def test_the_same_question_stays_on_one_side() -> None:
    wordings = ("Quem ganhou o jogo {}?", "quem  ganhou o jogo {}")
    rows = [example(text.format(number)) for number in range(200) for text in wordings]
    chosen = sides(rows, "25%")
    assert sum(chosen) == 100
    assert chosen[0::2] == chosen[1::2]


def test_each_kind_keeps_its_share() -> None:
    kinds = ["a"] * 300 + ["b"] * 95 + ["c"] * 5 + [None] * 100
    rows = [example(f"Pergunta {number}?", kind) for number, kind in enumerate(kinds)]
    chosen = sides(rows, "10%")
    taken = Counter(kind for kind, it in zip(kinds, chosen, strict=True) if it)
    assert sum(taken.values()) == 50
    assert taken["a"] == 30
    assert taken[None] == 10
    assert (taken["b"], taken["c"]) in ((10, 0), (9, 1))


def test_a_number_and_texts() -> None:
    rows = [Document(f"Texto {number}.") for number in range(30)]
    assert sum(sides(rows, "7")) == 7
    assert sum(sides([*rows, *rows], "7")) in (6, 8)


@pytest.mark.parametrize(
    ("count", "share", "reason"),
    [
        (4, "10%", "10% of 4 examples would leave none for validation"),
        (3, "3", "3 of 3 examples would leave none"),
        (1, "50%", "50% of 1 example would leave none"),
        (0, "10%", "10% of 0 examples would leave none"),
    ],
)
def test_an_empty_side_is_refused(count: int, share: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        sides([example(f"{number}") for number in range(count)], share)


def test_one_question_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="all 10 examples ask the same"):
        sides([example("Quem?", answer=f"{number}") for number in range(10)], "10%")


@pytest.mark.parametrize("text", ["0%", "51%", "100%", "1e1%", "0", "-3", "ten", "", "1 0%", "١٠%"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(ValueError, match=r"neither a share|no share for validation"):
        share_of(text)


def test_a_file_is_no_percentage() -> None:
    assert percent("data/valid.jsonl") is None
    assert percent("data/10%") is None
    found = percent("2.5%")
    assert found is not None
    assert found.of(1000) == 25
