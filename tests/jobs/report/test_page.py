"""The page: what it tells, in a real browser, of runs whole and broken; nothing in it is obeyed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from jobs.past_run import PastRun, read_run
from jobs.paths import RunDirectory, Workspace
from jobs.report.findings import Named
from jobs.report.page import cautions, report_of, worst_first
from jobs.report.run_data import measured
from jobs.report.tables import how_it_ended
from jobs.state import State, read_state, write_state
from jobs.storage.files import read_json, whole_lines, write_atomic, write_json
from tests.helpers.browser import DESKTOP, PHONE, Browser, browser
from tests.helpers.past_runs import FIRST, SECOND

MADE_AT = "2026-11-25T07:00:00+00:00"
# What must stand on the page as it stands here, and do nothing.
MARKUP = (
    "<script>document.title = 'obeyed'</script><img src=x onerror=\"document.title='obeyed'\">"
    "<style>body{display:none}</style></dd>{{ 7 * 7 }} \u202e &amp; 'quoted' \"twice\""
)


# Whether the text of an element stands in one line.
ONE_LINE = """element => {
  const range = document.createRange();
  range.selectNodeContents(element);
  return range.getClientRects().length === 1;
}"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests here."""
    with browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


def page_of(folder: Path, *runs: PastRun) -> Path:
    """Write the report on some runs."""
    path = folder / "report.html"
    write_atomic(path, report_of(runs, MADE_AT).html)
    return path


def past_run(workspace: Workspace, job: str) -> PastRun:
    return read_run(workspace.run(job).path)


def older(folder: Path, rows: list[dict[str, Any]]) -> PastRun:
    """Return a run of another program."""
    folder.mkdir()
    (folder / "training_metrics.json").write_text(json.dumps(rows))
    return read_run(folder)


def with_markup(run: RunDirectory) -> None:
    """Put markup wherever a person, a model or another program may have written something."""
    rows = [orjson.loads(line) for line in whole_lines(run.evaluation / "answers.jsonl")]
    for key in ("question", "reference", "answer", "base_answer", "category"):
        rows[0][key] = MARKUP
    write_atomic(
        run.evaluation / "answers.jsonl", b"".join(orjson.dumps(row) + b"\n" for row in rows)
    )
    report = read_json(run.evaluation / "evaluation_report.json")
    report["categories"][MARKUP] = report["categories"].pop("golos")
    write_json(run.evaluation / "evaluation_report.json", report)
    spec = read_json(run.job)
    write_json(run.job, {**spec, "name": MARKUP, "config": {**spec["config"], MARKUP: MARKUP}})
    state = read_state(run)
    write_state(run, replace(state, state=State.FAILED, reason=MARKUP))


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_one_run_is_shown_without_a_fault_in_light_and_dark(
    past: Workspace, chromium: Browser, size: tuple[int, int]
) -> None:
    run = past_run(past, FIRST)
    page = page_of(past.root, run)
    assert page.stat().st_size < 2_000_000
    text = chromium.in_both_looks(page, size=size, pictures=8)
    for told in (
        *("completed", "EXCELENTE", FIRST, "lora.rank", "Token F1", "golos (4 questions)"),
        f"{run.summary['best_val_loss']:.4f}",
        f"{run.summary['best_gap']:.3f}",
        run.answers[0]["question"],
        run.answers[0]["answer"],
    ):
        assert told in text


def test_markup_is_shown_and_not_obeyed(past: Workspace, chromium: Browser) -> None:
    with_markup(past.run(FIRST))
    for runs in ([FIRST], [FIRST, SECOND]):
        page = page_of(past.root, *(past_run(past, job) for job in runs))
        with chromium.open(page) as seen:
            assert seen.faults() == {}
            assert "obeyed" not in seen.page.title()
            # The mark that turns the direction of writing is not let through.
            shown = MARKUP.replace("\u202e", "?")
            assert seen.page.get_by_text(shown, exact=False).count() >= 5


