"""What there is to export, and what is said of each export that was written."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jobs.errors import InvalidInput
from jobs.ollama.modelfile import check_model_name

ADAPTER, FUSED, REQUANTIZED, PEFT = "adapter", "fused", "requantized", "peft"
OLLAMA = "ollama"
GGUF_LORA = "gguf-lora"
# In which a GGUF can be written: see jobs/gguf/precision.py.
PRECISIONS = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
GGUF = {precision: f"gguf-{precision}" for precision in PRECISIONS}
# What stands behind the name of an export.
SUFFIXES = {ADAPTER: "", FUSED: "-fused", REQUANTIZED: "-fused-quantized", PEFT: "-peft"}
SUFFIXES |= {kind: f"-{kind}" for kind in (GGUF_LORA, *GGUF.values(), OLLAMA)}
# A loss that moved by more than this, in nats, is worth a warning.
MOVED = 0.01


@dataclass(frozen=True)
class ExportRequest:
    """What to export beside the adapter itself.

    Attributes:
        fuse: a whole model; ``requantize``: with the adapted layers quantized again.
        peft: the adapter as PEFT lays it out.
        gguf_lora: the adapter as a GGUF, for llama.cpp.
        gguf: whole models as GGUFs, in these precisions.
        verify: let llama.cpp compute with each GGUF, and compare.
        base_gguf: the base model as a GGUF, to verify an adapter with; left out, one is made.
        ollama: the name that the model gets in Ollama; None for no Modelfile.
        ollama_base: the base model by its name in Ollama, or its GGUF, for the adapter of
            ``gguf_lora`` to stand beside.
        name: of the folder below ``output/``; None for one of the model and the preset.
        force: an export of another job may be replaced.
    """

    fuse: bool = False
    requantize: bool = False
    peft: bool = False
    gguf_lora: bool = False
    gguf: tuple[str, ...] = ()
    verify: bool = False
    base_gguf: Path | None = None
    ollama: str | None = None
    ollama_base: str | None = None
    name: str | None = None
    force: bool = False

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            InvalidInput: ``requantize`` without ``fuse``, ``verify`` without a GGUF, or ``ollama``
                without weights that it reads.
        """
        if self.requantize and not self.fuse:
            raise InvalidInput("--requantize says how to --fuse: give both.")
        if self.verify and not (self.gguf or self.gguf_lora):
            raise InvalidInput(
                "--verify lets llama.cpp compute with a GGUF: add --gguf q8_0, or --gguf-lora."
            )
        if self.base_gguf is not None and not (self.verify and self.gguf_lora):
            raise InvalidInput(
                "--base-gguf is what --verify adds the adapter of --gguf-lora to: give all three."
            )
        self._check_ollama()

    def _check_ollama(self) -> None:
        if self.ollama_base is not None and not (self.ollama and self.gguf_lora):
            raise InvalidInput(
                "--ollama-base is what Ollama adds the adapter of --gguf-lora to: give it with "
                "--gguf-lora and --ollama."
            )
        if self.ollama is None:
            return
        check_model_name(self.ollama)
        whole = self.gguf or (self.fuse and not self.requantize)
        if not whole and self.ollama_base is None:
            raise InvalidInput(
                "--ollama says how Ollama makes a model of what is exported, and it reads "
                "neither an adapter of mlx-lm nor weights that MLX quantized.",
                "Give it a model, --gguf q8_0, or an adapter beside a model that Ollama has: "
                "--gguf-lora --ollama-base smollm2:135m",
            )

    @property
    def kinds(self) -> list[str]:
        """What is written, in this order."""
        fused = REQUANTIZED if self.requantize else FUSED
        ggufs = [GGUF[precision] for precision in dict.fromkeys(self.gguf)]
        return [
            ADAPTER,
            *[PEFT] * self.peft,
            *[fused] * self.fuse,
            *[GGUF_LORA] * self.gguf_lora,
            *ggufs,
            *[OLLAMA] * (self.ollama is not None),
        ]


@dataclass(frozen=True)
class Verified:
    """How a GGUF compares, in llama.cpp, with the adapter beside its base model in farense.

    Attributes:
        reader: what computed.
        loss, own_loss: over the validation set, nats per token.
        logits: the widest gap between logits behind a prompt, as a share of the largest of ours.
        next_tokens: of how many ``prompts`` the likeliest next token is the same.
        texts_apart: questions whose text llama.cpp splits into other tokens.
        answers: of how many ``questions`` of the evaluation the greedy answer is the same; None
            where the adapter was not evaluated.
        token_f1, own_token_f1: of those answers.
    """

    reader: str
    loss: float
    own_loss: float
    logits: float
    next_tokens: int
    prompts: int
    texts_apart: int
    answers: int | None = None
    questions: int | None = None
    token_f1: float | None = None
    own_token_f1: float | None = None

    @property
    def moved(self) -> float:
        """How much higher the loss is in llama.cpp."""
        return self.loss - self.own_loss


@dataclass(frozen=True)
class Exported:
    """A folder that was written.

    Attributes:
        kind: ``adapter``, ``peft``, ``fused``, ``requantized``, ``gguf-lora``, ``ollama``; or
            ``gguf-q8_0``, say.
        bytes: of all its files.
        dtype: of a fused model's weights, as they are computed with.
        validation_loss: of a fused model, nats per token; None where it was not measured.
        adapter_validation_loss: of the base model with the adapter beside it, measured just before.
        file: the name of a GGUF; None of other kinds.
        verified: what llama.cpp makes of it; None where it was not asked.
    """

    kind: str
    folder: str
    job: str
    adapter_sha256: str
    bytes: int = 0
    dtype: str | None = None
    validation_loss: float | None = None
    adapter_validation_loss: float | None = None
    file: str | None = None
    verified: Verified | None = None

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


def as_told(found: Exported) -> dict[str, Any]:
    """Return an export as a marker and ``--json`` tell it: of no GGUF, nothing about GGUFs."""
    told = asdict(found)
    if found.file is None:
        del told["file"], told["verified"]
    elif found.verified is not None:
        told["verified"]["moved"] = found.verified.moved
    return told


def verified_lines(found: Verified) -> list[str]:
    """Return what llama.cpp made of a GGUF, a line for each thing that was compared."""
    lines = [
        f"in llama.cpp ({found.reader}) validation loss {found.loss:.4f}, of the adapter in "
        f"farense {found.own_loss:.4f} ({found.moved:+.4f})",
        f"logits behind {found.prompts} prompts apart by at most {found.logits:.2%} of the "
        f"largest; the likeliest next token the same in {found.next_tokens}",
    ]
    if found.token_f1 is not None and found.own_token_f1 is not None:
        change = found.token_f1 - found.own_token_f1
        lines.append(
            f"{found.answers} of {found.questions} greedy answers the same as in the evaluation; "
            f"token F1 {found.token_f1:.3f}, in farense {found.own_token_f1:.3f} ({change:+.3f})"
        )
    if found.texts_apart:
        lines.append(f"{found.texts_apart} questions are split into other tokens there")
    return lines
