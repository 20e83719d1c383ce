"""What transformers and PEFT compute, in the environment that `make peft` makes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np

from jobs.paths import REPOSITORY
from tests.helpers.required import peft_python

PROGRAM = REPOSITORY / "tests/children/peft_logits.py"


def peft_logits(base: Path, adapter: Path | None, tokens: list[int], scratch: Path) -> np.ndarray:
    """Return the logits [L, V] that transformers and PEFT compute, in a process of their own."""
    (scratch / "tokens.json").write_text(json.dumps(tokens))
    target = scratch / "logits.npy"
    done = subprocess.run(
        [peft_python(), PROGRAM, base, adapter or "-", scratch / "tokens.json", target],
        env={"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Not a word that a matrix has no place in the model, or a layer none in the file.
    assert "missing" not in done.stderr.lower(), done.stderr
    assert "unexpected" not in done.stderr.lower(), done.stderr
    found: np.ndarray = np.load(target, allow_pickle=False)
    return found
