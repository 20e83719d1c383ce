"""The report of a storm: a line of JSON for each round, and a table of what was hit."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path

import orjson

from jobs.storage.files import whole_lines
from tests.faults.plan import FAULTS, PHASES
from tests.faults.rounds import Result


class Report:
    """The rounds so far.

    Args:
        path: of the file; rounds of earlier seeds that it holds already are kept.
        first: the seed to begin with.
    """

    def __init__(self, path: Path, first: int) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = whole_lines(path) if path.exists() else []
        found = [Result(**orjson.loads(line)) for line in lines]
        self.results = [result for result in found if result.seed < first]
        path.write_bytes(b"".join(_line(result) for result in self.results))

    def add(self, result: Result) -> None:
        """Write a round down."""
        self.results.append(result)
        with self._path.open("ab") as file:
            file.write(_line(result))

    @property
    def counted(self) -> int:
        """How many rounds hit their phase."""
        return sum(not result.missed for result in self.results)

    @property
    def failed(self) -> list[Result]:
        """The rounds after which something was wrong, whether they hit or not."""
        return [result for result in self.results if result.problems]

    def table(self) -> list[str]:
        """Return the lines of a table: how often each fault hit each phase."""
        hits = Counter((found.fault, found.phase) for found in self.results if not found.missed)
        head = "".join(f"{phase:>12}" for phase in PHASES)
        lines = [f"{'':16}{head}"]
        for fault in FAULTS:
            counts = "".join(f"{hits[fault.value, phase.value]:>12}" for phase in PHASES)
            lines.append(f"{fault:16}{counts}")
        missed = Counter(found.missed for found in self.results if found.missed)
        real = sum(found.victim == "real" and not found.missed for found in self.results)
        mean = sum(found.seconds for found in self.results) / max(1, len(self.results))
        lines.append(
            f"{self.counted} rounds hit the phase they were meant for, {real} of them in a real "
            f"training; {missed.total()} missed it; {mean:.1f} s each."
        )
        lines += [f"  missed {count} times: {why}" for why, count in missed.items()]
        lines += [f"  seed {found.seed} failed" for found in self.failed]
        return lines


def _line(result: Result) -> bytes:
    return orjson.dumps(asdict(result)) + b"\n"
