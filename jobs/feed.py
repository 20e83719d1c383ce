"""Which batch comes when: the order of every epoch, and the fixed sets that are measured."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from jobs.batching import Batch, epoch_order, evaluation_order, fixed_slice, make_batch
from jobs.config import TrainConfig
from jobs.dataset import TokenizedExample
from jobs.schedule import Schedule

# Measuring needs no gradients, so its batches may be larger than those of training.
MEASURE_BATCH = 8

Examples = tuple[TokenizedExample, ...]


class Feed:
    """The batches of a run; each a function of the data, the config and the step alone."""

    def __init__(self, train: Examples, valid: Examples, config: TrainConfig) -> None:
        self._train, self._valid, self._config = train, valid, config
        self.schedule: Schedule = config.schedule(len(train))
        self._epoch: tuple[int, list[Batch]] = (-1, [])

    @property
    def validation_examples(self) -> int:
        """How many examples validation measures; 0 without validation data."""
        return len(self._valid)

    def batch(self, step: int) -> Batch:
        """Return the micro-batch of ``step``, counted from 1 within the run."""
        epoch, index = self.schedule.position(step)
        if self._epoch[0] != epoch:
            lengths = [len(example.tokens) for example in self._train]
            order = epoch_order(lengths, self._config.batch_size, self._config.seed, epoch)
            self._epoch = (epoch, [_batch(self._train, rows) for rows in order])
        return self._epoch[1][index]

    @cached_property
    def validation(self) -> list[Batch]:
        """The validation set: the same examples in the same batches every time."""
        return _measuring(self._valid)

    @cached_property
    def train_slice(self) -> list[Batch]:
        """The fixed slice of the training set whose loss stands beside the validation loss."""
        chosen = fixed_slice(len(self._train), self._config.gap_examples)
        return _measuring(tuple(self._train[i] for i in chosen))


def _batch(examples: Examples, rows: Iterable[int]) -> Batch:
    return make_batch([(examples[i].tokens, examples[i].prompt_length) for i in rows])


def _measuring(examples: Examples) -> list[Batch]:
    order = evaluation_order([len(example.tokens) for example in examples], MEASURE_BATCH)
    return [_batch(examples, rows) for rows in order]
