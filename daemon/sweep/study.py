"""The sampler and the pruner: Optuna's, asked and told from this one place.

Its study lies in a SQLite file of the sweep and is never sent anywhere. The trials' files are the
truth: where the study is lost, damaged or says something else, it is made again from them.
Importing this takes 0.6 s and 100 MB: only the process that coordinates a sweep does.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import structlog
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from jobs.state import State
from jobs.sweep.plan import Pruner, SweepPlan
from jobs.sweep.space import Choice, Dimension, Scalar, grid, label, settings_of
from jobs.sweep.trial import FEWEST_FOR_IMPORTANCES, Trial

log = structlog.get_logger(__name__)

# Drawn at random before TPE has something to learn from: its default, but less of a short sweep.
STARTUP_TRIALS = 10
SHORT_SWEEP = 3
# What jobs with the same value of it share is the larger part of a run.
WARM = "lora.num_layers"
# A sampler that says so often what was tried already gives way to chance, and chance to the order
# of the points.
LEARNED_ATTEMPTS, ALL_ATTEMPTS = 5, 30
REPEATED = "repeated"
# The share of trials whose settings are compared with those of all.
BETTER = 0.5


class Hasty(sqlite3.Connection):
    """A connection that waits for no disk: what is lost is made again from the trials' files."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.execute("PRAGMA synchronous = OFF")


HASTY = {"factory": Hasty}


class Study:
    """The study of a sweep.

    Args:
        path: of its SQLite file.
        name: of the study; Hyperband deals trials out by it.
        plan: the sweep file.
        trials: what is known of the sweep, in the order of their numbers.
    """

    def __init__(self, path: Path, name: str, plan: SweepPlan, trials: Sequence[Trial]) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.plan = plan
        self.distributions = {key: _distribution(found) for key, found in plan.space.items()}
        # Where a trial's files are all lost, later ones move up in the study.
        self._numbers = [trial.number for trial in trials]
        self._reported: dict[int, int] = {}
        self._study = self._opened(path, name, trials)

    def ask(self, number: int) -> dict[str, Scalar] | None:
        """Return what to try next; None where nothing is left that was not tried.

        Nothing is tried twice: the same settings would come to the same bits.

        Args:
            number: the trial it is for. The choice depends on it, on the sampler's seed and on what
                the study knows alone: whoever asks again after a crash gets the same.
        """
        # A sampler may name one value in two ways.
        tried = [self._settings(trial.params) for trial in self._known()]
        if self.plan.sampler != "grid":
            for attempt in range(ALL_ATTEMPTS):
                if (params := self._asked(number, tried, attempt)) is not None:
                    return params
        points = grid(self.plan.space, WARM)
        point = next((point for point in points if self._settings(point) not in tried), None)
        if point is None:
            return None
        self._study.enqueue_trial(point)
        return self._asked(number, tried)

    def _asked(
        self, number: int, tried: Sequence[dict[str, Any]], attempt: int = 0
    ) -> dict[str, Scalar] | None:
        """Ask the sampler; None where it says what was tried."""
        self._study.sampler = _sampler(self.plan, number, attempt)
        asked = self._study.ask(self.distributions)
        if self._settings(asked.params) in tried:
            asked.set_user_attr(REPEATED, value=True)
            self._study.tell(asked, state=TrialState.FAIL)
            return None
        self._numbers.append(number)
        return dict(asked.params)

    def report(self, number: int, losses: Sequence[float]) -> bool:
        """Tell of all validations of a trial so far; True where some are new.

        What was told is remembered: to look it up in the file takes more than all else that
        coordinating a sweep does.
        """
        if len(losses) == self._reported.get(number, 0):
            return False
        trial = self._trial(number)
        known = self._frozen(number).intermediate_values
        for index, loss in enumerate(losses, 1):
            if index not in known:
                trial.report(self._directed(loss), index)
        self._reported[number] = len(losses)
        return True

    def should_prune(self, number: int) -> bool:
        """Tell whether a trial will come to nothing, by what was told of it and of others."""
        known = self._frozen(number).intermediate_values
        return bool(known) and bool(self._trial(number).should_prune())

    def tell(self, trial: Trial) -> None:
        """Tell how a trial has ended; telling twice is telling once."""
        frozen = self._frozen(trial.number)
        if frozen.state.is_finished():
            return
        values, state = _ending(trial)
        self._study.tell(frozen.number, values=values, state=state)

    def importances(self) -> dict[str, float]:
        """Return how much of the differences between trials each setting explains.

        By PED-ANOVA (Watanabe et al., 2023), which looks at how the better half of the trials
        differs from all: of the few of a night, a better tenth would be one or two. Empty while
        there are too few trials, or all are alike.
        """
        done = [t for t in self._study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
        if len(done) < FEWEST_FOR_IMPORTANCES:
            return {}
        found: dict[str, float] = {}
        with suppress(ValueError, RuntimeError):
            evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=BETTER)
            found = evaluator.evaluate(self._study)
        whole = sum(found.values())
        if not math.isfinite(whole) or whole <= 0:
            return {}
        return {name: float(share / whole) for name, share in found.items()}

    def _directed(self, loss: float) -> float:
        """Return a loss as the pruner sees it, which looks in the direction of the objective."""
        return -loss if self.plan.maximizes else loss

    def _trial(self, number: int) -> optuna.trial.Trial:
        return optuna.trial.Trial(self._study, self._frozen(number)._trial_id)

    def _frozen(self, number: int) -> FrozenTrial:
        return self._known()[self._numbers.index(number)]

    def _known(self) -> list[FrozenTrial]:
        """Return the trials of the sweep; what was asked for in vain is none."""
        return _trials_in(self._study)

    def _settings(self, params: Mapping[str, Scalar]) -> dict[str, Any]:
        return settings_of(self.plan.space, params)

    def _opened(self, path: Path, name: str, trials: Sequence[Trial]) -> optuna.Study:
        """Return the study in the file, made anew where it does not say what the trials say."""
        try:
            study = self._open(path, name)
            if self._agrees(study, trials):
                return study
            reason = "it differs from the trials' files"
        except (
            Exception
        ) as error:  # SQLite's, SQLAlchemy's, Optuna's: whatever a damaged file gives
            reason = repr(error)
        if path.exists() and trials:
            log.warning("study_rebuilt", path=str(path), reason=reason, trials=len(trials))
        for left in (path, *path.parent.glob(f"{path.name}-*")):
            left.unlink(missing_ok=True)
        study = self._open(path, name)
        for trial in trials:
            study.add_trial(self._template(trial))
        return study

    def _open(self, path: Path, name: str) -> optuna.Study:
        return optuna.create_study(
            storage=optuna.storages.RDBStorage(f"sqlite:///{path}", {"connect_args": HASTY}),
            study_name=name,
            direction="maximize" if self.plan.maximizes else "minimize",
            pruner=_pruner(self.plan.pruner),
            load_if_exists=True,
        )

    def _agrees(self, study: optuna.Study, trials: Sequence[Trial]) -> bool:
        known = _trials_in(study)
        return len(known) == len(trials) and all(
            found.params == trial.params and (not found.state.is_finished() or trial.ended)
            for found, trial in zip(known, trials, strict=True)
        )

    def _template(self, trial: Trial) -> FrozenTrial:
        """Return a trial as the study holds it."""
        losses = [loss for _, loss in trial.curves[0]] if trial.curves else []
        values, state = _ending(trial) if trial.ended else (None, TrialState.RUNNING)
        return create_trial(
            state=state,
            value=values,
            params=trial.params,
            distributions=self.distributions,
            intermediate_values={
                index: self._directed(loss) for index, loss in enumerate(losses, 1)
            },
        )


