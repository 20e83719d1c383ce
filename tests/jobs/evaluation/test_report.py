"""What of an example stands in the report of an evaluation."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.data.examples import Dialogue
from jobs.data.messages import Message
from jobs.evaluation.report import category_of


@pytest.mark.parametrize(
    ("tipo", "category"),
    [("golos", "golos"), (3, "3"), (0, "0"), (True, None), (False, None), (" ", None), ([], None)],
)
def test_a_category_is_a_name_or_a_number(tipo: Any, category: str | None) -> None:
    row = Dialogue((Message("user", "Quem?"),), "Ele.", metadata={"tipo": tipo})
    assert category_of(row) == category