def test_the_browser_would_tell_of_faults(tmp_path: Path, chromium: Browser) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<meta name=viewport content='width=device-width'><body style='background:#fff'>"
        "<p style='color:#ccc'>pale</p><img src='data:image/png;base64,AA' alt='broken'>"
        "<div style='width:900px'>wide</div><img src='http://127.0.0.1:9/x.png' alt='far'>"
        "<script>console.error('said'); undefined.property</script>"
    )
    with chromium.open(page, size=PHONE) as seen:
        faults = seen.faults()
    assert len(faults) == 5
    assert [text for _, text in faults["text is pale"]] == ["pale"]  # type: ignore[attr-defined]
    assert faults["it asks the network for"] == ["http://127.0.0.1:9/x.png"]


def test_several_runs_lie_over_one_another(past: Workspace, chromium: Browser) -> None:
    old = older(past.root / "old", [{"step": 1, "loss": 2.0}, {"step": 9, "val_loss": 1.0}])
    runs = [past_run(past, FIRST), past_run(past, SECOND), old]
    with chromium.open(page_of(past.root, *runs), size=PHONE, scheme="dark") as seen:
        assert seen.faults() == {}
        text = seen.page.inner_text("body")
    for told in ("A tiny aaaa", "B tiny bbbb", "C old", "older run", "learning_rate", "0.02"):
        assert told in text
    assert "Of an older run it is not known what it validated on" in text
    assert "seed" not in text.split("What differs")[1].split("All settings")[0]


def test_runs_that_validated_on_other_data_come_with_a_warning(past: Workspace) -> None:
    spec = read_json(past.run(SECOND).job)
    spec["valid"]["sha256"] = "0" * 64
    write_json(past.run(SECOND).job, spec)
    both = [Named(job, measured(past_run(past, job))) for job in (FIRST, SECOND)]
    assert "did not validate on the same data" in cautions(both)[0]
    assert cautions(both[:1]) == cautions([both[0], both[0]]) == []


def test_runs_that_measure_losses_in_different_ways_come_with_a_warning(past: Workspace) -> None:
    spec = read_json(past.run(SECOND).job)
    spec["config"] |= {"mask_prompt": False, "max_seq_length": 64}
    write_json(past.run(SECOND).job, spec)
    old = older(past.root / "old", [{"step": 1, "loss": 2.0}])
    runs = [Named(run.name, measured(run)) for run in (past_run(past, SECOND), old)]
    # Of an older run nothing is known.
    assert "mask_prompt" not in str(cautions(runs))
    both = [Named(FIRST, measured(past_run(past, FIRST))), *runs]
    assert "mask_prompt, max_seq_length differ between these runs" in cautions(both)[-1]


def test_cut_answers_are_marked_and_counted_and_lines_end_as_they_do(
    past: Workspace, chromium: Browser
) -> None:
    folder = past.run(FIRST).evaluation
    rows = [orjson.loads(line) for line in whole_lines(folder / "answers.jsonl")]
    rows = [{**row, "cut": number < 2, "base_cut": False} for number, row in enumerate(rows)]
    rows[0]["question"] = "One line\r\nand another"
    write_atomic(folder / "answers.jsonl", b"".join(orjson.dumps(row) + b"\n" for row in rows))
    report = read_json(folder / "evaluation_report.json")
    report["adapter"]["cut"], report["base"]["cut"] = 2, 0
    write_json(folder / "evaluation_report.json", report)
    with chromium.open(page_of(past.root, past_run(past, FIRST))) as seen:
        assert seen.faults() == {}
        text = seen.page.inner_text("body")
    assert "2 answers of the adapter and 0 of the base model had no end" in text
    assert text.count("cut at the limit") == 2
    assert "One line\nand another" in text


def test_reasoning_is_folded_away_beside_the_answer_it_led_to(
    past: Workspace, chromium: Browser
) -> None:
    folder = past.run(FIRST).evaluation
    rows = [orjson.loads(line) for line in whole_lines(folder / "answers.jsonl")]
    rows = [{**row, "reasoning": None, "base_reasoning": ""} for row in rows]
    rows[0] |= {"reasoning": "No sul, <b>creio</b>.", "base_reasoning": "Hum."}
    write_atomic(folder / "answers.jsonl", b"".join(orjson.dumps(row) + b"\n" for row in rows))
    with chromium.open(page_of(past.root, past_run(past, FIRST))) as seen:
        text = seen.page.inner_text("body")
        assert text.count("characters, not scored") == 2
        assert "No sul, <b>creio</b>." not in text
        seen.page.get_by_text("21 characters, not scored").click()
        assert "No sul, <b>creio</b>." in seen.page.inner_text("body")
        assert seen.faults() == {}


