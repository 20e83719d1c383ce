"""From a job's prompts to the Modelfile by which Ollama writes the same ones."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.data.examples import Dialogue
from jobs.data.messages import SYSTEM, USER, Message
from jobs.data.prompts import PromptFormat
from jobs.data.tokenize import frame_of, prompt_tokens
from jobs.data.tokenizer import Tokenizer
from jobs.ollama.go_template import farense_template, layout_template
from jobs.ollama.layout import layout_of
from jobs.ollama.modelfile import Command, Modelfile, readable

# As many tokens as `farense ask` lets an answer have.
LONGEST_ANSWER = 512
# Tokens of a conversation that Ollama holds, at least.
CONTEXT = 4096
QUESTION = Message(USER, "?")


@dataclass(frozen=True)
class Prompts:
    """How a job's prompts are made.

    Attributes:
        system: the message that all its questions had, if any.
        longest: tokens of its longest example.
        context: the most tokens that its model takes; None where that is not known.
        date: the day that its prompts hold; None where the template writes none.
    """

    tokenizer: Tokenizer
    prompt_format: PromptFormat
    system: str | None = None
    longest: int = 0
    context: int | None = None
    date: str | None = None


def modelfile(prompts: Prompts, weights: str, adapter: str | None = None) -> Modelfile:
    """Return the Modelfile of a job's model.

    Args:
        weights, adapter: what ``FROM`` and ``ADAPTER`` name.

    Raises:
        ModelError: the chat template cannot be written in Go's form.
    """
    system = prompts.system
    said = system is None or readable(system)
    default = None if said else system
    if prompts.prompt_format == "chat":
        template = layout_template(layout_of(prompts.tokenizer), system=default)
    else:
        template = farense_template(system=default)
    return Modelfile(
        weights,
        template,
        adapter,
        system if said else None,
        tuple(_parameters(prompts)),
        tuple(_remarks(prompts)),
    )


def _parameters(prompts: Prompts) -> list[Command]:
    """Return what makes Ollama answer as `farense ask` does: greedily, with the same end."""
    context = max(CONTEXT, prompts.longest + LONGEST_ANSWER)
    return [
        *(("stop", text) for text in prompts.tokenizer.end_texts),
        ("temperature", "0"),
        ("repeat_penalty", "1"),
        ("num_predict", str(LONGEST_ANSWER)),
        ("num_ctx", str(min(context, prompts.context or context))),
    ]


def _remarks(prompts: Prompts) -> list[str]:
    """Return what a person should know of the prompts that Ollama writes, a line each."""
    tokenizer = prompts.tokenizer
    system = [] if prompts.system is None else [Message(SYSTEM, prompts.system)]
    row = Dialogue((*system, QUESTION), "")
    said = []
    bos = tokenizer.begins_with
    if bos and prompt_tokens(row, tokenizer, prompts.prompt_format)[:1] != (
        tokenizer.bos_token_id,
    ):
        said.append(f"Ollama begins each prompt with {bos}, which those of the training did not.")
    if prompts.prompt_format == "farense":
        said.append(
            "The model was trained on single questions: those before the last are not told."
        )
        return said
    if layout_of(tokenizer).system is None:
        said.append("The model's chat template takes no system message: Ollama's are left out.")
    if prompts.date is not None:
        said.append(f"The prompts hold the day of the training, {prompts.date}.")
    frame = frame_of(row, tokenizer, prompts.prompt_format)
    if frame.opened and frame.marks is not None:
        said.append(f"The prompt opens a reasoning block: the answer follows {frame.marks.end}.")
    if frame.head:
        said.append(f"The template writes {frame.head} before an answer, which Ollama shows.")
    return said
