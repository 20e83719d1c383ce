"""The numbers of training: loss, gradients, AdamW, and the arrays that change with every step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from jobs.backend.kernel_cache import TORN
from jobs.backend.mlx import mx, named, scalar, tree_unflatten
from jobs.backend.streams import Lanes
from jobs.config.config import TrainConfig
from jobs.model.adapter_fit import Arrays, fitting
from jobs.model.lora import DropoutNoise
from jobs.model.losses import Result, same, token_losses
from jobs.model.split import LanguageModel
from jobs.resources.ways import Peak
from jobs.training.batches import Piece
from jobs.training.optimizer import AdamW, total

# How much memory all lanes together take before no more work is started, as a part of what the
# largest piece takes. MLX does not sleep while it waits for memory: its thread asks again and again
# (`wait_for_one` in mlx/scheduler.h returns at once where a single task is left), and takes a core
# from the lanes. With 1.2 steps with all blocks adapted, or of 1,024 tokens, took 1.5 times as long
# as with 1.6, which costs up to a tenth more memory.
STARTED = 1.6
# By how much of the largest piece MLX may overshoot a limit: it waits before arrays are made, and
# then makes them whole. Measured: up to 0.28 where logits are the largest of them.
OVERSHOT = 0.3


class Engine:
    """Model, optimizer and accumulators of a run.

    A step adds the gradient of the *summed* token losses of a micro-batch to what has accumulated;
    an update divides by the tokens of all its steps. So 2 x 4 is the same mean as 1 x 8, whatever
    the lengths. Each lane accumulates by itself; an update adds the lanes up.

    Losses, norms and the finite flag stay arrays until read: a step waits for nothing but, at most,
    for the work started before the last.

    Attributes:
        adapter: the trainable arrays by name, as mlx-lm stores them.
        grad_norm: L2 norm of the last update's mean gradient, before clipping; scalar.
        traces: how many graphs were traced so far: one for each new shape.
        compile_seconds: what that took: tracing, and of the largest shapes the first step whole.
    """

    def __init__(
        self, model: LanguageModel, noise: DropoutNoise, lanes: Lanes, config: TrainConfig
    ) -> None:
        self.noise, self.seed = noise, config.seed
        self.adapter: Arrays = named(model.module.trainable_parameters())
        self.optimizer = AdamW(self.adapter, config)
        self.grad_norm = mx.array(0.0)
        self.traces = 0
        self.compile_seconds = 0.0
        # The most memory until the trials, and in that of the way that is taken.
        self._earlier_peak: int | None = None
        self._trial_peak = 0
        self.use(model, lanes)

    def use(self, model: LanguageModel, lanes: Lanes) -> None:
        """Compute with a model on lanes from now on; before the first step alone."""
        self.model, self.module, self.lanes = model, model.module, lanes
        self.accumulated = [self._zeros() for _ in lanes.streams]
        self.loss_sums = [mx.array(0.0) for _ in lanes.streams]
        self.bad_steps = [mx.array(0) for _ in lanes.streams]
        self._started: list[mx.array] = []
        # Lanes that have no work yet.
        self._idle = set(range(len(lanes)))
        # A lane has graphs of its own: the stream is a part of what is compiled.
        self._steps = [mx.compile(self._step_graph) for _ in lanes.streams]
        self._measures = [mx.compile(self._measure_graph) for _ in lanes.streams]

    def settle(self, inputs: mx.array) -> str | None:
        """Compute a step and a loss compiled and not; where they differ, compile none from now on.

        Args:
            inputs: what ``model.rows`` takes, of a few made up tokens.

        Returns:
            Why nothing is compiled; None where it is.
        """
        why: str | None = "its compiled step gives another result"
        traces = self.traces
        try:
            # Once more: a compiler that was stopped from outside fails once.
            for last in (False, True):
                try:
                    why = None if self._compiled_agrees(inputs) else why
                    break
                except Exception as error:  # the compiler, and code that looks at what is computed
                    if TORN in str(error):
                        raise
                    if last:
                        why = f"MLX cannot compile its step ({str(error).splitlines()[0]})"
        finally:
            self.traces = traces
            self._put_back()
        if why is not None:
            self._steps = [self._step_graph for _ in self.lanes.streams]
            self._measures = [self._measure_graph for _ in self.lanes.streams]
        return why

    def _compiled_agrees(self, inputs: mx.array) -> bool:
        tokens = inputs.shape[0] * inputs.shape[1]
        positions = mx.arange(1, tokens, 2)
        arrays = inputs, positions, positions % 7, mx.ones(positions.shape)
        noise = mx.array(self.noise.draw(tokens, self.seed, 0, 0)), mx.array(self.noise.factor)
        rest = self._zeros(), mx.array(0.0), mx.array(0), mx.array(1)

        def result(step: Callable[..., tuple[Arrays, mx.array, mx.array]]) -> Result:
            gradients, loss, _ = step(self.adapter, *arrays, *noise, *rest)
            return loss, gradients

        with mx.stream(self.lanes.streams[0]):
            one, other = result(mx.compile(self._step_graph)), result(self._step_graph)
            losses = [
                measure(self.adapter, *arrays)
                for measure in (mx.compile(self._measure_graph), self._measure_graph)
            ]
        mx.eval(one, other, losses)
        return same(*one, *other) and same(losses[0], {}, losses[1], {})

    def step(self, pieces: Iterable[Piece], number: int) -> None:
        """Run forward and backward on a micro-batch, dropout on; ``number`` is the step's.

        Dropout draws from the seed and ``number`` alone: a resumed run needs no random state.
        """
        for place, piece in enumerate(pieces):
            lane = piece.lane
            if lane not in self._idle:
                # One piece a lane at a time: what is started together takes memory together.
                self._start()
            noise = mx.array(self.noise.draw(piece.batch.inputs.size, self.seed, number, place))
            with mx.stream(self.lanes.streams[lane]), self._timed_trace():
                self.accumulated[lane], self.loss_sums[lane], self.bad_steps[lane] = self._steps[
                    lane
                ](
                    self.adapter,
                    *_arrays(piece),
                    noise,
                    mx.array(self.noise.factor),
                    self.accumulated[lane],
                    self.loss_sums[lane],
                    self.bad_steps[lane],
                    mx.array(number),
                )
            self._idle.discard(lane)
        # Lanes work at the same time only on what is asked for together.
        if not self._idle:
            self._start()

    def update(self, target_count: int, learning_rate: float, number: int) -> None:
        """Update the adapter with the mean gradient over ``target_count`` accumulated tokens."""
        self.adapter, self.grad_norm, self.bad_steps[0] = self.optimizer.update(
            self.adapter, self.accumulated, target_count, learning_rate, self.bad_steps, number
        )
        self.accumulated = [self._zeros() for _ in self.lanes.streams]
        self._start()

    def measure(self, pieces: Iterable[Piece]) -> float:
        """Return the mean token loss over ``pieces`` in eval mode, nats.

        Draws no random numbers, so measuring changes nothing about the training.
        """
        self.module.eval()
        sums: list[mx.array] = []
        count = 0
        for piece in pieces:
            with mx.stream(self.lanes.streams[piece.lane]), self._timed_trace():
                sums.append(self._measures[piece.lane](self.adapter, *_arrays(piece)))
            if piece.lane == len(self.lanes) - 1:
                mx.async_eval(sums[-len(self.lanes) :])
            count += piece.batch.target_count
        self.module.train()
        return sum(scalar(total) for total in sums) / count

    def peak_memory(self, pieces: Iterable[Piece], at_most: int | None = None) -> Peak:
        """Return the most bytes that steps of ``pieces`` take.

        They are tried one by one, and leave nothing behind. From then on work is started no faster
        than memory allows: lanes that are a little apart do not both reach their peak, and on a
        CPU nothing is won by starting it earlier. Waits for the device.

        Args:
            at_most: bytes beyond which no more work is started either. With such a bound the trial
                starts nothing ahead: it takes what the steps need, and not what happens to be free.
        """
        started, traced = time.perf_counter(), self.compile_seconds
        before = list(self.accumulated), list(self.loss_sums), list(self.bad_steps)
        mx.eval(*before)
        if self._earlier_peak is None:
            self._earlier_peak = mx.get_peak_memory()

        def steps() -> None:
            for piece in pieces:
                self.step([piece], 0)
                self._start()
                mx.eval(self.accumulated, self.loss_sums)

        if at_most is not None:
            mx.set_memory_limit(1)
        try:
            peak = _peak_of(steps)
            self._trial_peak = mx.get_peak_memory()
        finally:
            self.accumulated, self.loss_sums, self.bad_steps = before
            self._put_back()
        limits = [peak.rest + int(STARTED * peak.each)] if len(self.lanes) > 1 else []
        if at_most is not None:
            limits.append(at_most - int(OVERSHOT * peak.each))
        if limits:
            mx.set_memory_limit(max(1, min(limits)))
        self.compile_seconds = traced + time.perf_counter() - started
        return peak

    def measuring_memory(self, pieces: Iterable[Piece]) -> Peak:
        """Return the most bytes that measuring ``pieces`` takes, tried one by one."""
        limit = mx.set_memory_limit(1)
        try:
            peak = _peak_of(lambda: [self.measure([piece]) for piece in pieces])
        finally:
            mx.set_memory_limit(limit)
            # They may not fit; those of a validation that do are computed again soon enough.
            mx.reset_peak_memory()
        self._put_back()
        return peak

    @property
    def peak_bytes(self) -> int:
        """The most memory that MLX's arrays have taken so far in this process.

        Trials of ways of computing that did not fit are left out.
        """
        return max(self._earlier_peak or 0, self._trial_peak, mx.get_peak_memory())

    def take_loss(self) -> float:
        """Return the summed token losses since the last call. Waits for the device."""
        value = sum(scalar(total) for total in self.loss_sums)
        self.loss_sums = [mx.array(0.0) for _ in self.lanes.streams]
        return value

    def bad_step(self) -> int:
        """Return the first step whose loss or update was not finite, 0 if none. Waits.

        From that step on no update is applied.
        """
        return min((bad for bad in (int(scalar(bad)) for bad in self.bad_steps) if bad), default=0)

    def sums_are_finite(self) -> bool:
        """Tell whether the gradients accumulated since the last update are finite. Waits."""
        finite = [mx.all(mx.isfinite(a)) for sums in self.accumulated for a in sums.values()]
        return bool(mx.all(mx.stack(finite)))

    def state(self) -> Arrays:
        """Return every array but the adapter that the next steps depend on, by name."""
        lanes = {
            f"accumulated.{lane}.{name}": array
            for lane, accumulated in enumerate(self.accumulated)
            for name, array in accumulated.items()
        }
        return {
            "loss_sums": mx.stack(self.loss_sums),
            "grad_norm": self.grad_norm,
            **self.optimizer.moments(),
            **lanes,
        }

    def restore(self, adapter: Arrays, state: Arrays) -> None:
        """Go back to ``adapter`` and the arrays that :meth:`state` returned.

        Sums of more lanes than there are now are added up: the same up to rounding.

        Raises:
            AdapterMismatch, KeyError: the arrays belong to another configuration.
        """
        fitted = fitting(adapter, self.adapter)
        self.optimizer.restore(state, list(self.adapter))
        self.bad_steps = [mx.array(0) for _ in self.lanes.streams]
        losses, count = list(state["loss_sums"]), len(self.lanes)
        self.loss_sums = [_folded(losses, lane, count, mx.array(0.0)) for lane in range(count)]
        for name, zero in self._zeros().items():
            sums = [state[f"accumulated.{lane}.{name}"] for lane in range(len(losses))]
            for lane in range(count):
                self.accumulated[lane][name] = _folded(sums, lane, count, zero)
        self.adapter = fitted
        self.grad_norm = state["grad_norm"]

    @contextmanager
    def _timed_trace(self) -> Iterator[None]:
        """Count the time of a call that traces a graph."""
        traces, started = self.traces, time.perf_counter()
        yield
        if self.traces > traces:
            self.compile_seconds += time.perf_counter() - started

    def _start(self) -> None:
        """Start the work and go on, once what was started before is done.

        So the next work is always prepared while the last is computed, and never more than that:
        MLX takes the memory of all that was started.
        """
        mx.eval(self._started)
        self._started = [*self.bad_steps]
        mx.async_eval(self.adapter, self.accumulated, self.loss_sums, self.bad_steps)
        self._idle = set(range(len(self.lanes)))

    def _put_back(self) -> None:
        """Put the adapter into the module: what was traced must not stay there."""
        self.module.update(tree_unflatten(list(self.adapter.items())))

    def _zeros(self) -> Arrays:
        return {name: mx.zeros_like(array) for name, array in self.adapter.items()}

    def _loss(
        self,
        adapter: Arrays,
        inputs: mx.array,
        positions: mx.array,
        targets: mx.array,
        weights: mx.array,
    ) -> mx.array:
        self.module.update(tree_unflatten(list(adapter.items())))
        return mx.sum(token_losses(self.model, inputs, positions, targets) * weights)

    def _measure_graph(self, adapter: Arrays, *arrays: mx.array) -> mx.array:
        self.traces += 1
        return self._loss(adapter, *arrays)

    def _step_graph(
        self,
        adapter: Arrays,
        inputs: mx.array,
        positions: mx.array,
        targets: mx.array,
        weights: mx.array,
        noise: mx.array,
        factor: mx.array,
        accumulated: Arrays,
        loss_sum: mx.array,
        bad_step: mx.array,
        number: mx.array,
    ) -> tuple[Arrays, mx.array, mx.array]:
        self.traces += 1
        with self.noise.using(noise, factor):
            value_and_grad = mx.value_and_grad(self._loss)
            loss, gradients = value_and_grad(adapter, inputs, positions, targets, weights)
        total = {name: array + gradients[name] for name, array in accumulated.items()}
        bad_step = mx.where((bad_step == 0) & ~mx.isfinite(loss), number, bad_step)
        return total, loss_sum + loss, bad_step


def _peak_of(work: Callable[[], object]) -> Peak:
    """Return what ``work``, which waits for what it computes, takes beside what is there."""
    mx.clear_cache()
    mx.reset_peak_memory()
    rest = mx.get_active_memory()
    work()
    most = max(mx.get_peak_memory(), mx.get_active_memory() + mx.get_cache_memory())
    return Peak(rest, most - rest)


def _folded(arrays: list[mx.array], lane: int, count: int, empty: mx.array) -> mx.array:
    """Return what one of ``count`` lanes gets of the sums of more or fewer lanes."""
    own = arrays[lane::count]
    return total(own) if own else empty


def _arrays(piece: Piece) -> tuple[mx.array, mx.array, mx.array, mx.array]:
    batch = piece.batch
    return piece.inputs, mx.array(batch.positions), mx.array(batch.targets), mx.array(batch.weights)
