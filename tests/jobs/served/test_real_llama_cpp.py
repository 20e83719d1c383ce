"""The same weights in llama.cpp and in MLX, asked the same: they answer the same."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from jobs.backend.mlx import stream_generate
from jobs.data.chat.templating import templated_text
from jobs.data.examples import Dialogue
from jobs.data.messages import USER, Message
from jobs.data.prompts import PromptFormat, farense_prompt
from jobs.data.tokenize import prompt_tokens
from jobs.model.load import load_base, load_tokenizer
from jobs.served.ask import Prompt, find_server
from jobs.served.http import Server
from tests.helpers.llama_server import llama_server, packaged_gguf
from tests.helpers.required import llama_server_python

ROW = Dialogue((Message(USER, "What is the capital of Portugal?"),), "")
LIMIT = 8


@pytest.mark.timeout(900)
def test_the_base_model_answers_as_its_gguf_does_in_llama_cpp(
    smollm2: Path, tmp_path: Path
) -> None:
    llama_server_python()
    tokenizer, (module, _) = load_tokenizer(smollm2), load_base(smollm2)
    texts: dict[PromptFormat, str] = {
        "farense": farense_prompt(ROW),
        "chat": templated_text(ROW.context, ROW, tokenizer, answer_next=True),
    }
    said: list[str] = []
    with llama_server(packaged_gguf(tmp_path)) as address:
        there = find_server(Server(address), None)
        for style, text in texts.items():
            tokens = prompt_tokens(ROW, tokenizer, style)
            made = stream_generate(module, tokenizer.wrapper, list(tokens), max_tokens=LIMIT)
            ours = tokenizer.decode([piece.token for piece in islice(made, LIMIT)])
            prompt = Prompt(tokens, text, None, tokenizer.end_texts)
            found = there.complete(prompt, LIMIT, said.append)
            assert found.text == ours.removesuffix(tokenizer.end_texts[0])
    assert there.name.startswith("llama.cpp")
    assert said == []
