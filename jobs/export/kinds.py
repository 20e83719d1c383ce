"""What there is to export, and what is said of each export that was written."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.errors import InvalidInput
from jobs.ollama.modelfile import check_model_name

ADAPTER, FUSED, REQUANTIZED, PEFT = "adapter", "fused", "requantized", "peft"
OLLAMA = "ollama"
# What stands behind the name of an export.
SUFFIXES = {
    ADAPTER: "",
    FUSED: "-fused",
    REQUANTIZED: "-fused-quantized",
    PEFT: "-peft",
    OLLAMA: "-ollama",
}
# A loss that moved by more than this, in nats, is worth a warning.
MOVED = 0.01


@dataclass(frozen=True)
class ExportRequest:
    """What to export beside the adapter itself.

    Attributes:
        fuse: a whole model; ``requantize``: with the adapted layers quantized again.
        peft: the adapter as PEFT lays it out.
        ollama: the name that the model gets in Ollama; None for no Modelfile.
        name: of the folder below ``output/``; None for one of the model and the preset.
        force: an export of another job may be replaced.
    """

    fuse: bool = False
    requantize: bool = False
    peft: bool = False
    ollama: str | None = None
    name: str | None = None
    force: bool = False

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            InvalidInput: ``requantize`` without ``fuse``, or ``ollama`` without weights that it
                reads.
        """
        if self.requantize and not self.fuse:
            raise InvalidInput("--requantize says how to --fuse: give both.")
        if self.ollama is not None:
            check_model_name(self.ollama)
            if not self.fuse or self.requantize:
                raise InvalidInput(
                    "--ollama says how Ollama makes a model of what is exported, and it reads "
                    "neither an adapter of mlx-lm nor weights that MLX quantized.",
                    "Give --fuse with it, without --requantize.",
                )

    @property
    def kinds(self) -> list[str]:
        """What is written, in this order."""
        fused = REQUANTIZED if self.requantize else FUSED
        ollama = [OLLAMA] * (self.ollama is not None)
        return [ADAPTER, *[PEFT] * self.peft, *[fused] * self.fuse, *ollama]


@dataclass(frozen=True)
class Exported:
    """A folder that was written.

    Attributes:
        kind: ``adapter``, ``peft``, ``fused``, ``requantized`` or ``ollama``.
        bytes: of all its files.
        dtype: of a fused model's weights, as they are computed with.
        validation_loss: of a fused model, nats per token; None where it was not measured.
        adapter_validation_loss: of the base model with the adapter beside it, measured just before.
    """

    kind: str
    folder: str
    job: str
    adapter_sha256: str
    bytes: int = 0
    dtype: str | None = None
    validation_loss: float | None = None
    adapter_validation_loss: float | None = None

    @property
    def moved(self) -> float | None:
        """How far fusing moved the validation loss, nats; None where it was not measured."""
        if self.validation_loss is None or self.adapter_validation_loss is None:
            return None
        return self.validation_loss - self.adapter_validation_loss

    @property
    def moved_too_far(self) -> bool:
        """Whether that is worth a warning; a loss that is no number is."""
        return self.moved is not None and not abs(self.moved) <= MOVED
