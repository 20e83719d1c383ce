"""The optimizer's update of the adapter: AdamW, clipping, and no step from a bad state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jobs.backend.mlx import mx, optimizers, tree_map
from jobs.config.config import TrainConfig
from jobs.model.adapter_fit import Arrays


class AdamW:
    """MLX's AdamW over named arrays, as one compiled function.

    Attributes:
        state: ``step`` and ``learning_rate``, and for each array its moments ``m`` and ``v``.
    """

    def __init__(self, adapter: Arrays, config: TrainConfig) -> None:
        self._optimizer = optimizers.AdamW(
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            bias_correction=config.adam_bias_correction,
        )
        self._optimizer.init(adapter)
        self._max_grad_norm = config.max_grad_norm
        self.state: dict[str, Any] = self._optimizer.state
        self._update = mx.compile(self._graph)

    def update(
        self,
        adapter: Arrays,
        sums: list[Arrays],
        target_count: int,
        learning_rate: float,
        bad_steps: list[mx.array],
        number: int,
    ) -> tuple[Arrays, mx.array, mx.array]:
        """Update the adapter with the mean gradient.

        Args:
            sums: gradients of summed token losses, one dictionary a lane; together of
                ``target_count`` tokens.
            bad_steps: for each lane the first step whose loss was not finite, 0 if none. With one
                of them, or a gradient or a result that is not finite, nothing is changed.
            number: the step this update ends.

        Returns:
            The new adapter, the L2 norm of the mean gradient before clipping, and the first bad
            step of the first lane: ``number`` if this update is the first thing that went wrong.
        """
        self.state["learning_rate"] = mx.array(learning_rate)
        tokens, step = mx.array(float(target_count)), mx.array(number)
        adapter, self.state, norm, bad = self._update(
            adapter, self.state, sums, tokens, bad_steps, step
        )
        return adapter, norm, bad

    def moments(self) -> Arrays:
        """Return the arrays of the state by name."""
        moments = {
            f"optimizer.{moment}.{name}": array
            for name, value in self.state.items()
            if isinstance(value, dict)
            for moment, array in value.items()
        }
        return {"optimizer.step": self.state["step"], **moments}

    def restore(self, arrays: Arrays, names: list[str]) -> None:
        """Go back to what :meth:`moments` returned.

        Raises:
            KeyError: an array of the adapter's ``names`` is not there.
        """
        self.state["step"] = arrays["optimizer.step"]
        for name in names:
            for moment in self.state[name]:
                self.state[name][moment] = arrays[f"optimizer.{moment}.{name}"]

    def _graph(
        self,
        adapter: Arrays,
        state: dict[str, Any],
        sums: list[Arrays],
        target_count: mx.array,
        bad_steps: list[mx.array],
        number: mx.array,
    ) -> tuple[Arrays, dict[str, Any], mx.array, mx.array]:
        gradients = {name: total(lane[name] for lane in sums) / target_count for name in adapter}
        norm = mx.linalg.norm(mx.stack([mx.linalg.norm(g) for g in gradients.values()]))
        if self._max_grad_norm is not None:
            scale = mx.minimum(self._max_grad_norm / norm, 1.0)
            gradients = {name: gradient * scale for name, gradient in gradients.items()}
        self._optimizer.state = tree_map(lambda array: array, state)
        updated = self._optimizer.apply_gradients(gradients, adapter)
        finite = mx.all(mx.stack([mx.all(mx.isfinite(array)) for array in updated.values()]))
        good_so_far = mx.all(mx.stack(bad_steps) == 0)
        keep = good_so_far & mx.isfinite(norm) & finite
        bad_step = mx.where(good_so_far & ~keep, number, bad_steps[0])

        def choose(new: mx.array, old: mx.array) -> mx.array:
            return mx.where(keep, new, old)

        return (
            tree_map(choose, updated, adapter),
            tree_map(choose, self._optimizer.state, state),
            norm,
            bad_step,
        )


def total(arrays: Iterable[mx.array]) -> mx.array:
    """Return the sum of at least one array; of one, that array to the last bit."""
    first, *rest = arrays
    return sum(rest, first)
