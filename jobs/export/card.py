"""The model card of an export: where it comes from, what was measured, how to load it.

Nothing stands in it that was not measured, and no path of this machine: a card is made to be read
elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from jobs.config.config import TrainConfig
from jobs.evaluation.scores import TITLES
from jobs.export.folder import OPTIONS_FILE
from jobs.export.kinds import (
    ADAPTER,
    FUSED,
    GGUF,
    GGUF_LORA,
    OLLAMA,
    PEFT,
    REQUANTIZED,
    Exported,
    verified_lines,
)
from jobs.export.prompting import QUESTION, Prompting
from jobs.model.foreign_adapter import FARENSE
from jobs.past_run import PastRun
from jobs.spec import DataFile, JobSpec
from jobs.storage.files import write_atomic, write_json
from jobs.verdict import verdict

KINDS = {"lora": "LoRA", "dora": "DoRA"}
WHAT = {
    ADAPTER: "A Q{kind} adapter for `{model}`, as mlx-lm loads it.",
    PEFT: "A {kind} adapter trained on `{model}`, as Hugging Face PEFT loads it.",
    FUSED: "`{model}` with a Q{kind} adapter in its weights, which are {dtype} and not quantized.",
    REQUANTIZED: "`{model}` with a Q{kind} adapter in its weights. The adapted layers were "
    "quantized again, which keeps only a part of what the adapter adds.",
    OLLAMA: "What Ollama makes a model of: `{model}` with a Q{kind} adapter.",
    GGUF_LORA: "A {kind} adapter for `{model}` as a GGUF, which llama.cpp and Ollama load beside a "
    "GGUF of that model.",
}
GGUF_WHAT = (
    "`{model}` with a Q{kind} adapter in its weights as a GGUF, {precision}, as llama.cpp, Ollama "
    "and LM Studio load it."
)
GGUF_EXAMPLE = """\
    {command} \\
        --model {model}{adapter}
"""
BASE_GGUF = "BASE-MODEL.gguf"
MLX_EXAMPLE = """\
    python -m mlx_lm generate --model {model}{adapter} \\
        {prompt} --max-tokens 200
"""
OLLAMA_EXAMPLE = """\
    ollama create {name} -f {folder}/Modelfile
    ollama run {name} "{question}"

The Modelfile names the weights by a path from its own folder. It answers greedily, as the job was
evaluated: change `temperature` in it, or in a question's options, for answers that vary.
"""
PEFT_EXAMPLE = """\
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained("THE BASE MODEL")
    model = PeftModel.from_pretrained(model, "{folder}")

The base model has to be one that transformers loads: the one that `{model}` was quantized from, or
`{model}` itself, dequantized: `python -m mlx_lm convert --hf-path {path} -d --mlx-path FOLDER`. The
adapter was trained beside the quantized weights; beside others it was not measured.
"""


@dataclass(frozen=True)
class Card:
    """What a card tells of.

    Attributes:
        past: the job's files.
        exported: the export; its folder's name is the card's heading.
        prompting: how the job's prompts are made.
        ollama: the name that a model gets in Ollama.
    """

    past: PastRun
    spec: JobSpec
    config: TrainConfig
    exported: Exported
    prompting: Prompting
    ollama: str | None = None

    @property
    def name(self) -> str:
        """The name of the export."""
        return Path(self.exported.folder).name

    @property
    def model(self) -> str:
        """The name of the base model's folder."""
        return Path(self.config.model).name


def write_card(folder: Path, card: Card) -> None:
    """Write ``README.md``, and what its command reads.

    Raises:
        WorkspaceError: it cannot be written.
    """
    if card.prompting.in_file:
        write_json(folder / OPTIONS_FILE, card.prompting.options)
    write_atomic(folder / "README.md", card_text(card).encode())


