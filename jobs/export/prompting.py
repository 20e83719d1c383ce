"""How another program asks an exported model as it was trained: the options of its prompt."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any

from jobs.config.config import TrainConfig
from jobs.data.examples import Dialogue
from jobs.data.messages import Message
from jobs.data.prompts import PromptFormat, farense_prompt
from jobs.data.tokenize import frame_of
from jobs.data.tokenizer import TemplateSettings
from jobs.evaluation.ask import common_system
from jobs.export.folder import OPTIONS_FILE
from jobs.model.load import load_tokenizer
from jobs.paths import Workspace
from jobs.spec import JobSpec

QUESTION = "QUESTION"


@dataclass(frozen=True)
class Prompting:
    """What a prompt of a job is made of, beside the question.

    Attributes:
        system: the system message that all questions had, if any.
        options: what the chat template is given, by variable.
        date: the day that its prompts hold, ``YYYY-MM-DD``; None where the template writes none.
        answer_after: the mark after which an answer stands, where every prompt opens a reasoning
            block.
        head, tail: what the chat template writes around an answer, and mlx-lm prints with it.
    """

    prompt_format: PromptFormat
    system: str | None = None
    options: dict[str, Any] | None = None
    date: str | None = None
    answer_after: str | None = None
    head: str = ""
    tail: str = ""

    @property
    def in_file(self) -> bool:
        """Whether the options stand in a file beside the card, not in its command."""
        return self.date is not None

    def arguments(self, folder: str) -> str:
        """Return the arguments of ``mlx_lm generate`` that ask the same prompt.

        Args:
            folder: of the export, as the command names it.
        """
        if self.prompt_format == "farense":
            return f"--ignore-chat-template {self._question}"
        parts = [self._question]
        if self.in_file:
            parts.append(f'--chat-template-config "$(cat {folder}/{OPTIONS_FILE})"')
        elif self.options:
            parts.append(f"--chat-template-config {shlex.quote(json.dumps(self.options))}")
        return " ".join(parts)

    def llama_command(self) -> str:
        """Return llama.cpp's program and the arguments that ask the same prompt, greedily."""
        if self.prompt_format == "farense":
            return f"llama-completion -no-cnv --temp 0 -n 200 {self._question}"
        parts = [f"llama-cli --single-turn --temp 0 -n 200 {self._question}"]
        if self.options:
            parts.append(f"--chat-template-kwargs {shlex.quote(json.dumps(self.options))}")
        return " ".join(parts)

    def remarks(self) -> list[str]:
        """Return what a person should know of the prompt, a sentence or two each."""
        said = []
        if self.options and not self.in_file:
            said.append("A server takes what `--chat-template-config` says as template arguments.")
        if self.date is not None:
            said.append(
                f"The chat template writes the day's date. In training it was {self.date}, which "
                f"`{OPTIONS_FILE}` keeps; a server writes its own day."
            )
        if self.answer_after is not None:
            said.append(
                "The chat template opens a reasoning block in every prompt: the answer is what "
                f"follows `{self.answer_after}`."
            )
        if marks := [f"`{mark}` {place} it" for mark, place in self._around if mark]:
            said.append(
                f"With an answer mlx-lm prints what the chat template writes: {', '.join(marks)}."
            )
        return said

    @property
    def _question(self) -> str:
        """The arguments that ask the question, which mlx-lm and llama.cpp call the same."""
        if self.prompt_format == "farense":
            context = (Message("system", self.system),) if self.system is not None else ()
            text = farense_prompt(Dialogue((*context, Message("user", QUESTION)), ""))
            return f"--prompt {_quoted(text)}"
        system = f" --system-prompt {_printed(self.system)}" if self.system is not None else ""
        return f'--prompt "{QUESTION}"{system}'

    @property
    def _around(self) -> tuple[tuple[str, str], ...]:
        return (self.head, "before"), (self.tail, "after")


def prompting_of(workspace: Workspace, spec: JobSpec, config: TrainConfig) -> Prompting:
    """Return how the prompts of a job are made.

    Raises:
        ModelError: its tokenizer cannot be loaded, or has no template for them.
    """
    found = common_system(workspace, spec)
    system = found[0].content if found else None
    if config.prompt_format != "chat":
        return Prompting(config.prompt_format, system)
    template = TemplateSettings.of(config, spec.prompts_written_on)
    tokenizer = load_tokenizer(workspace.model(config.model), template)
    row = Dialogue((*found, Message("user", QUESTION)), "")
    frame = frame_of(row, tokenizer, config.prompt_format)
    return Prompting(
        config.prompt_format,
        system,
        tokenizer.command_options(),
        spec.prompts_written_on if tokenizer.writes_date else None,
        frame.marks.end if frame.opened and frame.marks else None,
        frame.head,
        frame.tail,
    )


def _quoted(text: str) -> str:
    """Return a text for a shell, its line ends as mlx-lm reads them."""
    one_line = text.replace("\n", "\\n")
    plain = not any(character in one_line for character in '"$`!')
    return f'"{one_line}"' if plain else shlex.quote(one_line)


def _printed(text: str) -> str:
    """Return a text for a shell in one line."""
    if "\n" not in text:
        return shlex.quote(text)
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    return f'"$(printf %b {shlex.quote(escaped)})"'
