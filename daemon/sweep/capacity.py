"""What a sweep's trials may take: the memory of this machine, and the daemons that are free."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from functools import cached_property

import structlog

from daemon.client import FarenseClient
from daemon.store.workers import WorkerCard
from daemon.submit.resources import lanes_of
from jobs.config.config import TrainConfig
from jobs.data.tokenizer import TemplateSettings
from jobs.errors import FarenseError
from jobs.paths import Workspace
from jobs.rehearsal import Part, Rehearsed, rehearse
from jobs.resources.estimate import DataSize, estimate, estimate_within, measured_memory
from jobs.resources.preflight import memory_limits
from jobs.resources.ways import Room
from jobs.storage.files import sha256_of

log = structlog.get_logger(__name__)


class Capacity:
    """The memory that trials may take.

    Args:
        base: the config that they start from: all have its model and its data.
        memory_gb: how much they may take; None for what the machine has.
        date: that their prompts hold, where the chat template writes one.
    """

    def __init__(
        self,
        workspace: Workspace,
        base: TrainConfig,
        memory_gb: float | None,
        date: str | None = None,
    ) -> None:
        self._workspace, self._base, self._memory_gb = workspace, base, memory_gb
        self._template = TemplateSettings.of(base, date)

    def refusal(
        self, config: TrainConfig, out_of_memory: Iterable[tuple[int, TrainConfig]]
    ) -> str | None:
        """Return why a trial is not to be started; None where it may.

        Args:
            out_of_memory: the trials that ran out of memory, by number.
        """
        try:
            return too_large(config, self._needed(config), self._limit, out_of_memory)
        except FarenseError as error:
            # The run itself will tell, before it trains.
            log.debug("memory_not_estimated", reason=str(error))
            return too_large(config, None, None, out_of_memory)

    def _needed(self, config: TrainConfig) -> int:
        measured = measured_memory(self._workspace, config)
        if measured is not None:
            return measured
        found = self._rehearsed
        device, size = found.model.device, DataSize.of(found.lengths, config)
        model = self._workspace.model(config.model)
        on, lanes = device.as_stored, lanes_of(device, config)
        plain = estimate(model, config, size, as_stored=on, lanes=lanes)
        # A run takes less where the plain way does not fit into the machine, or under its cap.
        most = Room(memory_limits(*device.memory), config.memory_bytes).most
        needs = estimate_within(model, config, size, plain, as_stored=on, lanes=lanes, most=most)
        return needs.memory(cached=config.prefix_cache_gb != 0)

    @cached_property
    def _rehearsed(self) -> Rehearsed:
        """What is known of the model and of the data, which all trials share."""
        base, workspace = self._base, self._workspace
        path = workspace.root / base.data.train
        files = ((path, sha256_of(path)),)
        part = Part(workspace.model(base.model), base.prompt_format, self._template, files)
        return rehearse([part], workspace)[0]

    @cached_property
    def _limit(self) -> int | None:
        if self._memory_gb is not None:
            return int(self._memory_gb * 1e9)
        return memory_limits(*self._rehearsed.model.device.memory).whole


def workers_for(client: FarenseClient, queue: str, jobs: Collection[str]) -> int:
    """Return how many daemons run a sweep's jobs, or would if there were more of them.

    Args:
        jobs: of the sweep's open trials.

    Raises:
        QueueUnreachable: the queue is away.
    """
    return count(client.workers(), queue, jobs)


def count(cards: Collection[WorkerCard], queue: str, jobs: Collection[str]) -> int:
    """Return how many of some daemons are free for a sweep, or run its jobs."""
    return sum(
        card.alive
        and card.queue == queue
        and card.held_because is None
        and (card.job is None or card.job in jobs)
        for card in cards
    )


def too_large(
    config: TrainConfig,
    estimated: int | None,
    limit: int | None,
    out_of_memory: Iterable[tuple[int, TrainConfig]],
) -> str | None:
    """Return why a trial is not to be started; None where it may.

    Args:
        estimated: what a run of it would take (:mod:`jobs.resources.estimate`); None where that is
            not known.
        limit: what there is; None where that is not known.
        out_of_memory: the trials that ran out of memory, by number: what is at least as large in
            every respect would, too.
    """
    for number, known in out_of_memory:
        if at_least_as_large(config, known):
            return f"never started: trial {number}, which is no larger, ran out of memory"
    if estimated is not None and limit is not None and estimated > limit:
        return (
            f"never started: it would need about {estimated / 1e9:.2f} GB of memory, and there are "
            f"{limit / 1e9:.2f} GB"
        )
    return None


def at_least_as_large(config: TrainConfig, other: TrainConfig) -> bool:
    """Tell whether a run takes at least as much memory as another, in every respect."""
    pairs = (
        (config.batch_size, other.batch_size),
        (config.max_seq_length, other.max_seq_length),
        (config.lora.rank, other.lora.rank),
        (config.lora.num_layers, other.lora.num_layers),
        (_saving(other), _saving(config)),
        (-_cap(config), -_cap(other)),
    )
    return set(other.lora.keys) <= set(config.lora.keys) and all(a >= b for a, b in pairs)


def _saving(config: TrainConfig) -> int:
    """Return how much a run saves where it has to; the more, the larger."""
    # Where memory decides, a run that ran out has tried to compute blocks again.
    return {False: 0, True: 1, None: 2}[config.grad_checkpoint]


def _cap(config: TrainConfig) -> float:
    cap = config.memory_bytes
    return math.inf if cap is None else cap
