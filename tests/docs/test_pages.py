"""What the pages tell people to type works as it stands there, and their links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from cli.main import COMMANDS
from cli.main import farense as command_group
from daemon.client import FarenseClient
from daemon.process import daemon_status
from jobs.data.examples import Dialogue
from jobs.data.messages import Message
from jobs.data.tokenize import prompt_tokens
from jobs.model.load import load_tokenizer
from jobs.paths import REPOSITORY, Workspace
from tests.cli.conftest import FARENSE, Run, environment
from tests.helpers.pages import (
    Command,
    anchors,
    links,
    mentioned_commands,
    python_blocks,
    shown_commands,
)
from tests.helpers.past_runs import FIRST, SECOND
from tests.helpers.waiting import wait_until

PAGES = sorted([REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md")])
# For those who change farense; their commands take hours.
OTHERS = [REPOSITORY / name for name in ("CONTRIBUTING.md", "data/README.md")]
MACOS = "macOS only"
# A reader puts something of their own in the place of these.
STANDS_FOR = {
    "JOB": SECOND,
    "A": FIRST,
    "B": SECOND,
    "FILE": "data/train_v3_final_complete.jsonl",
}
# What is the shell's, or another program's.
NOT_OURS = ("source", "cp", "export", "docker", "git", "cd")
ENDLESS = ("-f", "--watch")


def by_name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("page", PAGES, ids=by_name)
@pytest.mark.timeout(170)
def test_the_commands_work(page: Path, documented: Workspace, farense: Run, invoke: Run) -> None:
    client = FarenseClient.connect(documented)
    client.ensure_daemon()
    wait_until(lambda: len(client.jobs(all=True)) >= 4, "the old jobs")
    for command in shown_commands(page):
        if command.remark == MACOS or command.words[0] in NOT_OURS:
            continue
        where = f"{page.name}:{command.line}: {' '.join(command.words)}"
        if command.words[0] == "make":
            assert command.words[1] in make_targets(), where
        elif command.words[:2] == ("farense", "daemon"):
            run_daemon(command, documented, client, invoke, where)
        elif command.words[:2] == ("farense", "ui"):
            # It serves until it is told to end, which tests of its own hold.
            assert invoke(*command.words[1:], "--help").code == 0, where
        elif command.words[0] == "python":
            run_python(command, documented, where)
        else:
            done = invoke(*arguments(command.words[1:]))
            assert done.code == 0, f"{where}\n{done.out}{done.err}"
    client.close()


@pytest.mark.parametrize("page", [p for p in PAGES if python_blocks(p)], ids=by_name)
def test_the_python_works(
    page: Path, documented: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {}
    for code in python_blocks(page):
        exec(compile(code, str(page), "exec"), names)  # noqa: S102 - our own page
    said = capsys.readouterr().out
    assert "ANÁLISE FINAL" in said
    job = names["client"].job(names["job"].id)
    assert f"\n{job.id} {job.state} {job.best_val_loss}\n" in said
    names["client"].close()


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=by_name)
def test_commands_in_passing_exist(page: Path) -> None:
    for words in mentioned_commands(page):
        if words[0] == "make":
            assert words[1] in make_targets(), words
        else:
            parse(words[1:])


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=by_name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in links(page):
        assert target.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {target}#{anchor}"


def test_every_command_is_on_a_page() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in COMMANDS if f"farense {name}" not in text] == []


def arguments(words: tuple[str, ...]) -> list[str]:
    if words == ("watch",):  # the job it would choose may be one that starts tonight
        words = ("watch", "JOB")
    return [STANDS_FOR.get(word, word) for word in words if word not in ENDLESS]


def make_targets() -> set[str]:
    text = (REPOSITORY / "Makefile").read_text()
    return set(re.findall(r"^([a-z]+):", text, re.MULTILINE))


def parse(words: tuple[str, ...]) -> None:
    """Let Click read a command without running it: names and options have to exist."""
    group: click.Command = command_group
    rest = [word for word in words if word not in ("...", "…")]
    with click.Context(group, info_name="farense") as context:
        while isinstance(group, click.Group) and rest and not rest[0].startswith("-"):
            found = group.get_command(context, rest[0])
            if found is None and group is not command_group:
                break  # a group that takes an argument of its own
            assert found is not None, f"there is no command {' '.join(words)}"
            group, rest = found, rest[1:]
        # In passing, a command may be named without all it needs.
        context = click.Context(group, info_name=words[0], resilient_parsing=True)
        parser = group.make_parser(context)
        parser.parse_args(args=[word for word in rest if not word.isupper()])


def run_daemon(
    command: Command, workspace: Workspace, client: FarenseClient, invoke: Run, where: str
) -> None:
    """Run `farense daemon`, which works until it is stopped, in the place of the one that runs."""
    options = list(command.words[2:])
    if options and not options[0].startswith("-"):
        shown = ["--print"] if options[0] == "install" else []
        done = invoke("daemon", *options, *shown)
        assert done.code == 0, f"{where}\n{done.err}"
        return
    assert invoke("daemon", "stop").code == 0
    process = subprocess.Popen(
        [FARENSE, "daemon", *options],
        env=environment(workspace.root),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: daemon_status(workspace).pid == process.pid, where)
    finally:
        assert invoke("daemon", "stop").code == 0
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, f"{where}\n{said}"
    client.ensure_daemon()


def run_python(command: Command, workspace: Workspace, where: str) -> None:
    """Run a program of mlx-lm's; a few tokens show as much as many."""
    words = [sys.executable, *command.words[1:], "--max-tokens", "3"]
    done = subprocess.run(
        words, cwd=workspace.root, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, f"{where}\n{done.stderr}"
    if "--prompt" in command.words:
        # A prompt of another text, or in a chat template, has another number of tokens.
        shown = command.words[command.words.index("--prompt") + 1].replace("\\n", "\n")
        question = shown.removeprefix("### Pergunta:\n").removesuffix("\n\n### Resposta:\n")
        asked = Dialogue((Message("user", question),), "")
        model = workspace.root / command.words[command.words.index("--model") + 1]
        expected = len(prompt_tokens(asked, load_tokenizer(model), "farense"))
        assert f"Prompt: {expected} tokens" in done.stdout, f"{where}\n{done.stdout}"
