"""Whether a trial would fit into this machine's memory, as far as that is known before it runs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import structlog

from daemon.submit.resources import lanes_of
from jobs.config.config import TrainConfig
from jobs.data.tokenizer import TemplateSettings
from jobs.errors import FarenseError
from jobs.paths import Workspace
from jobs.rehearsal import Part, Rehearsed, rehearse
from jobs.resources.estimate import DataSize, estimate, measured_memory
from jobs.resources.preflight import memory_limits
from jobs.storage.files import sha256_of
from jobs.sweep.memory import too_large

log = structlog.get_logger(__name__)


class Room:
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
        needs = estimate(model, config, size, metal=device.metal, lanes=lanes_of(device, config))
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
