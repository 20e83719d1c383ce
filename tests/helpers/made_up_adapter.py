"""An adapter that nobody has trained: whole, and of the right shapes for the tiny model."""

from __future__ import annotations

from pathlib import Path

import orjson

from jobs.paths import RunDirectory
from jobs.spec import read_spec
from jobs.storage.files import write_atomic, write_json

# The tiny model's layers within a block: (inputs, outputs).
SHAPES = {"self_attn.q_proj": (64, 64), "mlp.up_proj": (64, 128)}
BLOCKS = 4


def put_made_up_adapter(run: RunDirectory) -> None:
    """Write the adapter that the job of ``run`` would leave, all zeros, beside its settings."""
    lora = read_spec(run).config["lora"]
    rank, first = lora["rank"], BLOCKS - lora["num_layers"]
    shapes = {}
    for path, (inputs, outputs) in SHAPES.items():
        if path.rpartition(".")[2] in lora["keys"]:
            for block in range(first, BLOCKS):
                name = f"model.layers.{block}.{path}"
                shapes[f"{name}.lora_a"] = (inputs, rank)
                shapes[f"{name}.lora_b"] = (rank, outputs)
    run.adapters.mkdir(exist_ok=True)
    write_json(run.adapters / "adapter_config.json", {"fine_tune_type": "lora"})
    write_arrays(run.adapter_weights, shapes)


def write_arrays(path: Path, shapes: dict[str, tuple[int, int]]) -> None:
    """Write safetensors of float32 zeros, without MLX."""
    header, end = {}, 0
    for name, (rows, columns) in shapes.items():
        begin, end = end, end + 4 * rows * columns
        header[name] = {"dtype": "F32", "shape": [rows, columns], "data_offsets": [begin, end]}
    text = orjson.dumps(header)
    write_atomic(path, len(text).to_bytes(8, "little") + text + bytes(end))
