"""The numbers of training: loss, gradients, AdamW, and the arrays that change with every step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jobs import cpu
from jobs.batching import Batch
from jobs.config import TrainConfig
from jobs.mlx import mx, named, nn, optimizers, scalar, tree_map, tree_unflatten
from jobs.model import LanguageModel, on_metal

Arrays = dict[str, mx.array]


def token_losses(
    model: LanguageModel, inputs: mx.array, positions: mx.array, targets: mx.array
) -> mx.array:
    """Return the cross-entropy of each target, nats, float32, shape [P].

    Only the rows of the hidden state that predict a target meet the vocabulary matrix: for a padded
    batch of questions and short answers that is a third of them.

    Args:
        inputs: token ids, shape [B, L].
        positions: indices into the flattened [B * L], shape [P].
        targets: token ids, shape [P].
    """
    hidden = model.hidden(inputs)
    rows = hidden.reshape(-1, hidden.shape[-1])[positions]
    logits = model.head(rows).astype(mx.float32)
    if on_metal():
        return nn.losses.cross_entropy(logits, targets, reduction="none")
    return cpu.cross_entropy(logits, targets)


class Engine:
    """Model, optimizer and accumulator of a run.

    A step adds the gradient of the *summed* token losses of a micro-batch to ``accumulated``; an
    update divides by the tokens of all its steps. So 2 x 4 is the same mean as 1 x 8, whatever the
    lengths.

    Nothing here waits for the device: losses, norms and the finite flag stay arrays until read.

    Attributes:
        loss_sum: summed token losses since :meth:`take_loss`, scalar.
        grad_norm: L2 norm of the last update's mean gradient, scalar.
        bad_step: the first step whose loss or update was not finite, 0 if none, scalar. From that
            step on no update is applied.
    """

    def __init__(self, model: LanguageModel, config: TrainConfig) -> None:
        self.model = model
        self.module = model.module
        self.seed = config.seed
        self.optimizer = optimizers.AdamW(
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            bias_correction=config.adam_bias_correction,
        )
        self.optimizer.init(self.adapter())
        self.optimizer_state: dict[str, Any] = self.optimizer.state
        self.accumulated = self._zeros()
        self.loss_sum = mx.array(0.0)
        self.grad_norm = mx.array(0.0)
        self.bad_step = mx.array(0)
        # The gradient transformation puts tracers into the module: its state must come back out.
        traced = [self.module.state, mx.random.state]
        self._step = mx.compile(self._step_graph, inputs=traced, outputs=traced)
        self._update = mx.compile(self._update_graph)
        self._measure = mx.compile(self._loss, inputs=[self.module.state])

    def step(self, batch: Batch, number: int) -> None:
        """Run forward and backward on a micro-batch, dropout on; ``number`` is the step's.

        Dropout draws from the seed and ``number`` alone: a resumed run needs no random state.
        """
        mx.random.seed((self.seed << 32) | number)
        self.accumulated, self.loss_sum, self.bad_step = self._step(
            *_arrays(batch), self.accumulated, self.loss_sum, self.bad_step, mx.array(number)
        )
        # Starts the work and goes on; without it the graph of all steps would pile up.
        mx.async_eval(self.accumulated, self.loss_sum, self.bad_step)

    def update(self, target_count: int, learning_rate: float, number: int) -> None:
        """Update the adapter with the mean gradient over ``target_count`` accumulated tokens."""
        self.optimizer_state["learning_rate"] = mx.array(learning_rate)
        adapter, self.optimizer_state, self.grad_norm, self.bad_step = self._update(
            self.adapter(),
            self.optimizer_state,
            self.accumulated,
            mx.array(float(target_count)),
            self.bad_step,
            mx.array(number),
        )
        self._set_adapter(adapter)
        self.accumulated = self._zeros()
        mx.async_eval(adapter, self.optimizer_state, self.grad_norm, self.bad_step)

    def measure(self, batches: Iterable[Batch]) -> float:
        """Return the mean token loss over ``batches`` in eval mode, nats.

        Draws no random numbers, so measuring changes nothing about the training.
        """
        self.module.eval()
        sums: list[mx.array] = []
        count = 0
        for batch in batches:
            sums.append(self._measure(*_arrays(batch)))
            mx.async_eval(sums[-1])
            count += batch.target_count
        self.module.train()
        return sum(scalar(total) for total in sums) / count

    def take_loss(self) -> float:
        """Return ``loss_sum`` and start it anew. Waits for the device."""
        value = scalar(self.loss_sum)
        self.loss_sum = mx.array(0.0)
        return value

    def adapter(self) -> Arrays:
        """Return the adapter's arrays by name, as mlx-lm stores them."""
        return named(self.module.trainable_parameters())

    def state(self) -> Arrays:
        """Return every array but the adapter that the next steps depend on, by name."""
        moments = {
            f"optimizer.{moment}.{name}": array
            for name, value in self.optimizer_state.items()
            if isinstance(value, dict)
            for moment, array in value.items()
        }
        return {
            "optimizer.step": self.optimizer_state["step"],
            "loss_sum": self.loss_sum,
            "grad_norm": self.grad_norm,
            **moments,
            **{f"accumulated.{name}": array for name, array in self.accumulated.items()},
        }

    def restore(self, adapter: Arrays, state: Arrays) -> None:
        """Go back to the arrays that :meth:`adapter` and :meth:`state` returned.

        Raises:
            KeyError: the arrays belong to another configuration.
        """
        self.optimizer_state["step"] = state["optimizer.step"]
        for name in self.adapter():
            self.accumulated[name] = state[f"accumulated.{name}"]
            for moment in self.optimizer_state[name]:
                self.optimizer_state[name][moment] = state[f"optimizer.{moment}.{name}"]
        self._set_adapter({name: adapter[name] for name in self.accumulated})
        self.loss_sum, self.grad_norm = state["loss_sum"], state["grad_norm"]

    def _set_adapter(self, adapter: Arrays) -> None:
        self.module.update(tree_unflatten(list(adapter.items())))

    def _zeros(self) -> Arrays:
        return {name: mx.zeros_like(array) for name, array in self.adapter().items()}

    def _loss(
        self, inputs: mx.array, positions: mx.array, targets: mx.array, weights: mx.array
    ) -> mx.array:
        return mx.sum(token_losses(self.model, inputs, positions, targets) * weights)

    def _step_graph(
        self,
        inputs: mx.array,
        positions: mx.array,
        targets: mx.array,
        weights: mx.array,
        accumulated: Arrays,
        loss_sum: mx.array,
        bad_step: mx.array,
        number: mx.array,
    ) -> tuple[Arrays, mx.array, mx.array]:
        value_and_grad = nn.value_and_grad(self.module, self._loss)
        loss, tree = value_and_grad(inputs, positions, targets, weights)
        gradients = named(tree)
        total = {name: array + gradients[name] for name, array in accumulated.items()}
        bad_step = mx.where((bad_step == 0) & ~mx.isfinite(loss), number, bad_step)
        return total, loss_sum + loss, bad_step

    def _update_graph(
        self,
        adapter: Arrays,
        state: dict[str, Any],
        accumulated: Arrays,
        target_count: mx.array,
        bad_step: mx.array,
        number: mx.array,
    ) -> tuple[Arrays, dict[str, Any], mx.array, mx.array]:
        gradients = {name: total / target_count for name, total in accumulated.items()}
        norm = mx.linalg.norm(mx.stack([mx.linalg.norm(g) for g in gradients.values()]))
        self.optimizer.state = tree_map(lambda array: array, state)
        updated = self.optimizer.apply_gradients(gradients, adapter)
        finite = mx.all(mx.stack([mx.all(mx.isfinite(array)) for array in updated.values()]))
        keep = (bad_step == 0) & mx.isfinite(norm) & finite
        bad_step = mx.where((bad_step == 0) & ~keep, number, bad_step)

        def choose(new: mx.array, old: mx.array) -> mx.array:
            return mx.where(keep, new, old)

        return (
            tree_map(choose, updated, adapter),
            tree_map(choose, self.optimizer.state, state),
            norm,
            bad_step,
        )


def _arrays(batch: Batch) -> tuple[mx.array, mx.array, mx.array, mx.array]:
    return (
        mx.array(batch.inputs),
        mx.array(batch.positions),
        mx.array(batch.targets),
        mx.array(batch.weights),
    )
