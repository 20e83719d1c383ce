"""The model of a job: cut at its boundary, adapted above it, in memory only as far as needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from jobs.backend.allocator import return_freed_memory
from jobs.backend.backend import backend
from jobs.backend.mlx import mx
from jobs.config.config import TrainConfig
from jobs.errors import ConfigError
from jobs.model.crossing import probe_ids
from jobs.model.load import apply_lora, load_base, unload_blocks
from jobs.model.lora import DropoutNoise, HostNoise
from jobs.model.probe import bypassed_layers, cut_agrees, settled
from jobs.model.split import NOT_A_CHAIN, failed, probe_inputs, split_model, uncut_of, verified
from jobs.model_store.architectures import check_trainable

Result = TypeVar("Result")


class BaseModel:
    """A frozen model with an adapter.

    Attributes:
        language: the model, cut where it can be.
        form: how the frozen weights are held, for the log.
        noise: the random numbers of dropout.
        reach: the adapted layers.

    Raises:
        ModelError: the architecture cannot be trained.
        ConfigError: a key of the adapter matches nothing, or a layer that cannot be adapted.
    """

    def __init__(self, path: Path, config: TrainConfig) -> None:
        self.path = path
        check_trainable(path, config.lora.keys)
        self.module, self.form = load_base(path)
        self.language = split_model(
            self.module,
            config.lora.num_layers,
            grad_checkpoint=bool(config.grad_checkpoint),
        )
        self.noise = (HostNoise if backend().noise_on_host else DropoutNoise)(config.lora.dropout)
        self.reach = apply_lora(self.module, config.lora, config.seed, self.noise)
        self.boundary = len(self.module.layers) - config.lora.num_layers
        self.module.train()  # mlx-lm loads for generation

    def verify(self) -> None:
        """Compute a probe cut and whole; where they differ, leave the model whole. Reads it all.

        Raises:
            ModelError: the architecture cannot be computed, or not be trained.
            ConfigError: a layer of it cannot be adapted.
        """
        self.module.eval()
        self.language = verified(self.language)
        self.module.train()
        if not self._tried(lambda: cut_agrees(self.language)):
            self.language = uncut_of(self.language, NOT_A_CHAIN)

    def settle(self) -> tuple[str, ...]:
        """Leave out the shortcuts that give another loss or other gradients; return their names.

        Reads what every step needs.

        Raises:
            ModelError: the architecture has no gradient.
            ConfigError: a layer of it cannot be adapted.
        """
        self.language, left_out = self._tried(lambda: settled(self.language))
        return left_out

    def compute_again(self, wanted: bool) -> None:
        """Compute blocks again in the backward pass, or keep what they made; where that is known.

        What was compiled before stays as it was.
        """
        if self.language.chain is not None:
            self.language.chain.grad_checkpoint = wanted

    def probe_inputs(self) -> mx.array:
        """Return what ``language.rows`` takes, of a few made up tokens."""
        return probe_inputs(self.language)

    def _tried(self, probe: Callable[[], Result]) -> Result:
        try:
            return probe()
        except Exception as error:  # whatever the architecture and MLX raise
            if bypassed := bypassed_layers(self.module):
                raise ConfigError(
                    f"lora.keys: {', '.join(bypassed)} cannot be adapted: mlx-lm's code for this "
                    f"architecture does not call that layer ({type(error).__name__}: {error}).",
                    "Name the other layers in lora.keys, without it.",
                ) from error
            raise failed(self.module, error) from error

    def load(self) -> None:
        """Read what every step needs: all above the boundary, or the whole of an uncut model."""
        if self.language.prefix is None:
            mx.eval(self.module.parameters())
            return
        # Whatever it is that computes the probe: names of parts differ.
        mx.eval(self.language.head(self.language.rows(self.probe_inputs(), mx.arange(1))))

    def load_below(self) -> None:
        """Read what computes the prefix states."""
        if self.language.prefix is not None:
            mx.eval(self.language.prefix(probe_ids()))

    def unload_below(self) -> None:
        """Give back the memory of the blocks below the boundary."""
        unload_blocks(self.module, self.path, self.boundary)
        mx.clear_cache()
        return_freed_memory()
