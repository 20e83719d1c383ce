"""The model of a job: cut at its boundary, adapted above it, in memory only as far as needed."""

from __future__ import annotations

from pathlib import Path

from jobs.allocator import return_freed_memory
from jobs.config import TrainConfig
from jobs.lora import DropoutNoise, HostNoise
from jobs.mlx import mx, on_metal
from jobs.model import apply_lora, load_base, unload_blocks
from jobs.split import split_model, verified


class BaseModel:
    """A frozen model with an adapter.

    Attributes:
        language: the model, cut where it can be.
        form: how the frozen weights are held, for the log.
        noise: the random numbers of dropout.
        reach: the adapted layers.
    """

    def __init__(self, path: Path, config: TrainConfig) -> None:
        self.path = path
        self.module, self.form = load_base(path)
        self.language = split_model(
            self.module,
            config.lora.num_layers,
            config.max_seq_length,
            grad_checkpoint=config.grad_checkpoint,
        )
        self.noise = (DropoutNoise if on_metal() else HostNoise)(config.lora.dropout)
        self.reach = apply_lora(self.module, config.lora, config.seed, self.noise)
        self.boundary = len(self.module.layers) - config.lora.num_layers
        self.module.train()  # mlx-lm loads for generation

    def verify(self) -> None:
        """Compute a probe cut and whole; where they differ, leave the model whole. Reads it all."""
        self.module.eval()
        self.language = verified(self.language)
        self.module.train()

    def load(self) -> None:
        """Read what every step needs: all above the boundary, or the whole of an uncut model."""
        if self.language.prefix is None:
            mx.eval(self.module.parameters())
            return
        body = self.module.model
        mx.eval([block.parameters() for block in body.layers[self.boundary :]])
        mx.eval(body.norm.parameters())
        # Where the embedding is the head too, or there is a head of its own.
        mx.eval(
            (self.module.lm_head if "lm_head" in self.module else body.embed_tokens).parameters()
        )

    def load_below(self) -> None:
        """Read what computes the prefix states."""
        body = self.module.model
        mx.eval(body.embed_tokens.parameters())
        mx.eval([block.parameters() for block in body.layers[: self.boundary]])

    def unload_below(self) -> None:
        """Give back the memory of the blocks below the boundary."""
        unload_blocks(self.module, self.path, self.boundary)
        mx.clear_cache()
        return_freed_memory()
