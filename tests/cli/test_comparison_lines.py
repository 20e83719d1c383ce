"""A comparison on the screen: colour, narrow terminals, and text that a terminal would obey."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from click import unstyle

from cli.show.comparison_lines import comparison_lines
from cli.show.table import display_width
from jobs.compare.advice import advice
from jobs.compare.changed import Changed
from jobs.compare.comparison import Comparison, compare
from jobs.compare.criteria import criteria
from jobs.compare.decision import Action, Recommendation, Relation, decide
from jobs.compare.paired import ScoreDifference
from jobs.config.differences import differences
from jobs.past_run import read_run
from jobs.paths import Workspace
from jobs.state import State
from tests.helpers.past_runs import FIRST, SECOND
from tests.helpers.sides import made_side


@pytest.fixture
def found(past_template: Workspace) -> Comparison:
    runs = (read_run(past_template.run(job_id).path) for job_id in (FIRST, SECOND))
    return compare(*runs)


def test_colour_changes_no_letter(found: Comparison) -> None:
    plain = comparison_lines(found, "farense enqueue tiny")
    coloured = comparison_lines(found, "farense enqueue tiny", colour=True)
    assert "\x1b" in "".join(coloured)
    assert [unstyle(line) for line in coloured] == plain


def test_a_table_that_is_too_wide_becomes_a_list(found: Comparison) -> None:
    lines = comparison_lines(found, None, 50)
    assert max(map(display_width, lines)) <= 50
    start = lines.index("SUCCESS CRITERIA")
    assert lines[start + 1 : start + 4] == [
        "No crash",
        "    A  met: completed",
        "    B  met: completed",
    ]


def test_a_terminal_finds_nothing_to_obey(found: Comparison) -> None:
    evil = Changed("\x1b[2Jo\u202equê?", "sim\r\n\x07", "\x9b31m", "a\nb", 0.1, 0.9, 0.8)
    text = "".join(comparison_lines(replace(found, better=(evil,)), None))
    assert not [c for c in text if not c.isprintable()]


def test_settings_that_are_read_together_stand_in_one_row(found: Comparison) -> None:
    a, b = found.a, replace(found.b, config={**found.b.config, "batch_size": 1})
    changed = replace(found, a=a, b=b, config=tuple(differences(a.config, b.config)))
    (line,) = (line for line in comparison_lines(changed, None) if line.startswith("batch_size"))
    assert line.split("  ")[0] == "batch_size x gradient_accumulation"
    assert line.endswith("2 x 2  1 x 2")


def test_a_gap_is_one_figure_wherever_it_stands() -> None:
    a = replace(made_side(gap=0.8645), name="a")
    b = replace(made_side(gap=0.9645, gap_status="CRÍTICO"), name="b")
    decision = decide(a, b, ScoreDifference("token_f1", None, None, None), "not evaluated")
    whole = Comparison(
        a, b, True, (), (), 0, (), (), criteria(a, b), decision, advice(a, b), ()
    )  # fmt: skip
    text = "\n".join(comparison_lines(whole, None))
    assert set(re.findall(r"\b0\.86\d+", text)) == {f"{0.8645:.3f}"}
    assert set(re.findall(r"\b0\.96\d+", text)) == {f"{0.9645:.3f}"}
    (line,) = (line for line in text.splitlines() if line.startswith("Gap at the best step"))
    assert line.split()[-1] == "+0.100"


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State.COMPLETED, "No rule says what to change in B"),
        (State.FAILED, f"farense logs {SECOND}"),
        (State.RUNNING, None),
    ],
)
def test_where_no_rule_applies(found: Comparison, state: State, expected: str | None) -> None:
    kept = Recommendation(Relation.WORSE, Action.KEEP_A, None, ("Because.",))
    b = replace(found.b, state=state)
    lines = comparison_lines(replace(found, b=b, advice=(), decision=kept), None)
    if expected is None:
        assert lines[-1] == "- Because."
    else:
        assert expected in lines[-1]
