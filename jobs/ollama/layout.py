"""How a chat template lays a conversation out: found by asking it, and checked against it.

Templates are programs, and those of one family differ from model to model. What they write around
the words of a conversation is nearly always fixed text, though. So it is measured: words that
stand nowhere else are put through the template as the job has it, and what is found between them
is the layout. It counts only where it writes longer conversations as the template does, to the
letter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from jobs.data.chat.templating import templated_text
from jobs.data.examples import Dialogue
from jobs.data.messages import ASSISTANT, SYSTEM, USER, Message
from jobs.data.tokenizer import Tokenizer
from jobs.errors import DataError, ModelError

Conversation = Sequence[Message]
Write = Callable[[Conversation], str]


@dataclass(frozen=True)
class SystemPlace:
    """Where a system message stands.

    Attributes:
        at: ``start``: before all else, in the place of the layout's ``opening``. ``last``: within
            the last question, behind what opens that.
        before, after: what stands around it.
    """

    at: Literal["start", "last"]
    before: str
    after: str


@dataclass(frozen=True)
class ConversationLayout:
    """What stands between the words of a conversation.

    Attributes:
        opening: before the first question, where there is no system message; with the model's own
            one, where its template has one.
        answer: between a question and an answer that was given.
        question: between such an answer and the next question.
        generation: after the last question, up to where the model goes on.
        system: None where the template refuses system messages.
    """

    opening: str
    answer: str
    question: str
    generation: str
    system: SystemPlace | None

    def write(self, conversation: Conversation) -> str:
        """Return the prompt of a conversation that ends with a question."""
        system, turns = None, list(conversation)
        if turns[0].role == SYSTEM:
            system = turns.pop(0).content
        place = self.system
        parts = [self.opening]
        if system is not None and place is not None and place.at == "start":
            parts = [place.before, system, place.after]
        for number, turn in enumerate(turns):
            last = number == len(turns) - 1
            if turn.role == ASSISTANT:
                parts += [self.answer, turn.content, self.question]
                continue
            if last and system is not None and place is not None and place.at == "last":
                parts += [place.before, system, place.after]
            parts.append(turn.content)
        return "".join([*parts, self.generation])


def layout_of(tokenizer: Tokenizer) -> ConversationLayout:
    """Return the layout of a tokenizer's chat template, as its settings have it written.

    Without the BOS that a server puts before every prompt, where the tokenizer adds one.

    Raises:
        ModelError: there is no template, or it writes more than fixed text between the messages.
    """

    def write(conversation: Conversation) -> str:
        row = Dialogue(tuple(conversation), "")
        text = templated_text(conversation, row, tokenizer, answer_next=True)
        return text.removeprefix(tokenizer.begins_with)

    layout = _measured(write)
    for conversation in _conversations(with_system=layout.system is not None):
        expected, found = write(conversation), layout.write(conversation)
        if expected != found:
            raise _not_fixed(expected, found)
    return layout


def _measured(write: Write) -> ConversationLayout:
    first, told, second = (
        Message(USER, "Quem"),
        Message(ASSISTANT, "Ninguém"),
        Message(USER, "E eu"),
    )
    opening, answer, question, generation = _between(
        write([first, told, second]), first, told, second
    )
    return ConversationLayout(
        opening, answer, question, generation, _system(write, opening, question)
    )


def _system(write: Write, opening: str, question: str) -> SystemPlace | None:
    system, first = Message(SYSTEM, "Sê breve"), Message(USER, "Quem")
    told, second = Message(ASSISTANT, "Ninguém"), Message(USER, "E eu")
    try:
        text = write([system, first, told, second])
    except DataError:
        return None
    if text.find(system.content) < text.find(first.content):
        before, after, *_ = _between(text, system, first, told, second)
        return SystemPlace("start", before, after)
    *_, before, after, _ = _between(text, first, told, system, second)
    if not before.startswith(question):
        raise _not_fixed(question, before)
    return SystemPlace("last", before.removeprefix(question), after)


def _between(text: str, *messages: Message) -> list[str]:
    """Return what stands before, between and behind the words of messages.

    Raises:
        ModelError: they do not stand there once each, in this order.
    """
    parts, rest = [], text
    for message in messages:
        before, found, rest = rest.partition(message.content)
        if not found or message.content in rest:
            raise ModelError(
                "The model's chat template does not write a conversation's messages once each, in "
                f"their order: {text!r}.",
                HINT,
            )
        parts.append(before)
    return [*parts, rest]


HINT = (
    "Ollama has templates of fixed text around the messages. Ask a llama.cpp server instead, which "
    "renders the model's own template."
)


def _conversations(*, with_system: bool) -> list[list[Message]]:
    """Return what a layout is tried on: one question to three, of several lines and of none."""
    system = Message(SYSTEM, "És o arquivo do clube.\nResponde em português.")
    turns = [
        Message(USER, "Onde joga o Farense?"),
        Message(ASSISTANT, "No Estádio de São Luís,\n\nem Faro."),
        Message(USER, 'E "antes", {{ talvez }}?'),
        Message(ASSISTANT, "Também."),
        Message(USER, "Desde\nquando?"),
    ]
    plain = [turns[:length] for length in (1, 3, 5)]
    return [*plain, *([system, *some] for some in plain)] if with_system else plain


def _not_fixed(expected: str, found: str) -> ModelError:
    at = next(
        (n for n, (one, other) in enumerate(zip(expected, found, strict=False)) if one != other),
        min(len(expected), len(found)),
    )
    return ModelError(
        "The model's chat template writes more than fixed text around the messages of a "
        f"conversation: {expected[max(0, at - 20) : at + 40]!r}, where "
        f"{found[max(0, at - 20) : at + 40]!r} was expected from shorter ones.",
        HINT,
    )
