"""What a sweep comes to, in numbers, places, words and pictures; of trials of every kind."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from jobs.paths import Workspace
from jobs.report.curves import EPOCHS, STEPS
from jobs.report.run_data import measured
from jobs.report.sweep_axes import BEYOND, axes_of
from jobs.report.sweep_data import Kind, Swept, swept
from jobs.report.sweep_page import why_no_importances
from jobs.report.sweep_plots import curves_of, plots_of_sweep
from jobs.report.sweep_tables import headings, leaders, ordered, unranked, unranked_headings
from jobs.report.theme import DARK, LIGHT
from jobs.state import State
from jobs.sweep.trial import Trial
from tests.helpers.made_up_sweep import every_kind, made_up, trial
from tests.helpers.past_runs import FIRST


def findings(found: Swept) -> dict[str, str]:
    return {plot.name: plot.finding for plot in plots_of_sweep(found)}


def test_every_trial_is_of_a_kind_and_only_values_are_ranked() -> None:
    found = made_up(every_kind())
    assert [one.number for one in found.ranked] == [2, 0, 1]
    assert [found.kind(one) for one in found.trials] == [
        Kind.COMPLETE, Kind.PRUNED, Kind.BEST, Kind.COMPLETE,
        Kind.WITHOUT, Kind.WITHOUT, Kind.UNDER_WAY, Kind.UNDER_WAY,
    ]  # fmt: skip
    assert (found.count(Kind.COMPLETE), found.count(Kind.PRUNED)) == (3, 1)
    assert found.best_job == found.trials[2].jobs[0]


def test_the_leaderboard_names_everything_about_a_trial() -> None:
    found = made_up(every_kind())
    first, *others = [
        dict(zip(headings(found), line.cells, strict=True)) for line in leaders(found)
    ]
    assert first == {
        "Trial": "2", "val_loss": "1.2500", "Gap": "-", "lora.rank": "8",
        "lora.keys": "self_attn.q_proj", "lora.dropout": "0.02", "learning_rate": "0.01",
        "Steps": "6 of 6", "State": "completed", "Pruned by": "-",
        "Job": "20261125-220002-night-aaaa",
    }  # fmt: skip
    assert [line.differs for line in leaders(found)] == [True, False, False]
    assert (others[-1]["Pruned by"], others[-1]["Steps"]) == ("median", "3 of 6")
    why = {line.name: line.cells[-1] for line in unranked(found)}
    assert why["4"] == "the loss became NaN at step 6"
    assert why["3"] == "no finite value"
    assert why["6"] == "-"
    assert all(len(line.cells) == len(unranked_headings(found)) for line in unranked(found))


def test_axes_are_spread_as_the_space_is() -> None:
    found = made_up([trial(0, 2.0), trial(1, 3.0), trial(2, 1.0), trial(4)])
    rank, keys, dropout, rate, objective = axes_of(found)
    assert [text for _, text in rank.ticks] == ["2", "4", "8"]
    assert [place for place, _ in rank.ticks] == [0, 0.5, 1]
    assert [text for _, text in keys.ticks] == ["q_proj, v_proj", "q_proj"]
    assert all(place is not None and place > 0.9 for place in keys.places)
    assert rate.title == "learning_rate (log scale)"
    assert rate.places == pytest.approx([0, 0.5, 1, 0.5])
    assert (0.5, "0.001") in [(round(place, 6), text) for place, text in rate.ticks]
    assert dropout.places[1] == pytest.approx(0.1)
    assert objective.title == "val_loss (lower is better)"
    assert objective.places == pytest.approx([0.5, 1, 0, BEYOND])
    assert objective.ticks[-1] == (BEYOND, "no value")


def test_what_a_damaged_file_says_of_a_setting_has_no_place() -> None:
    odd = trial(0, 1.0)
    strange: list[Any] = [{"lora.rank": 3, "learning_rate": "x"}, {"learning_rate": 1e9}, {}]
    found = made_up([replace(odd, number=n, params=params) for n, params in enumerate(strange)])
    for axis in axes_of(found)[:-1]:
        assert axis.places == [None, None, None]
    assert all(plot.draw(LIGHT) for plot in plots_of_sweep(found))


def test_curves_are_told_of_and_drawn() -> None:
    found = made_up(every_kind(), importances={"lora.rank": 0.25, "learning_rate": 0.75})
    told = findings(found)
    assert list(told) == ["learning_curves", "parallel_coordinates", "importances"]
    assert told["learning_curves"] == (
        "Validation losses of 8 trials: 3 complete, 1 pruned, 2 failed or cancelled, 2 under way. "
        "The lowest, 1.2500, is of trial 2. NaN or infinite losses: 2."
    )
    assert "Trial 2 is best with 1.2500: lora.rank 8" in told["parallel_coordinates"]
    assert told["importances"].endswith("learning_rate 75%; lora.rank 25%.")
    for plot in plots_of_sweep(found):
        assert plot.draw(LIGHT) != plot.draw(DARK)


def test_a_pruned_trial_looks_other_than_a_complete_one() -> None:
    both = [trial(0, 1.0), trial(1, 2.0)]
    pruned = replace(both[1], pruned_by="median", state=State.EARLY_STOPPED)
    drawn = [plots_of_sweep(made_up(trials)) for trials in (both, [both[0], pruned])]
    for one, other in zip(*drawn, strict=True):
        assert one.draw(LIGHT) != other.draw(LIGHT)


def test_trials_with_other_batch_sizes_are_laid_over_one_another_by_epochs(
    past: Workspace,
) -> None:
    small = trial(0, 2.0, jobs=[FIRST], settings={"batch_size": 1})
    large = trial(1, 2.0, settings={"batch_size": 2})
    bare = made_up([small, large])
    assert curves_of(bare)[1] == STEPS
    assert [one.series.steps for one in curves_of(bare)[0]] == [[3, 6], [3, 6]]
    found = swept(past, bare.spec, bare.state, bare.trials)
    assert list(found.runs) == [FIRST]
    curves, unit = curves_of(found)
    assert unit == EPOCHS
    spec = found.runs[FIRST].run.spec
    assert spec is not None
    examples = spec.train.examples
    ends = [one.series.steps[-1] for one in curves]
    assert ends == [6 / examples, 6 / math.ceil(examples / 2)]
    gap = leaders(found)[0].cells[headings(found).index("Gap")]
    assert gap.startswith(f"{found.runs[FIRST].run.summary['best_gap']:.3f} EXCELENTE")
    assert measured(found.runs[FIRST].run).best is not None


@pytest.mark.parametrize(
    "trials",
    [
        [],
        [trial(0, 1.0)],
        [trial(0, 1.0), trial(1, 1.0)],
        [trial(0, state=State.FAILED, reason="no"), trial(1, state=State.FAILED)],
        [trial(0, state=State.QUEUED, jobs=[], step=0)],
        [trial(0, math.nan, curves=[[[3, math.nan]]])],
        [trial(n, 1.0 + n) for n in range(40)],
        [trial(0, 1.0, curves=[[[3.0], [6, 1.0, 2.0]], []])],
    ],
    ids=["none", "one", "alike", "all-failed", "waits", "nan", "many", "damaged"],
)
def test_few_trials_and_strange_ones_can_be_drawn(trials: list[Trial]) -> None:
    for plot in plots_of_sweep(made_up(trials)):
        assert plot.finding
        assert plot.draw(DARK).startswith(b"\x89PNG")


def test_what_mattered_is_known_from_enough_trials_on() -> None:
    few = made_up([trial(0, 1.0), trial(1, 2.0)])
    assert "it takes 4 complete trials, and there are too few (2)" in (
        why_no_importances(few) or ""
    )
    alike = made_up([trial(n, 1.0) for n in range(4)])
    assert "too much alike" in (why_no_importances(alike) or "")
    assert why_no_importances(made_up([], importances={"lora.rank": 1.0})) is None


def test_what_was_ordered_is_told_as_the_file_says_it() -> None:
    told = {line.name: line.cells[0] for line in ordered(made_up([]))}
    assert told["set.early_stopping_patience"] == "-"
    assert told["space.lora.rank"] == "2 · 4 · 8"
    assert told["space.learning_rate"] == "0.0001 to 0.01, log"
    assert told["Objective"] == "val_loss (lower is better)"
    f1 = made_up([trial(0, 0.4), trial(1, 0.6)], {"objective": "token_f1"})
    assert f1.best is not None
    assert f1.best.number == 1
    assert leaders(f1)[0].cells[1] == "0.600"
