"""A Modelfile: what Ollama makes a model of. Written, and read as Ollama reads it.

The grammar is that of Ollama's documentation where it says enough, else of its reader: a value ends
with the line unless it stands in quotes, quotes have no escapes, three of them may hold others, and
of characters that are not printable only spaces, tabs and line ends are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from jobs.errors import InvalidInput

INSTRUCTIONS = frozenset(
    (
        *("from", "parameter", "template", "system", "adapter", "license", "message"),
        *("requires", "renderer", "parser", "draft"),
    )
)
ROLES = frozenset(("system", "user", "assistant"))
QUOTES = '"""'
LINE = re.compile(r"[^\r\n]*[\r\n]|[^\r\n]+\Z")
KEPT = "\n\r\t"
# A host and a namespace, perhaps, a model, and a tag, perhaps.
PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"
NAME = re.compile(
    rf"(?:(?:[A-Za-z0-9_][A-Za-z0-9_.:-]{{0,349}}/)?[A-Za-z0-9_][A-Za-z0-9_-]{{0,79}}/)?"
    rf"{PART}(?::{PART})?",
    re.ASCII,
)

# An instruction in lower case (of a parameter its name), with its value.
Command = tuple[str, str]


@dataclass(frozen=True)
class Modelfile:
    """What a model is made of.

    Attributes:
        weights: the file, the folder (both by a path relative to the Modelfile) or the model of
            Ollama's that ``FROM`` names.
        adapter: the file beside it, if any.
        template: in Go's form.
        system: the message of conversations that have none of their own.
        parameters: by name, in order; ``stop`` may be there several times.
        remarks: lines for people, written first.
    """

    weights: str
    template: str
    adapter: str | None = None
    system: str | None = None
    parameters: tuple[Command, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def commands(self) -> list[Command]:
        """What it says, in order."""
        adapter = [("adapter", self.adapter)] if self.adapter is not None else []
        system = [("system", self.system)] if self.system is not None else []
        return [("from", self.weights), *adapter, ("template", self.template), *system,
                *self.parameters]  # fmt: skip

    def text(self) -> str:
        """Return the file's text.

        Raises:
            InvalidInput: it would be read as something else.
        """
        parts = [*(f"# {line}" for line in self.remarks), *map(_written, self.commands)]
        text = "\n".join(parts) + "\n"
        found = list(read_modelfile(text))
        for wanted, read in zip(self.commands, found, strict=False):
            if wanted != read:
                raise InvalidInput(
                    f"A Modelfile has no way to say this: {wanted[0]} {wanted[1]!r}; Ollama would "
                    f"read {read[0]} {read[1]!r}."
                )
        return text


def check_model_name(name: str) -> str:
    """Return a name for a model in Ollama.

    Raises:
        InvalidInput: Ollama does not take such names.
    """
    if not NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} cannot be the name of a model in Ollama.",
            "Use letters (a-z), digits, dots, dashes and underscores, with a namespace before a "
            "slash and a tag behind a colon if you like: farense-v2, ana/farense:v2",
        )
    return name


def readable(system: str) -> bool:
    """Tell whether Ollama reads a system message as it is."""
    try:
        return list(read_modelfile(f"FROM x\n{_written(('system', system))}\n"))[1:] == [
            ("system", system)
        ]
    except InvalidInput:
        return False


def read_modelfile(text: str) -> Iterator[Command]:
    """Yield what a Modelfile says, as Ollama reads it.

    Raises:
        InvalidInput: it is none; naming the line.
    """
    found = False
    kept = "".join(c for c in text if c.isprintable() or c in KEPT)
    lines = enumerate(LINE.findall(kept), start=1)
    for number, line in lines:
        if not line.strip(" \t\r\n") or line.lstrip(" \t").startswith("#"):
            continue
        instruction, rest = _word(line, number)
        name = instruction.lower()
        if name not in INSTRUCTIONS:
            raise _refused(number, f"{instruction!r} is no instruction")
        role = ""
        if name == "parameter":
            name, rest = _word(rest, number)
        elif name == "message":
            role, rest = _word(rest, number)
            if role not in ROLES:
                raise _refused(number, f"{role!r} is no role of a message")
        begun = number
        while (value := _unquoted(rest.strip(" \t\r\n"))) is None:
            number, line = next(lines, (number, ""))
            if not line:
                raise _refused(begun, "the end of a text in quotes is missing")
            rest += line
        found = found or name == "from"
        yield name, f"{role}: {value}" if role else value
    if not found:
        raise InvalidInput("The Modelfile has no FROM.")


def _word(line: str, number: int) -> tuple[str, str]:
    """Return the first word of a line, and what follows the space behind it."""
    match = re.match(r"[ \t]*([A-Za-z0-9_]+)[ \t](.*)", line, re.DOTALL)
    if match is None:
        raise _refused(number, "an instruction and its value are expected")
    return match[1], match[2]


def _unquoted(text: str) -> str | None:
    """Return a value without its quotes; None where their end is still to come."""
    for quotes in (QUOTES, '"'):
        if text.startswith(quotes):
            whole = len(text) >= 2 * len(quotes) and text.endswith(quotes)
            return text[len(quotes) : -len(quotes)] if whole else None
    return text


def _written(command: Command) -> str:
    name, value = command
    if name in ("from", "adapter"):
        return f"{name.upper()} {value}"
    if name in ("template", "system"):
        return f"{name.upper()} {QUOTES}{value}{QUOTES}"
    return f"PARAMETER {name} " + (f'"{value}"' if name == "stop" else value)


def _refused(number: int, what: str) -> InvalidInput:
    return InvalidInput(f"Line {number} of the Modelfile: {what}.")
