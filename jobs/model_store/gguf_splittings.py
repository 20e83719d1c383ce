"""How byte-level tokenizers split a text before they join its bytes, by llama.cpp's names of that.

A GGUF holds the name alone; a tokenizer.json holds the regular expression.
"""

from __future__ import annotations

from dataclasses import dataclass

_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+{end}"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*{end}"
)
_CASED_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_MARKED = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
DIGITS = "digits"


@dataclass(frozen=True)
class Splitting:
    """How a text is split before it is joined, under one of llama.cpp's names.

    Attributes:
        pattern: a regular expression, :data:`DIGITS` for single digits; None splits by GPT-2's.
        words: what the pattern leaves is split by GPT-2's, too.
        whole: a piece that is a token is taken as it is, whatever the merges say.
        begins: a text gets the BOS token where nothing says otherwise.
        composed: letters and their accents become one (NFC) first.
    """

    pattern: str | None = None
    words: bool = True
    whole: bool = False
    begins: bool = False
    composed: bool = False


SPLITTINGS = {
    "gpt-2": Splitting(),
    "smollm": Splitting(DIGITS),
    "llama-bpe": Splitting(_LETTERS + r"|\p{N}{1,3}" + _REST, False, whole=True, begins=True),
    "dbrx": Splitting(_LETTERS + r"|\p{N}{1,3}" + _REST, False),
    "qwen2": Splitting(_LETTERS + r"|\p{N}" + _REST, False, composed=True),
    "qwen35": Splitting(_MARKED, False, composed=True),
    "tekken": Splitting(
        _CASED.replace("{end}", "") + r"|\p{N}" + _CASED_REST, False, whole=True, begins=True
    ),
    "gpt-4o": Splitting(_CASED.replace("{end}", _ENDING) + r"|\p{N}{1,3}" + _CASED_REST, False),
}
