"""Reasoning blocks: what a thinking model writes before its answer, between two marks. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Marks:
    """The texts that open and close a reasoning block, such as ``<think>`` and ``</think>``."""

    start: str
    end: str

    def opened(self, prompt: str) -> bool:
        """Tell whether a prompt ends within a block that it opens itself."""
        return prompt.rstrip().endswith(self.start)

    def closed(self, prompt: str) -> bool:
        """Tell whether a prompt ends with a block that is closed: nothing is left to reason."""
        return prompt.rstrip().endswith(self.end)

    def split(self, text: str, *, opened: bool = False) -> tuple[str | None, str]:
        """Return the reasoning in a text, None where there is none, and the answer after it.

        A block that is never closed is reasoning to its end, and no answer: a server shows nothing
        of it either.

        Args:
            opened: the prompt has opened a block, so that the text begins within it.
        """
        body = text.lstrip()
        if body.startswith(self.start):
            body = body[len(self.start) :]
        elif not opened:
            return None, text
        reasoning, _, answer = body.partition(self.end)
        return reasoning.strip(), answer.strip()

    def may_begin(self, text: str) -> bool:
        """Tell whether a text that still grows may turn out to begin with a block."""
        return self.start.startswith(text.strip())

    def closing(self, prompt: str, reasoning: str) -> str:
        """Return what closes the block that ``prompt`` opens, with ``reasoning`` in it.

        A mark on a line of its own is closed on one, with a blank line after it.
        """
        if prompt.endswith(self.start):
            return f"{reasoning}{self.end}"
        between = f"{reasoning}\n" if reasoning else "\n"
        return f"{between}{self.end}\n\n"
