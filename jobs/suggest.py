"""What somebody may have meant who typed a name that there is not.

Names are compared by the edits between them (a letter more, less, another, or two that changed
places), as a share of the longer one: "statsu" is near "status". difflib's ratio, which counts
common letters wherever they stand, finds "run" in "prune" as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# The share of a name's letters that may be edited; one edit always, but in names of two letters.
MOST_EDITED = 0.3
SHORTEST = 3
# Names that are suggested at a time; where more are equally near, none is.
MOST = 5
SHORTEST_BEGINNING = 2


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the question whether the names nearest to ``word`` are meant; empty for none."""
    found = nearest(word, known)
    if not found:
        return ""
    *others, last = found
    shown = f"{', '.join(others)} or {last}" if others else last
    return f"Did you mean {shown}?"


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """Return which of the known names is nearest to ``word``, or several that are equally near.

    These are, whichever there are first: the same in other letters, small and capital; names of
    which it is a whole part (``rank`` of ``lora.rank``, ``epochs`` of ``num_epochs``); names a few
    edits away; names that it begins. The dashes before an option make no difference.
    """
    typed = _plain(word)
    names = [name for name in dict.fromkeys(known) if name != word]
    if not typed:
        return []
    whole = re.compile(rf"(?:^|[._-]){re.escape(_last(typed))}(?:$|[._-])")
    found = [name for name in names if _plain(name) == typed]
    found = found or [name for name in names if whole.search(_plain(name))]
    if not found:
        shares = {name: _share(typed, _plain(name)) for name in names}
        best = max(shares.values(), default=0.0)
        found = [name for name, share in shares.items() if share == best > 0]
    if not found and len(typed) >= SHORTEST_BEGINNING:
        found = [name for name in names if _plain(name).startswith(typed)]
    return found if len(found) <= MOST else []


def _share(typed: str, name: str) -> float:
    """Return how much of the longer of two names need not be edited; 0 where they are not near.

    Of dotted names the last parts alone may be alike: somebody forgot the group, or took another.
    """
    from rapidfuzz.distance import OSA  # noqa: PLC0415 - only where something was mistyped

    shares = [0.0]
    for a, b in ((typed, name), (_last(typed), _last(name))):
        edits, length = OSA.distance(a, b), max(len(a), len(b))
        if length >= SHORTEST and edits <= max(1, int(length * MOST_EDITED)):
            shares.append(1 - edits / length)
    return max(shares)


def _plain(name: str) -> str:
    return name.strip().lstrip("-").lower()


def _last(name: str) -> str:
    return name.rpartition(".")[2]
