"""What Go makes of a template, in a process of its own; Ollama gives it the same values."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from jobs.data.messages import SYSTEM, Message
from jobs.paths import REPOSITORY
from tests.helpers.required import go

PROGRAM = REPOSITORY / "tests/children/go_template.go"
Case = tuple[str, Sequence[Message]]


def rendered(cases: Sequence[Case]) -> list[str]:
    """Return the prompts that Ollama makes of templates and conversations."""
    given = [{"Template": template, "Values": values(said)} for template, said in cases]
    done = subprocess.run(
        [program()], input=json.dumps(given), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


def values(conversation: Sequence[Message]) -> dict[str, object]:
    """Return what Ollama gives a template: system messages twice, messages of a role joined."""
    turns: list[dict[str, str]] = []
    for message in conversation:
        if turns and turns[-1]["Role"] == message.role:
            turns[-1]["Content"] += f"\n\n{message.content}"
        else:
            turns.append({"Role": message.role, "Content": message.content})
    system = "\n\n".join(m.content for m in conversation if m.role == SYSTEM)
    return {"System": system, "Messages": turns, "Tools": None, "Response": ""}


@cache
def program() -> Path:
    """Build the program that renders; return it."""
    built = Path(mkdtemp(prefix="farense-go-")) / "go_template"
    settings = {
        "GOTOOLCHAIN": "local",
        "GOTELEMETRY": "off",
        "CGO_ENABLED": "0",
        "GO111MODULE": "off",
    }
    done = subprocess.run(
        [go(), "build", "-o", built, PROGRAM],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return built
