"""What a model writes around the words of an answer: reasoning before it, marks of its template.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Marks:
    """The texts that open and close a reasoning block, such as ``<think>`` and ``</think>``.

    Attributes:
        turn: what opens the turn of the answer after a block that was a turn of its own.
    """

    start: str
    end: str
    turn: str = ""

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
        reasoning, _, rest = body.partition(self.end)
        answer = rest.strip()
        opening = self.turn.startswith(answer)  # the text still grows, or was cut there
        return reasoning.strip(), "" if opening else answer.removeprefix(self.turn).strip()

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


@dataclass(frozen=True)
class Frame:
    """What is generated around the words of an answer, and told from them.

    Attributes:
        marks: of reasoning; None where neither model nor template knows any.
        opened: the prompt has opened a reasoning block.
        closed: the prompt has closed one: nothing is left to reason.
        head, tail: what the template writes before an answer, after the prompt and after reasoning,
            and behind it, before its end: gpt-oss names a channel. Without white space around.
    """

    marks: Marks | None = None
    opened: bool = False
    closed: bool = False
    head: str = ""
    tail: str = ""

    @classmethod
    def around(cls, answer: str, *, prompt: str, learned: str, marks: Marks | None) -> Frame:
        """Return the frame that a template puts around ``answer``.

        Args:
            prompt: as text, up to where generation begins.
            learned: what follows it up to the end of the turn.
        """
        opened = marks is not None and marks.opened(prompt)
        head, _, tail = learned.partition(answer)
        if head and marks is not None:
            _, head = marks.split(head, opened=opened)
        closed = marks is not None and marks.closed(prompt)
        return cls(marks, opened, closed, head.strip(), tail.strip())

    @property
    def may_reason(self) -> bool:
        """Whether nothing in the prompt keeps a model from reasoning before it answers."""
        return self.marks is not None and not self.closed

    def parts(self, text: str) -> tuple[str | None, str]:
        """Return the reasoning in what was generated, None where there is none, and the answer."""
        reasoning, answer = None, text
        if self.marks is not None:
            reasoning, answer = self.marks.split(text, opened=self.opened)
        return reasoning, self._words(answer)

    def parts_so_far(self, text: str) -> tuple[str | None, str]:
        """Return of a text that still grows what is certain of its reasoning and its answer."""
        marks, body = self.marks, text.strip()
        if marks is not None and not self.opened and marks.may_begin(body):
            return None, ""
        if self.head and self.head.startswith(body):
            return None, ""
        reasoning, answer = self.parts(text)
        if reasoning is not None and marks is not None and marks.end not in text:
            return without_beginning(reasoning, marks.end), ""
        if self.head and self.head.startswith(answer):
            return reasoning, ""
        return reasoning, without_beginning(answer, self.tail)

    def _words(self, answer: str) -> str:
        text = answer.strip()
        return text.removeprefix(self.head).removesuffix(self.tail).strip()


def without_beginning(text: str, mark: str) -> str:
    """Return a text that still grows without what may be the beginning of ``mark``."""
    longest = range(min(len(mark) - 1, len(text)), 0, -1)
    held = next((n for n in longest if text.endswith(mark[:n])), 0)
    return text[: len(text) - held]