def test_no_figure_is_broken_on_a_phone(past: Workspace, chromium: Browser) -> None:
    runs = [past_run(past, job) for job in (FIRST, SECOND)] * 3
    with chromium.open(page_of(past.root, *runs), size=PHONE) as seen:
        assert seen.faults() == {}
        figures = seen.page.get_by_role("cell", name=re.compile(r"^-?[\d.,]+$")).all()
        heights = {figure.evaluate(ONE_LINE) for figure in figures}
    assert len(figures) > 20
    assert heights == {True}


def test_a_run_that_failed_before_its_first_row(past: Workspace, chromium: Browser) -> None:
    run = past.run(FIRST)
    shutil.rmtree(run.evaluation)
    for path in (run.metrics, run.metrics_json, run.metrics_csv, run.summary):
        path.unlink()
    write_state(run, replace(read_state(run), state=State.FAILED, reason="The model is gone."))
    with chromium.open(page_of(past.root, past_run(past, FIRST)), size=PHONE) as seen:
        assert seen.faults() == {}
        text = seen.page.inner_text("body")
    assert "failed at step 0: The model is gone." in text
    assert "Nothing has been measured yet" in text
    assert f"farense evaluate {FIRST}" in text


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"step": 0, "val_loss": 3.0}], "no validation after step 0"),
        ([{"step": 4, "loss": 1.0}], "unknown: it shows only against validation data"),
        ([{"step": 4, "loss": float("nan"), "val_loss": float("inf")}], "NaN or infinite"),
        (
            [
                {"step": 0, "val_loss": 3.0, "overfitting_gap": 0.2},
                {"step": 4, "val_loss": 2.0, "overfitting_gap": 0.1},
            ],
            "BOM (gap < 0.15)",
        ),
        ([{"step": 4, "loss": 1.0, "val_loss": 1.8645}], "CRÍTICO (gap >= 0.30), rough"),
        ([{"step": 4, "val_loss": 1.8645}], "unknown: no training loss was logged"),
    ],
    ids=["baseline", "no-validation", "not-finite", "one-validation", "rough", "no-training-loss"],
)
def test_a_run_with_one_validation_or_none(
    tmp_path: Path, chromium: Browser, rows: list[dict[str, Any]], told: str
) -> None:
    page = page_of(tmp_path, older(tmp_path / "run & <b>more", rows))
    with chromium.open(page, scheme="dark") as seen:
        assert seen.faults() == {}
        text = seen.page.inner_text("body")
    assert told in text
    assert "run & <b>more" in text


def test_a_run_under_way_says_how_far_it_is(past: Workspace) -> None:
    run = past.run(FIRST)
    run.summary.unlink()
    write_state(run, replace(read_state(run), state=State.RUNNING))
    told = how_it_ended(measured(past_run(past, FIRST)))
    assert told == "still runs: 12 of 12 steps when this page was made"


def test_damaged_evaluations_are_shown_as_far_as_they_go(past: Workspace) -> None:
    folder = past.run(FIRST).evaluation
    write_json(folder / "evaluation_report.json", {"adapter": 3, "categories": [1], "gain": None})
    (folder / "answers.jsonl").write_text('{"question": 1, "token_f1": "high"}\n{}\n')
    html = report_of([past_run(past, FIRST)], MADE_AT).html.decode()
    assert "The worst answers first" in html


def test_the_worst_answers_come_first() -> None:
    rows: list[dict[str, Any]] = [
        {"n": 1, "token_f1": 0.5, "chrf": 0.1},
        {"n": 2, "token_f1": 0.0, "chrf": 0.3},
        {"n": 3},
        {"n": 4, "token_f1": 0.0, "chrf": 0.2},
    ]
    assert [row["n"] for row in worst_first(rows)] == [4, 2, 1, 3]
