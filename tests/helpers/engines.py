"""Engines on real tiny models, the examples they train on, and what they must compute."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from jobs.backend.mlx import mx, nn, tree_unflatten
from jobs.backend.streams import Lanes
from jobs.config.config import TrainConfig, config_from
from jobs.data.tokenize import TokenizedExample
from jobs.model.base_model import BaseModel
from jobs.model.losses import token_losses
from jobs.model.split import LanguageModel, uncut
from jobs.prefix.prefix import Prefix, PrefixStates
from jobs.training.batches import Piece, Source
from jobs.training.engine import Engine
from tests.helpers.runs import SETTINGS

Examples = tuple[TokenizedExample, ...]
Arrays = dict[str, np.ndarray]

NO_DROPOUT = {**SETTINGS["lora"], "dropout": 0.0}


def settings(**changes: object) -> TrainConfig:
    """Return the settings of the tests' jobs, with ``changes``."""
    return config_from({**SETTINGS, "data": {"train": "x"}, **changes}, "test")


def examples(count: int = 8, *, longest: int = 60, vocabulary: int = 500) -> Examples:
    """Return random examples; the second half of each is its completion."""
    random = np.random.default_rng(5)
    lengths = random.integers(6, longest, count)
    return tuple(
        TokenizedExample(tuple(random.integers(3, vocabulary, n).tolist()), int(n) // 2)
        for n in lengths
    )


@cache
def lanes(count: int = 1) -> Lanes:
    """Return ``count`` lanes, whatever the machine has."""
    return Lanes(tuple(mx.new_stream(mx.default_device()) for _ in range(count)), 1)


class Rig:
    """A model in a folder with its engine, and examples as pieces for it.

    Args:
        model: the folder.
        rows: what there is to train on.
        lanes_count: where it computes.
        whole: leave the model uncut.
        changes: to the settings.
    """

    def __init__(
        self,
        model: Path,
        rows: Examples = (),
        *,
        lanes_count: int = 1,
        whole: bool = False,
        **changes: object,
    ) -> None:
        self.config, self.lanes = settings(**changes), lanes(lanes_count)
        self.base = BaseModel(model, self.config)
        if whole:
            self.base.language = uncut(self.base.module, "the test wants it so")
        self.base.verify()
        self.base.load()
        self.language: LanguageModel = self.base.language
        self.source = Source(rows or examples(), self._states(rows or examples()))
        self.engine = Engine(self.language, self.base.noise, self.lanes, self.config)

    @property
    def module(self) -> nn.Module:
        """The model with the adapter as it is now; a graph that was traced leaves its own there."""
        self.base.module.update(tree_unflatten(list(self.engine.adapter.items())))
        return self.base.module

    def losses(self, piece: Piece) -> np.ndarray:
        """Return the loss of every target of a piece, padding left out, dropout off."""
        self.module.eval()
        positions, targets = mx.array(piece.batch.positions), mx.array(piece.batch.targets)
        losses = np.array(token_losses(self.language, piece.inputs, positions, targets))
        self.module.train()
        return np.compress(piece.batch.weights == 1, losses)

    def pieces(self, *rows: Sequence[int]) -> list[Piece]:
        """Return pieces that hold the examples ``rows``, on the lanes in turn."""
        return [self.source.piece(part, n % len(self.lanes)) for n, part in enumerate(rows)]

    def all(self) -> list[Piece]:
        """Return all examples as one piece."""
        return self.pieces(range(len(self.source.examples)))

    def move_adapter(self, by: float = 0.01) -> None:
        """Leave the start, where the B matrices are zero and the A matrices have no gradient."""
        self.engine.adapter = {name: array + by for name, array in self.engine.adapter.items()}

    def adapter(self) -> Arrays:
        """Return the adapter as it is now."""
        return {name: np.array(array) for name, array in self.engine.adapter.items()}

    def gradient(self, count: int) -> Arrays:
        """Return what the lanes have accumulated together, divided by ``count``."""
        return {
            name: np.array(sum(lane[name] for lane in self.engine.accumulated)) / count
            for name in self.engine.adapter
        }

    def _states(self, rows: Examples) -> PrefixStates | None:
        if self.language.prefix is None:
            return None
        prefix = Prefix(self.language.prefix, self.base.load_below, self.lanes)
        return PrefixStates(prefix, rows, _fail)


def plain_loss(module: nn.Module, rows: Examples) -> float:
    """Return the mean loss by a float64 log-softmax in NumPy, one unpadded example at a time."""
    losses = []
    for example in rows:
        ids = mx.array([example.tokens])
        logits = np.array(module(ids).astype(mx.float32), np.float64)[0]
        between = {index for start, end in example.gaps for index in range(start, end)}
        for index in sorted({*range(example.prompt_length, len(example.tokens))} - between):
            row = logits[index - 1]
            log_sum = row.max() + np.log(np.exp(row - row.max()).sum())
            losses.append(log_sum - row[example.tokens[index]])
    return float(np.mean(losses))


def target_count(rows: Examples) -> int:
    """Return how many tokens of ``rows`` are learned."""
    return sum(len(example.tokens) - example.prompt_length for example in rows)


def _fail(message: str) -> None:
    raise AssertionError(message)
