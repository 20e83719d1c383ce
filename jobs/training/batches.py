"""Which batch comes when: the order of every epoch, and the fixed sets that are measured."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jobs.backend.mlx import mx
from jobs.backend.streams import Lanes
from jobs.config.config import TrainConfig
from jobs.config.step_plan import Schedule
from jobs.data.batching import (
    Batch,
    IntArray,
    epoch_order,
    evaluation_order,
    fixed_slice,
    make_batch,
)
from jobs.data.tokenize import TokenizedExample
from jobs.prefix.prefix import PrefixStates
from jobs.resources.ways import Way
from jobs.training.padding import Shape, Shapes, bounded, natural, smallest

# Measuring needs no gradients, so its batches may be larger than those of training.
MEASURE_BATCH = 8


@dataclass(frozen=True)
class Piece:
    """Rows that are computed together, with what the model is given for them.

    Attributes:
        inputs: token ids [B, L], or the states [B, L, D] that enter the first adapted block.
        lane: where to compute it.
    """

    batch: Batch
    inputs: mx.array
    lane: int


@dataclass(frozen=True)
class Source:
    """The examples of one data file, and their prefix states where the model is cut."""

    examples: tuple[TokenizedExample, ...]
    states: PrefixStates | None = None

    def piece(self, rows: Sequence[int], lane: int, shape: Shape = (0, 0)) -> Piece:
        """Return some examples as one piece, padded at least to ``shape``."""
        chosen = [self.examples[i] for i in rows]
        batch = make_batch(chosen, shape)
        if self.states is None:
            return Piece(batch, mx.array(batch.inputs), lane)
        return Piece(batch, self.states.padded(rows, batch.inputs.shape[1]), lane)


class BatchPlan:
    """The batches of a run; each a function of the data, the config and the step alone.

    Attributes:
        measured_rows: of a piece of a validation, at most.

    Args:
        lanes: of the machine. Pieces are as small as if they were computed on all of them.
        splits: halvings of every piece, after running out of memory.
        way: how they are computed, where memory allows no more; left out, on all lanes.
    """

    def __init__(
        self,
        train: Source,
        valid: Source | None,
        config: TrainConfig,
        lanes: Lanes,
        splits: int = 0,
        way: Way | None = None,
    ) -> None:
        self._train, self._valid, self._config = train, valid, config
        self._parallel, self._splits = len(lanes), splits
        self._lanes = way.streams if way else len(lanes)
        halvings = splits + (way.halvings if way else 0)
        self.measured_rows = max(1, (MEASURE_BATCH >> halvings) // len(lanes))
        self._lengths = [len(example.tokens) for example in train.examples]
        self.schedule: Schedule = config.schedule(len(train.examples))
        self._epoch: tuple[int, list[IntArray]] = (-1, [])
        first = range(1, min(self.schedule.steps_per_epoch, self.schedule.total_steps) + 1)
        self._shapes = Shapes(
            train.examples, (part for step in first for part in self._parts(step))
        )

    @property
    def validation_examples(self) -> int:
        """How many examples validation measures; 0 without validation data."""
        return len(self._valid.examples) if self._valid else 0

    def step(self, step: int) -> list[Piece]:
        """Return the micro-batch of ``step``, counted from 1 within the run, in its pieces."""
        return [
            self._train.piece(rows, lane, self._shapes.of(lane, rows))
            for lane, rows in self._parts(step)
        ]

    def _parts(self, step: int) -> list[tuple[int, Sequence[int]]]:
        """Return lane and rows of each piece of a micro-batch.

        Micro-batches of one update need not wait for each other: as far as there is one for every
        lane, each is computed whole on a lane of its own. What is left over is cut.
        """
        parallel, place = self._parallel, self.schedule.place_in_update(step)
        whole = place < self.schedule.gradient_accumulation // parallel * parallel
        pieces = cut(self.rows(step).tolist(), (1 if whole else parallel) << self._splits)
        return [
            ((place if whole else number) % self._lanes, rows) for number, rows in enumerate(pieces)
        ]

    def rows(self, step: int) -> IntArray:
        """Return which training examples the micro-batch of ``step`` holds."""
        epoch, index = self.schedule.position(step)
        if self._epoch[0] != epoch:
            size, seed = self._config.batch_size, self._config.seed
            self._epoch = (epoch, epoch_order(self._lengths, size, seed, epoch))
        return self._epoch[1][index]

    def used_rows(self) -> list[int]:
        """Return which training examples the run uses: all, unless it ends within an epoch."""
        if self.schedule.total_steps >= self.schedule.steps_per_epoch:
            return list(range(len(self._lengths)))
        trained = {int(i) for n in range(self.schedule.total_steps) for i in self.rows(n + 1)}
        return sorted(trained | set(self._slice_rows()))

    @property
    def validation(self) -> Iterator[Piece]:
        """The validation set: the same examples in the same pieces every time."""
        examples = self._valid.examples if self._valid else ()
        return self._measured(self._valid, range(len(examples)))

    @property
    def train_slice(self) -> Iterator[Piece]:
        """The fixed slice of the training set whose loss stands beside the validation loss."""
        return self._measured(self._train, self._slice_rows())

    def _slice_rows(self) -> list[int]:
        return fixed_slice(len(self._lengths), self._config.gap_examples)

    def largest_pieces(self) -> list[Piece]:
        """Return a piece as large as they can become for each lane and number of rows."""
        return [
            self._train.piece(rows, lane, shape)
            for lane, rows, shape in self._shapes.largest_pieces()
        ]

    def largest_measured(self) -> list[Piece]:
        """Return the pieces of validations with the most tokens and the most targets."""
        slices = (self._valid, range(self.validation_examples)), (self._train, self._slice_rows())
        found = [
            (source, rows, shape)
            for source, chosen in slices
            if source is not None and self._valid is not None
            for rows, shape in self._measured_parts(source, chosen)
        ]
        if not found:
            return []
        most = (
            max(found, key=lambda part: (len(part[1]) * part[2][0], part[2])),
            max(found, key=lambda part: (part[2][1], part[2])),
        )
        both = most[:1] if most[0] == most[1] else most
        return [source.piece(rows, 0, shape) for source, rows, shape in both]

    def _measured(self, source: Source | None, rows: Sequence[int]) -> Iterator[Piece]:
        if source is None:
            return
        for number, (batch, shape) in enumerate(self._measured_parts(source, rows)):
            yield source.piece(batch, number % self._lanes, shape)

    def _measured_parts(
        self, source: Source, rows: Sequence[int]
    ) -> list[tuple[Sequence[int], Shape]]:
        lengths = [len(source.examples[i].tokens) for i in rows]
        order = evaluation_order(lengths, self.measured_rows)
        batches = [[rows[i] for i in chosen] for chosen in order]
        shapes = [natural([source.examples[i] for i in batch]) for batch in batches]
        known = bounded(shapes)
        return [
            (batch, smallest(shape, known, len(batch)))
            for batch, shape in zip(batches, shapes, strict=True)
        ]


def cut(rows: Sequence[int], parts: int) -> list[Sequence[int]]:
    """Cut ``rows`` into so many parts of nearly the same length, none of them empty."""
    parts = min(parts, len(rows))
    bounds = [len(rows) * number // parts for number in range(parts + 1)]
    return [rows[start:end] for start, end in itertools.pairwise(bounds)]
