"""What a check found, and checks that fail themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from jobs.errors import FarenseError

Answer = TypeVar("Answer")


class Status(StrEnum):
    """What a finding means for training."""

    OK = "ok"
    WARNING = "warning"
    """Training starts; something will be slower, less sure or less safe."""
    PROBLEM = "problem"
    """A job would be refused, or fail."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: what was looked at, in a word.
        found: a line, or a few.
        action: what to do about it; None where there is nothing to do.
    """

    check: str
    status: Status
    found: str
    action: str | None = None


def ok(check: str, found: str) -> Finding:
    """Return a finding that says all is well."""
    return Finding(check, Status.OK, found)


def warning(check: str, found: str, action: str) -> Finding:
    """Return a finding that keeps nobody from training."""
    return Finding(check, Status.WARNING, found, action)


def problem(check: str, found: str, action: str) -> Finding:
    """Return a finding that has to be mended before training."""
    return Finding(check, Status.PROBLEM, found, action)


# What to do about an error that does not say so itself.
ADVICE = {
    "model": "Remove the folder and pull the model again: farense model pull",
    "adapter": "Change lora.keys or lora.num_layers.",
    "data": "Put JSON Lines there; `farense data check` tells what a file holds.",
    "settings": "Set the variable to something else, or unset it.",
}
ASK_AGAIN = "Fix that, then run again: farense doctor"


class Checkup:
    """Findings as they come in; what goes wrong while looking becomes one of them."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def ask(self, check: str, question: Callable[[], Answer]) -> Answer | None:
        """Return the answer to a question; None where there is none, and a finding says why."""
        try:
            return question()
        except FarenseError as error:
            action = error.hint or ADVICE.get(check, ASK_AGAIN)
            self.findings.append(problem(check, error.message, action))
        except Exception as error:
            words = " ".join(str(error).split())
            self.findings.append(
                warning(
                    check,
                    f"This could not be checked: {type(error).__name__}: {words}",
                    "Look at it yourself; if nothing is wrong, this is a fault in farense.",
                )
            )
        return None

    def add(self, check: str, look: Callable[[], Finding]) -> bool:
        """Add what ``look`` finds; tell whether that is no problem."""
        found = self.ask(check, look)
        if found is None:
            return False
        self.findings.append(found)
        return found.status is not Status.PROBLEM
