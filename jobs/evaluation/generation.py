"""Answers to questions, written by the model: greedily, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from jobs.backend.mlx import BatchGenerator, make_prompt_cache, nn
from jobs.errors import ModelError


@dataclass(frozen=True)
class Generated:
    """What was generated for one prompt.

    Attributes:
        tokens: up to the end of the answer, which is not among them.
        cut: it came to the limit before its end.
    """

    tokens: tuple[int, ...]
    cut: bool


def check_batching(module: nn.Module) -> None:
    """Check that mlx-lm can generate for several prompts of this architecture at a time.

    Raises:
        ModelError: it cannot.
    """
    caches = {type(cache) for cache in make_prompt_cache(module)}
    if odd := sorted(kind.__name__ for kind in caches if not hasattr(kind, "merge")):
        raise ModelError(
            f"mlx-lm cannot generate in batches for this architecture (it uses {', '.join(odd)}), "
            "so it cannot be evaluated."
        )


def groups(prompts: Sequence[Sequence[int]], size: int) -> list[list[int]]:
    """Deal prompts out to groups that are answered together: similar lengths, the longest first.

    What a batch computes may differ in its last bits with its composition, so that depends on the
    prompts and ``size`` alone.
    """
    order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
    return [order[start : start + size] for start in range(0, len(order), size)]


def generate(
    module: nn.Module,
    prompts: Sequence[Sequence[int]],
    ends: set[int],
    limit: int,
    after_step: Callable[[], bool],
) -> Iterator[tuple[int, Generated]]:
    """Yield the answer to each prompt with its place among them, as they end.

    All prompts are one batch, which shrinks as answers end.

    Args:
        module: in eval mode.
        ends: the tokens that end an answer.
        limit: most tokens of an answer.
        after_step: called after each token of the whole batch; False ends it all.
    """
    size = len(prompts)
    generator = BatchGenerator(
        module,
        max_tokens=limit,
        stop_tokens=[[token] for token in sorted(ends)],
        completion_batch_size=size,
        prefill_batch_size=size,
    )
    places = {uid: place for place, uid in enumerate(generator.insert([*map(list, prompts)]))}
    tokens: list[list[int]] = [[] for _ in prompts]
    try:
        while responses := generator.next_generated():
            for response in responses:
                place = places[response.uid]
                if response.finish_reason != "stop":
                    tokens[place].append(response.token)
                if response.finish_reason is not None:
                    cut = response.finish_reason == "length"
                    yield place, Generated(tuple(tokens[place]), cut)
            if not after_step():
                return
    finally:
        generator.close()
