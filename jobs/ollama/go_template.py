"""Templates in the form of Go's ``text/template``, as Ollama takes them.

Ollama gives a template ``.Messages`` with ``.Role`` and ``.Content``, messages of one role in a row
joined into one, and ``.System``: all system messages, that of the Modelfile where a conversation
has none of its own. It has no function that trims: white space around a message stays.
"""

from __future__ import annotations

import re

from jobs.ollama.layout import ConversationLayout

SYSTEM = ".System"
LAST = "eq (len (slice $.Messages $i)) 1"
# An answer may have been begun, which the model then goes on with.
ASKED = "le (len (slice $.Messages $i)) 2"
EACH = "{{ range $i, $_ := .Messages }}"
END = "{{ end }}"
# Where Go would see an action, or a Modelfile the end of its text.
SPECIAL = re.compile(r'\{\{|"{3}')


def layout_template(layout: ConversationLayout, *, system: str | None = None) -> str:
    """Return the template that writes conversations in a layout.

    Args:
        system: the system message of a conversation that has none, where the Modelfile has no way
            to say it.
    """
    prelude, name = _system(system)
    place = layout.system
    opening, in_question = literal(layout.opening), ""
    if place is not None:
        around = f"{literal(place.before)}{{{{ {name} }}}}{literal(place.after)}"
        if place.at == "start":
            opening = f"{{{{ if {name} }}}}{around}{{{{ else }}}}{opening}{END}"
        else:
            in_question = f"{{{{ if and $last {name} }}}}{around}{END}"
    question = f"{in_question}{{{{ .Content }}}}{{{{ if $last }}}}{literal(layout.generation)}{END}"
    answer = (
        f"{literal(layout.answer)}{{{{ .Content }}}}"
        f"{{{{ if not $last }}}}{literal(layout.question)}{END}"
    )
    return (
        f"{prelude}{opening}{EACH}{{{{ $last := {LAST} }}}}"
        f'{{{{ if eq .Role "user" }}}}{question}'
        f'{{{{ else if eq .Role "assistant" }}}}{answer}{END}{END}'
    )


def farense_template(*, system: str | None = None) -> str:
    """Return the template of the ``farense`` format: the last question, and none before it."""
    prelude, name = _system(system)
    return (
        f'{prelude}{EACH}{{{{ if and (eq .Role "user") ({ASKED}) }}}}### Pergunta:\n'
        f"{{{{ if {name} }}}}{{{{ {name} }}}}\n\n{END}{{{{ .Content }}}}\n\n### Resposta:\n"
        f'{{{{ else if and (eq .Role "assistant") ({LAST}) }}}}{{{{ .Content }}}}{END}{END}'
    )


def literal(text: str) -> str:
    """Return what makes Go write a text, and a Modelfile keep it.

    Ollama's reader of Modelfiles drops characters that are not printable, without a word: they
    are spelled.
    """
    parts, plain = [], SPECIAL.split(text)
    for part, special in zip(plain, [*SPECIAL.findall(text), ""], strict=True):
        parts += [c if _kept(c) else _action(c) for c in part]
        parts.append(_action(special) if special else "")
    return "".join(parts)


def quoted(text: str) -> str:
    """Return a text as a Go string in quotes."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _system(default: str | None) -> tuple[str, str]:
    """Return what a template begins with, and the name of the system message in it.

    Within ``range`` a dot is a message: the system message is the whole conversation's.
    """
    if default is None:
        return "", f"${SYSTEM}"
    return f"{{{{ $system := or {SYSTEM} {quoted(default)} }}}}", "$system"


def _action(text: str) -> str:
    return f"{{{{ {quoted(text)} }}}}"


def _kept(character: str) -> bool:
    return character.isprintable() or character in "\n\t"


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character == "\n":
        return "\\n"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
