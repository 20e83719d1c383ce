"""Asking llama.cpp, in a process of its own, what it computes with a GGUF."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson

from jobs.errors import ConfigError, ModelError
from jobs.gguf.precision import Array

READER = Path(__file__).with_name("llama_reader.py")
# Another Python, which has llama-cpp-python where farense's own has not.
GGUF_PYTHON = "FARENSE_GGUF_PYTHON"
PACKAGE = "llama_cpp"
# Of what llama.cpp said, when it could not go on.
LAST_LINES = 3


@dataclass(frozen=True)
class LlamaQuestion:
    """What is asked of a model.

    Attributes:
        examples: token ids, and the places of those whose loss counts.
        prompts: token ids of texts behind which the logits are wanted.
        questions: token ids of texts to be answered, greedily.
        limit: the most tokens of an answer.
        ends: tokens of which each ends an answer.
        texts: to be split into tokens.
    """

    examples: Sequence[tuple[Sequence[int], Sequence[int]]]
    prompts: Sequence[Sequence[int]]
    questions: Sequence[Sequence[int]]
    limit: int
    ends: Sequence[int]
    texts: Sequence[str]


@dataclass(frozen=True)
class LlamaAnswer:
    """What llama.cpp computed.

    Attributes:
        version: of llama-cpp-python.
        loss: nats per token that counts.
        logits: behind each prompt, [P, V].
        answers: their token ids.
        tokens: of each text.
    """

    version: str
    loss: float | None
    logits: Array
    answers: list[list[int]]
    tokens: list[list[int]]


def llama_python() -> str:
    """Return the Python that has llama-cpp-python.

    Raises:
        ConfigError: none has it.
    """
    if given := os.environ.get(GGUF_PYTHON):
        return given
    if importlib.util.find_spec(PACKAGE) is not None:
        return sys.executable
    raise ConfigError(
        "--verify lets llama.cpp compute what was written, by llama-cpp-python, which is not "
        "installed.",
        "Install it (it is compiled, which takes minutes): make gguf, or pip install "
        "'farense[gguf]'.",
    )


def ask_llama(model: Path, adapter: Path | None, question: LlamaQuestion) -> LlamaAnswer:
    """Return what llama.cpp computes with a model, and with an adapter beside it.

    Raises:
        ConfigError: there is no llama-cpp-python.
        ModelError: llama.cpp does not load the files, or ends otherwise.
    """
    with TemporaryDirectory(prefix="farense-gguf-") as folder:
        logits = Path(folder) / "logits.npy"
        asked = {
            "model": str(model),
            "adapter": None if adapter is None else str(adapter),
            "examples": [{"tokens": t, "targets": p} for t, p in question.examples],
            "prompts": question.prompts,
            "questions": question.questions,
            "limit": question.limit,
            "ends": question.ends,
            "texts": question.texts,
            "logits": str(logits),
        }
        found = _run([llama_python(), str(READER)], asked)
        rows = np.load(logits) if question.prompts else np.zeros((0, 0), np.float32)
    return LlamaAnswer(found["version"], found["loss"], rows, found["answers"], found["tokens"])


def _run(command: list[str], asked: Mapping[str, Any]) -> Any:
    try:
        done = subprocess.run(command, input=orjson.dumps(asked), capture_output=True, check=False)
    except OSError as error:
        raise ConfigError(
            f"{command[0]} cannot be started: {error.strerror or error}.",
            f"{GGUF_PYTHON} names a Python that has llama-cpp-python.",
        ) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-LAST_LINES:]
        how = f"a signal ({-done.returncode})" if done.returncode < 0 else f"{done.returncode}"
        raise ModelError(f"llama.cpp ended with {how}: {' / '.join(said)}")
    return orjson.loads(done.stdout)