def card_text(card: Card) -> str:
    """Return a model card in Markdown, with the front matter that model hubs read."""
    kind = card.exported.kind
    head = {
        "library_name": _library(kind),
        "pipeline_tag": "text-generation",
        "tags": ["farense", card.config.lora.kind],
    }
    adapter = KINDS[card.config.lora.kind]
    precision = kind.removeprefix("gguf-").upper()
    what = WHAT.get(kind, GGUF_WHAT).format(
        model=card.model, dtype=card.exported.dtype, kind=adapter, precision=precision
    )
    settings = yaml.safe_dump(card.spec.config, sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {card.name}",
        f"{what} Trained with farense {card.spec.versions.get('farense', '')}".rstrip() + ".",
        "## How to load it",
        _example(card),
        "## What was measured",
        _measured(card),
        "## Where it comes from",
        _lines(_origin(card)),
        "## Settings",
        f"```yaml\n{settings}```",
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _library(kind: str) -> str:
    """Return the library that loads an export, by the word that model hubs have for it."""
    if kind == PEFT:
        return "peft"
    return "gguf" if kind in (GGUF_LORA, OLLAMA, *GGUF.values()) else "mlx"


def _gguf_example(card: Card) -> str:
    file = f"output/{card.name}/{card.exported.file}"
    alone = card.exported.kind != GGUF_LORA
    command = GGUF_EXAMPLE.format(
        command=card.prompting.llama_command(),
        model=file if alone else BASE_GGUF,
        adapter="" if alone else f" --lora {file}",
    )
    if alone:
        return command
    return (
        f"{command}\n`{BASE_GGUF}` is a GGUF of `{card.model}`, in any precision: the one that it "
        "was made from, or one that has been published."
    )


def _example(card: Card) -> str:
    if card.exported.file is not None:
        return _gguf_example(card)
    folder = f"output/{card.name}"
    if card.exported.kind == PEFT:
        return PEFT_EXAMPLE.format(folder=folder, model=card.model, path=card.config.model)
    if card.exported.kind == OLLAMA:
        return OLLAMA_EXAMPLE.format(folder=folder, name=card.ollama, question=QUESTION)
    beside = card.exported.kind == ADAPTER
    command = MLX_EXAMPLE.format(
        model=card.config.model if beside else folder,
        adapter=f" --adapter-path {folder}" if beside else "",
        prompt=card.prompting.arguments(folder),
    )
    return "\n".join([command, *card.prompting.remarks()])


def _measured(card: Card) -> str:
    lines = [*training_lines(card.past.summary), *_fusing(card.exported)]
    report = card.past.report
    evaluated = report is not None and report.get("adapter_sha256") == card.exported.adapter_sha256
    if not evaluated:
        lines.append("its answers: not evaluated")
    text = _lines(lines)
    if evaluated and report is not None:
        text += f"\n\nIts answers to the {report['questions']} questions of the validation set, "
        text += "with 95% bootstrap intervals"
        if card.exported.kind != ADAPTER:
            text += " (of the adapter beside the base model)"
        text += f":\n\n{_scores(report)}"
    return text


def training_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield what training measured; nothing of a run that has not ended."""
    if (state := summary.get("state")) is None:
        yield "the training had not ended when this was exported"
        return
    yield f"the training ended as `{state}`"
    loss, gap = summary.get("best_val_loss"), summary.get("best_gap")
    if not isinstance(loss, float):
        return
    yield f"validation loss {loss:.4f} nats per token, at step {summary.get('best_step')}"
    before = summary.get("baseline_val_loss")
    before = before if isinstance(before, float) else None
    if before is not None:
        started = " (of the adapter that it started from)" if summary.get("init_from") else ""
        yield f"before training{started} {before:.4f}"
    found = verdict(baseline=before, best=loss, gap=gap if isinstance(gap, float) else None)
    if found is None:
        return
    if found.learned:
        yield f"gap (validation loss minus training loss) {found.gap:.4f}: {found.word}"
    else:
        yield f"{found.word}: {found.why}"
    if found.note:
        yield found.note


def _fusing(exported: Exported) -> Iterator[str]:
    if exported.validation_loss is not None:
        yield (
            f"validation loss of this fused model {exported.validation_loss:.4f}, of the base "
            f"model with the adapter beside it {exported.adapter_validation_loss:.4f}"
        )
    elif exported.kind in (FUSED, REQUANTIZED):
        yield "validation loss of this fused model: not measured"
    if exported.verified is not None:
        yield from verified_lines(exported.verified)
    elif exported.file is not None:
        yield "in llama.cpp: not measured"


def _scores(report: Mapping[str, Any]) -> str:
    rows = ["| score | adapter | base model |", "|---|---|---|"]
    for metric, name in TITLES.items():
        cells = [_cell(report[by]["scores"][metric]) for by in ("adapter", "base")]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cell(score: Mapping[str, float]) -> str:
    return f"{score['mean']:.3f} ({score['low']:.3f} to {score['high']:.3f})"


def _origin(card: Card) -> Iterator[str]:
    spec = card.spec
    yield f"base model: `{card.config.model}`"
    if spec.model_fingerprint:
        yield f"fingerprint of the base model: `{spec.model_fingerprint}`"
    yield f"job `{spec.id}`, preset `{spec.preset}`"
    if (start := spec.init_from) is not None:
        what = f"job `{start.source}`" if start.source == start.job else f"`{start.source}`"
        whose = "" if start.form == FARENSE else f" ({start.form})"
        yield f"started from the adapter of {what}{whose}, SHA-256 `{start.adapter_sha256}`"
    yield f"training data: {_data(spec.train)}"
    if spec.valid is not None:
        yield f"validation data: {_data(spec.valid)}"
    yield f"SHA-256 of `adapters.safetensors`: `{card.exported.adapter_sha256}`"


def _data(file: DataFile) -> str:
    # Of the source only its name: the folders of a machine are nobody's business.
    return f"`{Path(file.source).name}`, {file.examples} examples, SHA-256 `{file.sha256}`"


def _lines(lines: Iterator[str] | list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
