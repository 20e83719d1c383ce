"""How a chat template takes what templates take in different ways: found by asking it.

Templates are programs of strangers. Most take a call's arguments as an object, as transformers asks
for; some join them to a text and want text. Reasoning goes by three names. A role that one of them
does not know it may write by its name, refuse, or pass over.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from jobs.data.messages import ASSISTANT, DEVELOPER, REASONING, USER

WORD = "palavra0fim"
QUESTION = {"role": USER, "content": "A?"}
TOOL_ID = "a1b2c3d4e"  # as long as the ids that Mistral's templates insist on

QUOTE_OF_HTML = "&#34;"

# A conversation and its tools -> the text that a template makes of them.
Render = Callable[[list[dict[str, Any]], list[Any] | None], str]


class TemplateTakes:
    """What a template makes of plain examples.

    Args:
        render: asks it; whatever it raises is its refusal.
    """

    def __init__(self, render: Render) -> None:
        self._render = render

    @cached_property
    def developer(self) -> bool:
        """Whether it writes what a message of the role ``developer`` says."""
        return WORD in self._text([{"role": DEVELOPER, "content": WORD}, QUESTION])

    @cached_property
    def reasoning(self) -> str | None:
        """The key of an assistant's message whose reasoning it writes; None where it knows none."""
        return self._reasoning({"role": ASSISTANT, "content": "B."})

    @cached_property
    def reasoning_of_calls(self) -> str | None:
        """The same of a message that calls tools: Gemma 4's writes the reasoning of those alone."""
        arguments = "{}" if self.arguments_as_text else {}
        return self._reasoning(_calling(arguments))

    @cached_property
    def arguments_as_text(self) -> bool:
        """Whether it wants the arguments of a call as the text of an object, not as an object."""
        if self._writes_arguments({WORD: 1}):
            return False
        return self._writes_arguments(f'{{"{WORD}": 1}}')

    def _reasoning(self, answer: dict[str, Any]) -> str | None:
        texts = {key: self._text([QUESTION, {**answer, key: WORD}]) for key in REASONING}
        return next((key for key, text in texts.items() if WORD in text), None)

    def _writes_arguments(self, arguments: object) -> bool:
        text = self._text([QUESTION, _calling(arguments)])
        # Neither an object as Python writes it nor one between HTML's entities is JSON. The latter
        # is what `tojson | safe` makes of the texts that it is added to, in Mistral's templates.
        return WORD in text and f"'{WORD}'" not in text and QUOTE_OF_HTML not in text

    def _text(self, turns: list[dict[str, Any]]) -> str:
        try:
            return self._render(turns, None)
        except Exception:  # a refusal of an example of ours: what it says of the data's counts
            return ""


def _calling(arguments: object) -> dict[str, Any]:
    function = {"name": "f", "arguments": arguments}
    call = {"id": TOOL_ID, "type": "function", "function": function}
    return {"role": ASSISTANT, "content": "", "tool_calls": [call]}
