"""What llama.cpp computes with a GGUF: a program of its own, with its own libraries.

It is run as a file, ``python jobs/gguf/llama_reader.py``, and imports nothing of farense: the
Python that has llama-cpp-python may be another. The question comes from standard input and the
answer goes to standard output, both as JSON; what llama.cpp itself says goes to standard error.

In the question: ``model`` and ``adapter`` (paths, the second may be null); ``examples``, each with
``tokens`` and ``targets``, the places of those whose loss counts; ``prompts`` (token ids);
``questions`` (token ids) to be answered with ``limit`` and ``ends``; ``texts`` to be split into
tokens; ``logits``, a file to be written.

In the answer: ``loss`` in nats per target, ``tokens`` of the texts, ``answers`` as token ids. The
file holds the logits behind each prompt, float32 [P, V].
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import llama_cpp
import numpy as np

Array = np.ndarray[Any, np.dtype[np.float32]]


class Reader:
    """A model in llama.cpp, its settings as they are by default, with an adapter beside it.

    Args:
        room: the most tokens that stand in the context at once.
    """

    def __init__(self, model: str, adapter: str | None, room: int) -> None:
        llama_cpp.llama_backend_init()
        settings = llama_cpp.llama_model_default_params()
        # Compared is with what a CPU computes.
        settings.n_gpu_layers = 0
        self._model = _made(llama_cpp.llama_model_load_from_file(model.encode(), settings), model)
        self._words = llama_cpp.llama_model_get_vocab(self._model)
        self.size = llama_cpp.llama_vocab_n_tokens(self._words)
        context = llama_cpp.llama_context_default_params()
        context.n_ctx = context.n_batch = room
        # Its threads spin where they wait for each other: beside other work fewer are faster.
        context.n_threads = context.n_threads_batch = max(1, (os.cpu_count() or 1) // 2)
        self._context = _made(llama_cpp.llama_init_from_model(self._model, context), model)
        self._batch = llama_cpp.llama_batch_init(room, 0, 1)
        if adapter is not None:
            self._add(adapter)

    def _add(self, path: str) -> None:
        found = _made(llama_cpp.llama_adapter_lora_init(self._model, path.encode()), path)
        adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(found)
        scales = (ctypes.c_float * 1)(1.0)
        if llama_cpp.llama_set_adapters_lora(self._context, adapters, 1, scales):
            sys.exit(f"llama.cpp does not take the adapter {path}")

    def forget(self) -> None:
        """Begin a new text."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)

    def logits(self, tokens: Sequence[int], first: int, wanted: Sequence[int]) -> Array:
        """Return the logits [len(wanted), V] behind some of the tokens that come next.

        Args:
            first: the place of the first token in the text.
            wanted: places within ``tokens``, in rising order.
        """
        batch = self._batch
        batch.n_tokens = len(tokens)
        kept = set(wanted)
        for index, token in enumerate(tokens):
            batch.token[index] = token
            batch.pos[index] = first + index
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = 0
            batch.logits[index] = index in kept
        if failed := llama_cpp.llama_decode(self._context, batch):
            sys.exit(f"llama.cpp could not compute: llama_decode returned {failed}")
        return np.stack([self._row(index) for index in wanted])

    def _row(self, index: int) -> Array:
        found = llama_cpp.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(found, (self.size,)).copy()

    def loss(self, tokens: Sequence[int], targets: Sequence[int]) -> float:
        """Return the sum of the losses of some tokens of a text, nats."""
        self.forget()
        places = [target - 1 for target in targets]
        rows = self.logits(tokens, 0, places).astype(np.float64)
        highest = rows.max(axis=1)
        whole = highest + np.log(np.exp(rows - highest[:, None]).sum(axis=1))
        chosen = rows[np.arange(len(targets)), [tokens[target] for target in targets]]
        return float((whole - chosen).sum())

    def answer(self, prompt: Sequence[int], limit: int, ends: set[int]) -> Iterator[int]:
        """Yield the tokens of a greedy answer, without the one that ends it."""
        row = self.after(prompt)
        for place in range(len(prompt), len(prompt) + limit):
            token = int(row.argmax())
            if token in ends:
                return
            yield token
            row = self.logits([token], place, [0])[0]

    def after(self, prompt: Sequence[int]) -> Array:
        """Return the logits [V] behind a prompt."""
        self.forget()
        row: Array = self.logits(prompt, 0, [len(prompt) - 1])[0]
        return row

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a text, special ones where it names them, and none around it."""
        written = text.encode()
        found = (ctypes.c_int32 * (len(written) + 8))()
        count = llama_cpp.llama_tokenize(
            self._words, written, len(written), found, len(found), False, True
        )
        return list(found[: max(count, 0)])


def _made(pointer: Any, path: str) -> Any:
    if not pointer:
        sys.exit(f"llama.cpp does not load {path}")
    return pointer


def _answer(asked: Any) -> dict[str, Any]:
    examples, prompts, questions = asked["examples"], asked["prompts"], asked["questions"]
    whole = [*(example["tokens"] for example in examples), *prompts, *questions]
    room = max(map(len, whole), default=0) + asked["limit"] + 1
    reader = Reader(asked["model"], asked["adapter"], room)
    losses = [reader.loss(example["tokens"], example["targets"]) for example in examples]
    count = sum(len(example["targets"]) for example in examples)
    if prompts:
        np.save(asked["logits"], np.stack([reader.after(prompt) for prompt in prompts]))
    limit, ends = asked["limit"], set(asked["ends"])
    return {
        "version": llama_cpp.__version__,
        "loss": sum(losses) / count if count else None,
        "tokens": [reader.tokens(text) for text in asked["texts"]],
        "answers": [list(reader.answer(question, limit, ends)) for question in questions],
    }


if __name__ == "__main__":
    print(json.dumps(_answer(json.load(sys.stdin))))
