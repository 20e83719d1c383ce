"""The forms in which others write training data, and what each row of them says in ours.

Which form a row has, its keys tell. Where they fit two forms, nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Any

import orjson

from jobs.data.messages import UNUSED_OF_ROW, RowError
from jobs.importing.conversations import conversation, parsed, system_of, tools_of
from jobs.storage.values import finite

QUESTIONS = ("prompt", "question", "pergunta", "query", "input")
ANSWERS = ("completion", "response", "answer", "resposta", "output")
CONVERSATIONS = ("messages", "conversations", "conversation")
SYSTEMS = ("system", "system_prompt")
PREFERENCE = {"chosen", "rejected"}
# Why a row has no form; the rest of the reason says more.
NO_FORM, PREFERENCE_PAIR = "of no form that is known", "a preference pair"
MAPPED = ("prompt", "completion", "system", "text", "messages")
# What says how a row is to be learned goes along, so that the reader of our rows judges it.
HANDED_ON = frozenset({*UNUSED_OF_ROW, "tools"})
# A longer text beside question and answer is no label.
LONGEST_LABEL = 200

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Form:
    """A form that rows may have.

    Attributes:
        name: as people call it.
        columns: by which it was known.
        used: all columns that it makes use of.
        row: what a row says in our form.
    """

    name: str
    columns: tuple[str, ...]
    used: frozenset[str]
    row: Callable[[Values], dict[str, Any]]

    @property
    def why(self) -> str:
        """By what it was known, in words."""
        many = len(self.columns) > 1
        return f"{'columns' if many else 'column'} {', '.join(self.columns)}"


@lru_cache(maxsize=1024)
def forms_of(keys: frozenset[str]) -> tuple[Form, ...]:
    """Return the forms that a row with these keys has: one, none, or several that all fit.

    Capital letters tell nothing apart, unless keys differ in them alone.
    """
    written = {key.lower(): key for key in keys}
    found = _forms_of(keys)
    if found or len(written) < len(keys):
        return found
    return tuple(_as_written(form, written) for form in _forms_of(frozenset(written)))


def _as_written(form: Form, written: Mapping[str, str]) -> Form:
    """Return a form whose columns are called otherwise: by our names of them."""

    def row(values: Values) -> dict[str, Any]:
        return form.row({key.lower(): value for key, value in values.items()})

    columns = tuple(written[name] for name in form.columns)
    used = frozenset(written.get(name, name) for name in form.used)
    return Form(form.name, columns, used, row)


def _forms_of(keys: frozenset[str]) -> tuple[Form, ...]:
    if keys >= PREFERENCE:
        return ()
    system = next((key for key in SYSTEMS if key in keys), None)
    found = [_conversation(key, system) for key in CONVERSATIONS if key in keys]
    if "instruction" in keys:
        found += [
            _alpaca(
                next((key for key in ("input", "context") if key in keys), None), answer, system
            )
            for answer in ("output", "response")
            if answer in keys
        ]
    asked = [key for key in QUESTIONS if key in keys and not (key == "input" and found)]
    answers = [key for key in ANSWERS if key in keys]
    found += [_pair(one, other, system) for one in asked for other in answers]
    if not found and "text" in keys:
        found = [_text("text")]
    return tuple(found)


def mapped_form(columns: Mapping[str, str]) -> Form:
    """Return the form of which a person named the columns: ours -> theirs.

    Raises:
        ValueError: saying what is missing, or one too many.
    """
    given = set(columns)
    if given == {"text"}:
        return _text(columns["text"], "--map")
    if given - {"system"} == {"messages"}:
        return _conversation(columns["messages"], columns.get("system"), "--map")
    if given - {"system"} == {"prompt", "completion"}:
        return _pair(
            *(columns["prompt"], columns["completion"], columns.get("system")),
            "--map",
        )
    raise ValueError(
        "--map names prompt and completion, or messages (either with system, if there is one), or "
        f"text alone; given: {', '.join(sorted(given))}"
    )


def without_form(keys: Iterable[str]) -> str:
    """Return why rows with these keys have no form."""
    if set(keys) >= PREFERENCE:
        return f"{PREFERENCE_PAIR} (chosen, rejected): farense does not train on these"
    shown = ", ".join(list(keys)[:8]) or "none"
    return f"{NO_FORM}, with the columns {shown[:160]}"


def kept_beside(values: Values, form: Form) -> tuple[dict[str, Any], list[str]]:
    """Return what stays of a row's other columns as its metadata, and the names of the rest.

    Short texts, numbers and the like stay: by them shares are kept and scores told apart.
    """
    own = parsed(values.get("metadata"))
    labels: dict[str, Any] = {}
    dropped: list[str] = []
    for key, value in values.items():
        if key in form.used or key in HANDED_ON or (key == "metadata" and isinstance(own, dict)):
            continue
        label = _label(value)
        if label is not None:
            labels[key] = label
        elif value not in (None, "", [], {}):
            dropped.append(key)
    return {**labels, **(own if isinstance(own, dict) else {})}, dropped


def handed_on(values: Values, form: Form) -> dict[str, Any]:
    """Return what stands beside a row and says how it is to be learned."""
    return {
        key: values[key]
        for key in HANDED_ON & values.keys() - form.used
        if values[key] not in (None, "", [], {})
    }


def _label(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, str):
        return value if value.strip() and len(value) <= LONGEST_LABEL else None
    if isinstance(value, bool):
        return value
    return value if finite(value) is not None and abs(value) < 2**63 else None


def _pair(question: str, answer: str, system: str | None, name: str | None = None) -> Form:
    ours = (question, answer) == ("prompt", "completion")
    name = name or ("farense (prompt, completion)" if ours else f"{question} and {answer}")

    def row(values: Values) -> dict[str, Any]:
        asked, answered = _written(values, question), _written(values, answer)
        return _question(asked, answered, system_of(values, system))

    columns = (question, answer, *filter(None, [system]))
    return Form(name, columns, frozenset(columns), row)


def _alpaca(more: str | None, answer: str, system: str | None) -> Form:
    def row(values: Values) -> dict[str, Any]:
        asked, added = _written(values, "instruction"), values.get(more) if more else None
        if added is not None and not isinstance(added, str):
            raise RowError(f'"{more}": expected text')
        asked = f"{asked}\n\n{added}" if added and added.strip() else asked
        answered = _written(values, answer)
        earlier = _history(parsed(values.get("history")))
        return _question(asked, answered, system_of(values, system), earlier)

    columns = ("instruction", *filter(None, [more]), answer, *filter(None, [system]))
    return Form("Alpaca", columns, frozenset({*columns, "history"}), row)


def _history(value: Any) -> list[dict[str, str]]:
    """Return the earlier turns of a row, which stand as pairs of question and answer."""
    if value in (None, "", []):
        return []
    turns = []
    for pair in value if isinstance(value, list) else [None]:
        if (
            not isinstance(pair, list | tuple)
            or len(pair) != 2
            or not all(isinstance(text, str) for text in pair)
        ):
            raise RowError('"history": expected pairs of question and answer')
        turns += [_message("user", pair[0]), _message("assistant", pair[1])]
    return turns


def _question(
    asked: str, answered: str, system: str | None, earlier: list[dict[str, str]] | None = None
) -> dict[str, Any]:
    if system is None and not earlier:
        return {"prompt": asked, "completion": answered}
    opening = [_message("system", system)] if system is not None else []
    turns = [_message("user", asked), _message("assistant", answered)]
    return {"messages": [*opening, *(earlier or []), *turns]}


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _conversation(key: str, system: str | None, name: str | None = None) -> Form:
    name = name or ("chat messages" if key == "messages" else f"ShareGPT ({key})")

    def row(values: Values) -> dict[str, Any]:
        messages = conversation(values.get(key), key, system_of(values, system))
        tools = tools_of(values.get("tools"))
        return {"messages": messages, **({"tools": tools} if tools else {})}

    columns = (key, *filter(None, [system]))
    return Form(name, columns, frozenset({*columns, "tools"}), row)


def _text(key: str, name: str = "texts") -> Form:
    def row(values: Values) -> dict[str, Any]:
        return {"text": _written(values, key)}

    return Form(name, (key,), frozenset({key}), row)


def _written(values: Values, key: str) -> str:
    value = values.get(key)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise RowError(f'"{key}" is empty')
    if not isinstance(value, str):
        raise RowError(f'"{key}": expected text, found {_shown(value)}')
    return value


def _shown(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()[:40]
    except TypeError:
        return type(value).__name__
