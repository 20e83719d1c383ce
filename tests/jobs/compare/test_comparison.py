"""Two runs compared, from what they left on disk."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from jobs.compare.comparison import Comparison, compare
from jobs.compare.decision import Action, Basis, Relation
from jobs.errors import InvalidInput
from jobs.past_run import read_run
from jobs.paths import RunDirectory, Workspace
from jobs.spec import read_spec
from jobs.storage.files import read_json, write_json
from tests.helpers.past_runs import CHANGED, FIRST, SECOND
from tests.helpers.sides import write_older_run
from tests.helpers.specs import write_spec


def compared(workspace: Workspace, a: str = FIRST, b: str = SECOND) -> Comparison:
    return compare(read_run(workspace.run(a).path), read_run(workspace.run(b).path))


def answers(run: RunDirectory) -> list[dict[str, object]]:
    lines = (run.evaluation / "answers.jsonl").read_bytes().splitlines()
    return [orjson.loads(line) for line in lines]


def write_answers(run: RunDirectory, rows: list[dict[str, object]]) -> None:
    path = run.evaluation / "answers.jsonl"
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def test_two_evaluated_runs(past: Workspace) -> None:
    found = compared(past)
    assert found.same_validation_set is True
    changed = {row.setting: (row.a, row.b) for row in found.config or ()}
    assert changed == {
        "lora.rank": (4, CHANGED["lora"]["rank"]),
        "learning_rate": (0.005, CHANGED["learning_rate"]),
        "num_epochs": (2, CHANGED["num_epochs"]),
    }
    reports = [read_run(past.run(job_id).path).report or {} for job_id in (FIRST, SECOND)]
    for row in found.scores:
        assert row.a == pytest.approx(reports[0][row.metric])
        assert row.b == pytest.approx(reports[1][row.metric])
        assert row.difference == pytest.approx((row.b or 0) - (row.a or 0))
        assert row.pairs == found.pairs == 6
    assert found.decision.basis is Basis.F1
    assert found.notes == ()
    # Nobody is preferred for standing first.
    back = compared(past, SECOND, FIRST)
    opposite = {Relation.BETTER: Relation.WORSE, Relation.WORSE: Relation.BETTER}
    verdict = found.decision.verdict
    assert back.decision.verdict is opposite.get(verdict, verdict)
    assert [row.question for row in back.better] == [row.question for row in found.worse]


def test_answers_are_paired_by_question_wherever_they_stand(past: Workspace) -> None:
    before = compared(past)
    run = past.run(SECOND)
    write_answers(run, answers(run)[::-1])
    assert compared(past).scores == before.scores
    write_answers(run, answers(run)[:-1])
    found = compared(past)
    assert found.pairs == 5
    assert "5 questions were answered by both, of 6 and 6." in found.notes
    assert found.decision.basis is Basis.LOSS
    assert any("5 answers can be paired, and it takes 6" in r for r in found.decision.reasons)


def test_other_validation_data_are_refused_and_both_named(past: Workspace) -> None:
    run = past.run(SECOND)
    order = read_spec(run)
    assert order.valid is not None
    other = replace(order.valid, sha256="cd" * 32, source="other.jsonl")
    write_spec(run, replace(order, valid=other))
    with pytest.raises(InvalidInput, match="different data") as refused:
        compared(past)
    assert "A 20261122-210000-first-aaaa: 6.jsonl" in refused.value.message
    assert "B 20261123-210000-second-bbbb: other.jsonl" in refused.value.message
    assert "sha256 cdcdcdcdcdcd" in refused.value.message


def test_a_run_is_not_compared_with_itself(past: Workspace) -> None:
    with pytest.raises(InvalidInput, match="the same run"):
        compared(past, FIRST, FIRST)


def test_training_data_go_by_the_names_that_the_user_knows(past: Workspace) -> None:
    run = past.run(SECOND)
    order = read_spec(run)
    path = f"data/imported/{'ef' * 32}.jsonl"
    train = replace(order.train, path=path, sha256="ef" * 32, source="more.jsonl")
    data = {**order.config["data"], "train": path}
    write_spec(run, replace(order, train=train, config={**order.config, "data": data}))
    rows = {row.setting: (row.a, row.b) for row in compared(past).config or ()}
    assert rows["data.train"][1] == "more.jsonl (efefefef)"
    assert rows["data.train"][0].startswith("11.jsonl (")


def test_what_was_not_evaluated_is_decided_on_losses(past: Workspace) -> None:
    shutil.rmtree(past.run(SECOND).evaluation)
    found = compared(past)
    assert found.decision.basis is Basis.LOSS
    told = f"B was not evaluated (farense evaluate {SECOND})"
    assert any(told in reason for reason in found.decision.reasons)
    assert found.scores[0].a is not None
    assert (found.scores[0].b, found.scores[0].p, found.pairs) == (None, None, 0)


def test_an_evaluation_of_another_adapter_decides_nothing(past: Workspace) -> None:
    run = past.run(FIRST)
    run.adapter_weights.write_bytes(run.adapter_weights.read_bytes() + b" ")
    found = compared(past)
    assert found.a.outdated
    assert found.decision.basis is Basis.LOSS
    assert any("A has another adapter since" in reason for reason in found.decision.reasons)


def test_scores_with_and_without_accents_are_not_paired(past: Workspace) -> None:
    report = past.run(SECOND).evaluation / "evaluation_report.json"
    write_json(report, {**read_json(report), "ignore_accents": True})
    found = compared(past)
    assert found.pairs == 0
    assert any("accents" in reason for reason in found.decision.reasons)


def test_losses_that_were_measured_in_another_way_carry_a_note_and_decide_nothing(
    past: Workspace,
) -> None:
    run = past.run(SECOND)
    order = read_spec(run)
    write_spec(run, replace(order, config={**order.config, "max_seq_length": 128}))
    assert "Losses do not compare: other max_seq_length." in compared(past).notes
    shutil.rmtree(run.evaluation)
    found = compared(past)
    assert (found.decision.action, found.advice) == (Action.NONE, ())
    assert f"farense evaluate {SECOND}" in found.decision.reasons[0]


def test_where_one_setting_made_it_worse_the_advice_is_to_go_back(past: Workspace) -> None:
    order = read_spec(past.run(FIRST))
    slow = replace(read_spec(past.run(SECOND)), config={**order.config, "learning_rate": 1e-5})
    write_spec(past.run(SECOND), slow)
    for job_id in (FIRST, SECOND):
        shutil.rmtree(past.run(job_id).evaluation)
    found, back = compared(past), compared(past, SECOND, FIRST)
    worse, better = sorted((found, back), key=lambda one: one.decision.verdict is Relation.BETTER)
    assert (worse.decision.verdict, better.advice) == (Relation.WORSE, ())
    (finding,) = worse.advice
    rates = {one.name: one.config["learning_rate"] for one in (worse.a, worse.b)}
    (change,) = finding.changes
    assert (change.setting, change.now, change.to) == (
        "learning_rate", rates[worse.b.name], rates[worse.a.name],
    )  # fmt: skip


def test_a_folder_of_an_older_run(past: Workspace, tmp_path: Path) -> None:
    text = '[{"step": 6, "loss": 0.5, "val_loss": 9.5}, {"step": 12, "loss": NaN, "val_loss": 9.9}]'
    folder = write_older_run(tmp_path / "v1_backup", text)
    found = compare(read_run(folder), read_run(past.run(SECOND).path))
    assert found.same_validation_set is None
    assert found.config is None
    assert (found.a.curve.best_val_loss, found.a.curve.gap) == (9.5, 9.0)
    assert "job.json is not there" in found.a.missing
    assert any("validation set of A is not known" in note for note in found.notes)
    assert (found.decision.verdict, found.decision.action) == (Relation.BETTER, Action.USE_B)
    assert found.decision.basis is Basis.LOSS
    assert found.pairs == 0
    # The other way round there are no settings to change.
    back = compare(read_run(past.run(SECOND).path), read_run(folder))
    assert back.decision.action is Action.KEEP_A
    assert not [change for finding in back.advice for change in finding.changes]


def test_settings_that_are_none_of_ours_are_as_good_as_none(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = write_older_run(tmp_path / name, '[{"step": 6, "val_loss": 2.5}]')
        write_json(folder / "training_summary.json", {"config": {"learning_rate": "fast"}})
    found = compare(read_run(tmp_path / "a"), read_run(tmp_path / "b"))
    assert found.config is None
    assert any("its settings cannot be read" in text for text in found.a.missing)
    assert found.decision.verdict is Relation.SIMILAR
