"""Shapes of models that people train, scaled to run here, and random models of them.

``shapes/<name>.json`` holds a ``config.json`` as mlx-lm reads it, what the shape stands for, and
how many of its last blocks are adapted (half of them where it does not say), with which keys
(farense's own where it does not say).

``python -P -m benchmarks.shapes NAME FOLDER`` writes a random model of a shape, in 4 bits as people
have them, with the tokenizer of the packaged model, whose ids every vocabulary here has room for.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.runs import SETTINGS, installed_model

FOLDER = Path(__file__).parent / "shapes"
# As `mlx_lm.convert -q` does it.
QUANTIZATION = {"group_size": 64, "bits": 4}
# What a shape is made smaller by, to see in seconds that it trains: each kind of block stays.
SMALL: dict[str, Any] = {
    "num_hidden_layers": 4,
    "full_attention_interval": 2,
    "sliding_window": 16,
    "sliding_window_pattern": 2,
    "layer_types": ["mamba", "attention"] * 2,
}


@dataclass(frozen=True)
class Shape:
    """A shape that ``shapes/<name>.json`` describes.

    Attributes:
        stands_for: what people train that it is like, in a few words.
        config: its ``config.json``.
        adapted_blocks: how many blocks are adapted, counted from the last.
        keys: the names of the layers that are adapted in them.
    """

    name: str
    stands_for: str
    config: dict[str, Any]
    adapted_blocks: int
    keys: tuple[str, ...]

    @classmethod
    def read(cls, name: str) -> Shape:
        """Return the shape of a name."""
        values = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        config = values["config"]
        half = _text_part(config)["num_hidden_layers"] // 2
        return cls(
            name=name,
            stands_for=values["stands_for"],
            config=config,
            adapted_blocks=values.get("adapted_blocks", half),
            keys=tuple(values.get("keys", SETTINGS["lora"]["keys"])),
        )

    @property
    def blocks(self) -> int:
        """How many blocks it has."""
        return int(_text_part(self.config)["num_hidden_layers"])

    def small(self, vocabulary: int) -> Shape:
        """Return the same with four blocks, two of each kind, and few words."""
        config: dict[str, Any] = json.loads(json.dumps(self.config))
        for part in (config, _text_part(config)):
            part |= {key: value for key, value in SMALL.items() if key in part}
            part |= {"vocab_size": vocabulary}
        return Shape(self.name, self.stands_for, config, 2, self.keys)


def names() -> list[str]:
    """Return the names of all shapes."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def write_model(shape: Shape, folder: Path, tokenizer: Path) -> None:
    """Write a random model of a shape with the tokenizer of another.

    Args:
        tokenizer: the folder of that model.
    """
    from benchmarks.families import can_be_quantized
    from jobs.backend.mlx import mx, named, nn

    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer / name, folder / name)
    told = json.loads((tokenizer / "config.json").read_text(encoding="utf-8"))
    ids = {key: told[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = shape.config | ids | {"quantization": QUANTIZATION}
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    mx.random.seed(0)
    model = build(config)
    model.set_dtype(mx.float16)
    nn.quantize(
        model,
        *QUANTIZATION.values(),
        class_predicate=lambda _, layer: can_be_quantized(layer, QUANTIZATION["group_size"]),
    )
    weights = named(model.parameters())
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})


def build(config: dict[str, Any]) -> Any:
    """Return the module that mlx-lm builds of a ``config.json``; nothing of it is computed yet."""
    from mlx_lm.utils import _get_classes

    # Some classes change what they are given.
    config = json.loads(json.dumps(config))
    model, arguments = _get_classes(config)
    return model(arguments.from_dict(config))


def main() -> None:
    """Write a model."""
    parser = argparse.ArgumentParser(prog="python -P -m benchmarks.shapes")
    parser.add_argument("name", choices=names())
    parser.add_argument("folder", type=Path)
    parser.add_argument("--small", action="store_true", help="a smaller one, to try a program")
    options = parser.parse_args()
    shape, tokenizer = Shape.read(options.name), options.folder / "tokenizer"
    if options.small:
        from jobs.model_store.tiny import VOCABULARY, make_tiny_model

        write_model(shape.small(VOCABULARY), options.folder, make_tiny_model(tokenizer))
    else:
        write_model(shape, options.folder, installed_model())
    shutil.rmtree(tokenizer, ignore_errors=True)


def _text_part(config: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a configuration that has the sizes."""
    part: dict[str, Any] = config.get("text_config", config)
    return part


if __name__ == "__main__":
    main()
