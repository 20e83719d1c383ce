"""How running out of memory is told from other errors, and what a job by hand does about it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.errors import ExitCode
from jobs.paths import REPOSITORY, RunDirectory, Workspace
from jobs.resources.out_of_memory import as_out_of_memory, tells_of_memory, what_next
from jobs.state import State, read_state
from jobs.storage.files import read_json, write_json
from tests.children.child import METAL_OOM
from tests.helpers.runs import events, make_run

METAL = "[METAL] Command buffer execution failed: "
# The training child, where training asks for more memory than any machine has.
STARVED = """
import sys
import jobs.training.session
from jobs.__main__ import main
def train(workspace, order, emit, stop_reason, splits):
    print("pieces:", 2**splits)
    bytearray(2**62)
jobs.training.session.train = train
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (METAL_OOM, True),
        (
            "[metal::malloc] Attempting to allocate 48736917632 bytes which is greater than the "
            "maximum allowed buffer size of 30150672384 bytes.",
            True,
        ),
        ("[malloc] Unable to allocate 9663676416 bytes.", True),
        ("terminate called after throwing an instance of 'std::bad_alloc'", True),
        (METAL + "Impacting Interactivity (0000000e:kIOGPUCommandBufferCallbackError)", False),
        (METAL + "Internal Error (0000000e:Internal Error)", False),
        # A count of Metal's buffers, not of bytes: a fresh process goes on.
        ("[metal::malloc] Resource limit (499000) exceeded.", False),
        ("", False),
    ],
)
def test_texts_that_tell_of_memory(text: str, expected: bool) -> None:
    assert tells_of_memory(text) is expected
    assert (as_out_of_memory(RuntimeError(text)) is not None) is expected


def test_a_real_failed_allocation() -> None:
    with pytest.raises(MemoryError) as caught:
        np.zeros(2**58)
    error = as_out_of_memory(caught.value)
    assert error is not None
    assert "Unable to allocate" in error.message
    assert as_out_of_memory(ValueError("no")) is None


def test_what_the_user_can_change() -> None:
    config = {"batch_size": 1, "on_oom": "stop", "grad_checkpoint": True}
    assert what_next(config, 0) == (
        "Lower max_seq_length or lora.num_layers, or close other programs."
    )


def starved(run: RunDirectory) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", STARVED, str(run.path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )


def test_by_hand_the_next_attempt_is_smaller_too(alone: Workspace, tiny_model: Path) -> None:
    run = make_run(alone, tiny_model, on_oom="retry_smaller")
    first = starved(run)
    assert first.returncode == ExitCode.OUT_OF_MEMORY, first.stderr
    state = read_state(run)
    assert (state.state, state.splits) == (State.QUEUED, 1)
    failed: dict[str, Any] = events(alone, run)[-1]
    assert (failed["event"], failed["error"]) == ("failed", "OutOfMemory")
    assert failed["reason"].endswith("The next attempt computes each micro-batch in 2 pieces.")

    second = starved(run)
    assert "pieces: 2" in second.stdout
    state = read_state(run)
    assert (state.state, state.attempt, state.splits) == (State.FAILED, 2, 1)
    assert "Lower max_seq_length" in events(alone, run)[-1]["reason"]


def test_a_state_from_before_there_were_splits(alone: Workspace, tiny_model: Path) -> None:
    run = make_run(alone, tiny_model)
    values = read_json(run.state)
    del values["splits"]
    write_json(run.state, values)
    assert read_state(run).splits == 0
