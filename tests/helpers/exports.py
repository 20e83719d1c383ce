"""Exports made in this process, and models that others would compute with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.utils import dequantize_model, load_adapters, load_model, save

from jobs.export.export import export
from jobs.export.kinds import Exported, ExportRequest
from jobs.model.load import load_tokenizer
from jobs.paths import Workspace
from jobs.spec import read_spec


def exported(
    workspace: Workspace, job: str, warnings: list[str] | None = None, **wanted: Any
) -> dict[str, Exported]:
    """Export a job's adapter; return what was written by its kind."""
    warn = warnings.append if warnings is not None else print
    spec = read_spec(workspace.run(job))
    return {f.kind: f for f in export(workspace, spec, ExportRequest(**wanted), print, warn)}


def float32_model(source: Path, target: Path) -> Path:
    """Write a quantized model dequantized to float32, as transformers loads it, by mlx-lm alone."""
    module, config = load_model(source)
    module.set_dtype(mx.float32)
    module = dequantize_model(module)
    kept = {name: value for name, value in config.items() if not name.startswith("quantization")}
    save(target, source, module, load_tokenizer(source).wrapper, kept | {"torch_dtype": "float32"})
    return target


def mlx_logits(model: Path, adapter: Path | None, tokens: list[int]) -> mx.array:
    """Return the logits [L, V] of a model, and of an adapter beside it, by mlx-lm alone."""
    module, _ = load_model(model)
    if adapter is not None:
        module = load_adapters(module, str(adapter))
        module.eval()
    logits: mx.array = module(mx.array([tokens]))[0]
    return logits
