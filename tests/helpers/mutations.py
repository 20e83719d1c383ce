"""Seeded damage: to bytes, to JSON values, to text a person might have typed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

# Forty lines of it would name 2^40 texts.
BOMB = ", ".join(["[&a0 [x, x]", *(f"&a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))]) + "]"
ODD_TEXTS = (
    "", " ", "\0", "\x07", "\x1b[2J\x1b]0;owned\x07", "\x9b31m", "\x7f", "\u202egnp.exe", "\u2028",
    "\ud800", "\udfff", "\ufeff", "é" * 300, "x" * 300, "🦁" * 100, "مرحبا", "e\u0301" * 40,
    "a\nb\r\nc", "%s {0} $(id) `id`", "NaN", "Infinity", "-Infinity", "null", "1e400", "0x10",
    "1_0", "..", ".", "~", "../../../etc/passwd", "/etc/passwd", "/dev/zero", "models/outside",
    "models/loop", "models/tiny/../../..", "data/loop.jsonl", "data/outside.jsonl", "data",
    "a/" * 200, "farense:jobs", "*", "2026-13-45", "20261122-210000-v2-abcd\n",
)  # fmt: skip
ODD_NUMBERS: tuple[int | float, ...] = (
    0, -1, 1, 2, 2**31, 2**53 + 1, 2**63, 2**64, 10**30, 10**400, 1e308, 1e-320, -0.0, 0.5,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
ODD_YAML = (
    "&a [*a]", BOMB, "!!python/object/apply:os.mkdir [owned]", "!!timestamp x", "!!bool x",
    "!!int ''", "!!float ''", "!!binary é", "!!set {a}", "9" * 5000, "2026-13-45", "1:99:99", "*x",
    "<<: [1]", "? [a]: b", '"\\ud800"', '"\\0"', "-.inf", ".nan", "- - - -", "%YAML 9.9",
    "---\n---",
)  # fmt: skip
# Stands in a value where nested lists are put when it is written: JSON encoders give up before.
DEEP = "@deep@"


class Mutator:
    """Damages things, always in the same way for the same seed."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)  # noqa: S311 - not for secrets

    def damaged(self, data: bytes) -> bytes:
        """Return ``data`` with one to four flips, cuts, insertions or repetitions."""
        for _ in range(self.random.choice((1, 1, 2, 4))):
            data = self.random.choice(self._edits())(data)
        return data

    def json(self, value: Any) -> bytes:
        """Return a JSON value with one to three other types, numbers, texts or keys, as bytes."""
        for _ in range(self.random.choice((1, 1, 3))):
            value = self.value(value)
        text = json.dumps(value, ensure_ascii=self.random.random() < 0.7)
        if self.random.random() < 0.15:
            text = self._with_a_key_twice(text)
        depth = self.random.choice((5, 200, 600, 2000))
        text = text.replace(f'"{DEEP}"', "[" * depth + "]" * depth)
        return text.encode("utf-8", "surrogatepass")

    def json_or_bytes(self, value: Any) -> bytes:
        """Return ``value`` as damaged JSON or, one time in three, as JSON with damaged bytes."""
        if self.random.random() < 1 / 3:
            return self.damaged(json.dumps(value).encode())
        return self.json(value)

    def value(self, value: Any) -> Any:
        """Return ``value`` with something else in one place of it."""
        if isinstance(value, dict) and value and self.random.random() < 0.9:
            key = self.random.choice(list(value))
            match self.random.randrange(8):
                case 0:
                    return {name: item for name, item in value.items() if name != key}
                case 1:
                    return {**value, self.random.choice(ODD_TEXTS): self.odd()}
            return {**value, key: self.value(value[key])}
        if isinstance(value, list) and value and self.random.random() < 0.7:
            place = self.random.randrange(len(value))
            return [*value[:place], self.value(value[place]), *value[place + 1 :]]
        if self.random.random() < 0.5:
            return self.other(value)
        return self.odd()

    def other(self, value: Any) -> Any:
        """Return something of the same type as ``value``, which may well be allowed there."""
        match value:
            case bool():
                return not value
            case int():
                return self.random.choice((0, 1, 2, -1, value + 1, value * 1000, 2**62))
            case float():
                return self.random.choice((0.0, value / 3, -value, 1e30, "NaN", "Infinity"))
            case str():
                return self.text()
        return None

    def odd(self) -> Any:
        """Return something that is seldom where it is looked for."""
        match self.random.randrange(5):
            case 0:
                return self.random.choice((None, True, False, [], {}, DEEP, [DEEP], {"a": DEEP}))
            case 1:
                return [self.text()] * self.random.choice((1, 3))
            case 2 | 3:
                return self.random.choice(ODD_NUMBERS)
        return self.text()

    def text(self) -> str:
        """Return an odd text."""
        return self.random.choice(ODD_TEXTS)

    def yaml(self) -> str:
        """Return an odd YAML value."""
        depth = self.random.choice((20, 300, 3000))
        return self.random.choice(
            (*ODD_YAML, "[" * depth, "[" * depth + "]" * depth, "{a: " * depth)
        )

    def _edits(self) -> tuple[Callable[[bytes], bytes], ...]:
        return (
            self._flip,
            self._flip,
            self._cut,
            self._insert,
            self._insert,
            self._drop,
            self._again,
        )

    def _place(self, data: bytes) -> int:
        return self.random.randrange(len(data) + 1)

    def _flip(self, data: bytes) -> bytes:
        if not data:
            return data
        place = self.random.randrange(len(data))
        flipped = data[place] ^ (1 << self.random.randrange(8))
        return data[:place] + bytes((flipped,)) + data[place + 1 :]

    def _cut(self, data: bytes) -> bytes:
        return data[: self._place(data)]

    def _insert(self, data: bytes) -> bytes:
        place = self._place(data)
        more = self.text().encode("utf-8", "surrogatepass")
        return data[:place] + self.random.choice((more, b"\xff", b"\0", b"\n")) + data[place:]

    def _drop(self, data: bytes) -> bytes:
        place = self._place(data)
        return data[:place] + data[place + self.random.randrange(30) :]

    def _again(self, data: bytes) -> bytes:
        first, second = sorted((self._place(data), self._place(data)))
        return data[:second] + data[first:]

    def _with_a_key_twice(self, text: str) -> str:
        colon = text.find(":")
        if not text.startswith("{") or colon < 0:
            return text
        return f"{text[:colon]}: {json.dumps(self.text())}, {text[1:]}"