def _trials_in(study: optuna.Study) -> list[FrozenTrial]:
    found = study.get_trials(deepcopy=False)
    return [trial for trial in found if REPEATED not in trial.user_attrs]


def _ending(trial: Trial) -> tuple[float | None, TrialState]:
    """Return value and state by which the study learns of an end.

    A pruned trial has the value of its last validation there, which the study takes by itself.
    """
    if trial.complete and trial.value is not None and math.isfinite(trial.value):
        return trial.value, TrialState.COMPLETE
    pruned = trial.pruned and trial.state is State.EARLY_STOPPED
    return None, TrialState.PRUNED if pruned else TrialState.FAIL


def _distribution(found: Dimension) -> BaseDistribution:
    if isinstance(found, Choice):
        return CategoricalDistribution([label(value) for value in found.choices])
    if found.whole:
        step = int(found.step or 1)
        return IntDistribution(int(found.low), int(found.high), log=found.log, step=step)
    return FloatDistribution(found.low, found.high, log=found.log, step=found.step)


def _sampler(plan: SweepPlan, number: int, attempt: int) -> optuna.samplers.BaseSampler:
    seed = (plan.seed + 7919 * number + 104_729 * attempt) % 2**32
    if plan.sampler != "tpe" or attempt >= LEARNED_ATTEMPTS:
        return optuna.samplers.RandomSampler(seed=seed)
    planned = plan.most_trials or SHORT_SWEEP * STARTUP_TRIALS
    startup = min(STARTUP_TRIALS, max(SHORT_SWEEP, planned // SHORT_SWEEP))
    # A liar takes running trials for bad ones, so that workers side by side try different things.
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup, constant_liar=True)


def _pruner(wanted: Pruner) -> optuna.pruners.BasePruner:
    options: Mapping[str, Any] = wanted.model_dump()
    if wanted.kind == "none":
        return optuna.pruners.NopPruner()
    if wanted.kind == "hyperband":
        return optuna.pruners.HyperbandPruner(
            min_resource=options["min_validations"], reduction_factor=options["reduction_factor"]
        )
    return optuna.pruners.MedianPruner(
        n_startup_trials=options["startup_trials"], n_warmup_steps=options["warmup_validations"]
    )
