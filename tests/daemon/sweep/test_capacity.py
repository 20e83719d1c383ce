"""A trial that would not fit into memory is never started: by what was estimated or measured."""

from __future__ import annotations

import pytest

from daemon.client import FarenseClient
from daemon.sweep.capacity import Capacity
from jobs.config.config import Preset, TrainConfig
from jobs.paths import Workspace
from jobs.resources.estimate import DataSize, estimate
from jobs.state import State
from tests.daemon.sweep.conftest import Night
from tests.helpers.stand_in_worker import StandInWorker

KILOBYTE_GB = 1e-6


@pytest.fixture
def base(workspace: Workspace, preset: Preset) -> TrainConfig:
    return preset.config


def test_what_is_estimated_is_compared_with_what_there_is(
    workspace: Workspace, base: TrainConfig
) -> None:
    assert Capacity(workspace, base, None).refusal(base, []) is None
    met = Capacity(workspace, base, None).refusal(base, [(0, base)])
    assert met == "never started: trial 0, which is no larger, ran out of memory"
    assert "it would need about" in (Capacity(workspace, base, KILOBYTE_GB).refusal(base, []) or "")

    room = Capacity(workspace, base, None)
    size = DataSize.of(room._rehearsed.lengths, base)
    assert 0 < size.longest <= base.max_seq_length
    assert 0 < size.learned < 1
    needs = estimate(workspace.inside(base.model), base, size, as_stored=False, lanes=1)
    limit = needs.memory(cached=True) / 1e9
    large = base.model_copy(update={"batch_size": 64})
    assert Capacity(workspace, base, 50 * limit).refusal(base, []) is None
    assert Capacity(workspace, base, limit / 2).refusal(large, []) is not None


def test_a_sweep_tells_the_sampler_and_goes_on(
    workspace: Workspace, shared: FarenseClient, worker: StandInWorker
) -> None:
    assert worker.claim is None
    night = Night(workspace, shared, constraints={"memory_gb": KILOBYTE_GB}, trials=3)
    assert not night.tick()
    assert [(t.state, t.jobs) for t in night.trials] == [(State.FAILED, [])] * 3
    assert night.view.state.state is State.FAILED
    reason = night.view.state.reason or ""
    assert reason.startswith("no trial had a result: never started: it would need about")
