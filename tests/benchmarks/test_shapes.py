"""Every shape is one that mlx-lm builds and farense trains, and mlx-lm adapts the same layers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.mlx_lm_lora import check_plain, load
from benchmarks.rows import long_rows
from benchmarks.runs import SETTINGS, config_of, make_run, tokenized
from benchmarks.shapes import Shape, build, names, write_model
from jobs.backend.mlx import mx, named
from jobs.events import Event, Finished, Started, TrainMetrics
from jobs.model.gated_delta import CHUNKED
from jobs.model.load import load_tokenizer
from jobs.model_store.tiny import VOCABULARY
from jobs.paths import RunDirectory, Workspace
from jobs.spec import read_spec
from jobs.training.session import train

TOKENS, ANSWER = 32, 8
# What the tokenizer of the packaged model may say.
SMOLLM2_VOCABULARY = 49152


@pytest.fixture(autouse=True)
def uncompiled() -> Iterator[None]:
    """Compiling kernels for so many architectures takes minutes."""
    mx.disable_compile()
    yield
    mx.enable_compile()


@pytest.mark.parametrize("name", names())
def test_mlx_lm_builds_it_and_its_blocks_hold_what_is_adapted(name: str) -> None:
    shape = Shape.read(name)
    module = build(shape.config)  # nothing is computed: the largest costs nothing
    parameters = named(module.parameters())
    assert 50e6 < sum(array.size for array in parameters.values()) < 500e6
    (words,) = {array.shape[0] for path, array in parameters.items() if "embed_tokens" in path}
    assert words >= SMOLLM2_VOCABULARY
    assert len(module.layers) == shape.blocks
    assert 0 < shape.adapted_blocks <= shape.blocks
    for block in module.layers[-shape.adapted_blocks :]:
        within = {path.rpartition(".")[2] for path, _ in block.named_modules()}
        assert {"gate_proj", "up_proj", "down_proj"} <= within & set(shape.keys)
    assert shape.stands_for


@pytest.mark.parametrize("name", names())
def test_farense_trains_it_and_mlx_lm_adapts_the_same(
    workspace: Workspace, tiny_model: Path, name: str
) -> None:
    run = small_run(workspace, tiny_model, name)
    said: list[Event] = []
    train(workspace, read_spec(run), said.append, lambda: None)
    (row,) = [event for event in said if isinstance(event, TrainMetrics)]
    assert row.loss is not None
    assert math.isfinite(row.loss)
    assert isinstance(said[-1], Finished)
    (started,) = [event for event in said if isinstance(event, Started)]
    model, examples, _ = load(run, config_of(run), as_installed=False)
    adapter = named(model.trainable_parameters())
    assert sum(array.size for array in adapter.values()) == started.trainable_parameters
    assert {len(tokens) for tokens, _ in examples} == {TOKENS}


def test_all_rows_have_the_length_and_the_answer_that_was_asked_for(
    workspace: Workspace, tiny_model: Path
) -> None:
    run = small_run(workspace, tiny_model, "llama")
    tokenizer = load_tokenizer(workspace.models / "llama")
    rows = tokenized(run, read_spec(run).train, tokenizer)
    assert {len(row.tokens) for row in rows} == {TOKENS}
    # Words grow together where question and frame meet.
    assert all(abs(row.target_count - ANSWER) <= 1 for row in rows)


def test_a_length_without_room_for_a_question_is_refused(tiny_model: Path) -> None:
    with pytest.raises(SystemExit, match="no room for a question"):
        long_rows(tiny_model, 12, 8, 1)


def test_a_function_of_ours_would_be_found(workspace: Workspace, tiny_model: Path) -> None:
    run = small_run(workspace, tiny_model, "qwen3.5-hybrid")
    model, _, _ = load(run, config_of(run), as_installed=False)
    assert CHUNKED.put_in(model)
    try:
        with pytest.raises(AssertionError, match=r"mlx_lm\.models\.qwen3_5\.gated_delta_update"):
            check_plain(model)
    finally:
        CHUNKED.put_back(model)


def small_run(workspace: Workspace, tiny_model: Path, name: str) -> RunDirectory:
    """Return a run of a step on a small model of a shape."""
    shape = Shape.read(name).small(VOCABULARY)
    model = workspace.models / name
    write_model(shape, model, tiny_model)
    return make_run(
        workspace,
        long_rows(model, TOKENS, ANSWER, 4),
        model=f"models/{name}",
        lora={**SETTINGS["lora"], "num_layers": shape.adapted_blocks, "keys": list(shape.keys)},
        max_seq_length=TOKENS,
        gradient_accumulation=1,
        max_steps=1,
        log_steps=1,
    )
