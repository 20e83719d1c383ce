"""Whether a trial would fit into this machine's memory, as far as that is known before it runs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import structlog

from daemon.doctor.room import measured_memory
from jobs.config import TrainConfig
from jobs.dataset import cut
from jobs.device import Device, ask_device
from jobs.encode import encode_apart
from jobs.errors import FarenseError
from jobs.files import sha256_of
from jobs.needs import DataSize, estimate
from jobs.paths import Workspace
from jobs.preflight import memory_limits
from jobs.sweep.memory import too_large
from jobs.token_cache import encoded
from jobs.tokenizer import TemplateSettings, Tokenizer

log = structlog.get_logger(__name__)


class _NotYet(Exception):
    """No job has encoded the data yet."""


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
        except (FarenseError, _NotYet) as error:
            # The run itself will tell, before it trains.
            log.debug("memory_not_estimated", reason=str(error))
            return too_large(config, None, None, out_of_memory)

    def _needed(self, config: TrainConfig) -> int:
        measured = measured_memory(self._workspace, config)
        if measured is not None:
            return measured
        size, device = self._size(config), self._device
        model = self._workspace.model(config.model)
        needs = estimate(model, config, size, metal=device.metal, lanes=device.lanes)
        return needs.memory(cached=config.prefix_cache_gb != 0)

    def _size(self, config: TrainConfig) -> DataSize:
        """Return how large the data are, from the tokens that an earlier job has kept.

        Raises:
            _NotYet: there was none, and no limit is named.
        """
        path, model = self._workspace.root / config.data.train, self._workspace.model(config.model)
        asked = path, sha256_of(path), model, config.prompt_format
        cache = self._workspace.token_cache
        try:
            rows = encoded(*asked, _no_tokenizer, cache, self._template)
        except _NotYet:
            # Whoever names a limit wants it kept by the first trial, too.
            if self._memory_gb is None:
                raise
            encode_apart(*asked, cache, self._template)
            rows = encoded(*asked, _no_tokenizer, cache, self._template)
        data = cut(rows, mask_prompt=config.mask_prompt, max_seq_length=config.max_seq_length)
        lengths = [len(example.tokens) for example in data.examples]
        learned = sum(len(e.tokens) - e.prompt_length for e in data.examples)
        share = learned / max(1, sum(lengths))
        return DataSize(sum(lengths), max(lengths, default=0), share)

    @cached_property
    def _device(self) -> Device:
        return ask_device(max(self._base.batch_size, self._base.gradient_accumulation))

    @cached_property
    def _limit(self) -> int | None:
        if self._memory_gb is not None:
            return int(self._memory_gb * 1e9)
        return memory_limits(*self._device.memory).whole


def _no_tokenizer() -> Tokenizer:
    raise _NotYet("no job has encoded the data yet")
