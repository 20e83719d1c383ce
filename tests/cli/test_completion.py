"""What a shell completes, asked as bash, zsh and fish ask: by a process, and variables."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from cli.completion import SETTINGS
from jobs.config.config import setting_names
from jobs.paths import Workspace
from jobs.state import State
from jobs.storage.files import write_json
from tests.cli.conftest import FARENSE, Run, environment
from tests.cli.test_startup import HEAVY
from tests.helpers.ended import job_id, put_job


@pytest.fixture
def jobs(workspace: Workspace) -> Workspace:
    """A completed, a queued and a paused job, in the files alone; the queued one has a name."""
    put_job(workspace, 1)
    put_job(workspace, 2, State.QUEUED, attempt=0)
    put_job(workspace, 3, State.PAUSED)
    spec = json.loads(workspace.run(job_id(2)).job.read_bytes())
    write_json(workspace.run(job_id(2)).job, {**spec, "name": "slower"})
    return workspace


def ask(farense: Run, shell: str, line: str) -> list[str]:
    """Return what a shell is told for a line whose last word is incomplete, line by line."""
    words = line.split(" ")
    variables = {"_FARENSE_COMPLETE": f"{shell}_complete", "COMP_WORDS": line}
    # fish gives the word itself, the others its place.
    place = words[-1] if shell == "fish" else str(len(words) - 1)
    done = farense(**variables, COMP_CWORD=place)
    assert (done.code, done.err) == (0, "")
    return done.out.split("\n")[:-1] if done.out.strip() else []


def values(farense: Run, line: str) -> list[str]:
    return [told.partition(",")[2] for told in ask(farense, "bash", line)]


def test_commands_and_options(farense: Run, workspace: Workspace) -> None:
    assert values(farense, "farense re") == ["report", "resume", "retry"]
    assert values(farense, "farense config s") == ["show"]
    assert values(farense, "farense enqueue v2 --pri") == ["--priority"]
    assert "configs/sweeps/overnight.yaml" in values(farense, "farense sweep ")
    assert "status" in values(farense, "farense sweep ")


def test_presets_and_settings(farense: Run, workspace: Workspace) -> None:
    (workspace.configs / "minha.yaml").write_text("preset: v2\n")
    for command in ("enqueue", "config show", "config diff v1", "doctor"):
        assert values(farense, f"farense {command} ") == ["chat", "minha", "quickstart", "v1", "v2"]
    assert values(farense, "farense enqueue v") == ["v1", "v2"]
    assert ask(farense, "bash", "farense enqueue ./m") == ["file,./m"]
    assert values(farense, "farense enqueue v2 --set lora.r") == ["lora.rank=", "lora.rslora="]
    assert values(farense, "farense retry latest --set early") == [
        "early_stopping_patience=", "early_stopping_min_delta="
    ]  # fmt: skip


def test_the_settings_are_those_there_are() -> None:
    assert list(SETTINGS) == setting_names()


def test_jobs_that_a_command_can_use(farense: Run, jobs: Workspace) -> None:
    completed, queued, paused = (job_id(number) for number in (1, 2, 3))
    assert values(farense, "farense status ") == [paused, queued, "slower", completed, "latest"]
    assert values(farense, "farense cancel ") == [paused, queued, "slower", "latest"]
    assert values(farense, f"farense cancel {queued} ") == [paused, "slower", "latest"]
    assert values(farense, "farense resume ") == [paused, "latest"]
    assert values(farense, "farense start ") == [paused, "latest"]
    assert values(farense, "farense retry ") == [completed, "latest"]
    assert values(farense, "farense enqueue v2 --after ") == [paused, queued, "slower", "latest"]
    assert values(farense, "farense logs slo") == ["slower"]
    assert values(farense, f"farense logs {queued[9:]}") == [queued]
    assert values(farense, "farense logs nothing") == []
    assert not jobs.private.exists()  # no server was started


def test_zsh_and_fish_are_told_more(farense: Run, jobs: Workspace) -> None:
    assert ask(farense, "zsh", "farense resume 2") == ["plain", job_id(3), "paused"]
    assert f"plain,{job_id(2)}\tqueued slower" in ask(farense, "fish", "farense cancel ")


def test_damaged_files_and_an_empty_workspace_are_no_matter(farense: Run, jobs: Workspace) -> None:
    jobs.run(job_id(2)).state.write_bytes(b"\x80\x04")
    jobs.run(job_id(3)).job.write_text("[]")
    assert values(farense, "farense status ") == [job_id(1), "latest"]
    shutil.rmtree(jobs.runs)
    assert values(farense, "farense status ") == []


def test_a_real_bash_completes(jobs: Workspace) -> None:
    script = (
        "source <(_FARENSE_COMPLETE=bash_source farense)\n"
        "COMP_WORDS=(farense resume 2) COMP_CWORD=2\n"
        '_farense_completion farense && printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    bash = shutil.which("bash")
    assert bash is not None
    variables = environment(jobs.root)
    variables["PATH"] = f"{FARENSE.parent}:{variables['PATH']}"
    done = subprocess.run(
        [bash, "--norc", "-c", script], env=variables, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [job_id(3)]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(farense: Run, workspace: Workspace, shell: str) -> None:
    done = farense(_FARENSE_COMPLETE=f"{shell}_source")
    assert (done.code, done.err) == (0, "")
    assert f"{shell}_complete" in done.out


@pytest.mark.parametrize("line", ["farense ", "farense cancel ", "farense enqueue v2 --set l"])
def test_completion_loads_nothing_heavy(jobs: Workspace, line: str) -> None:
    program = (
        "import sys\n"
        "from cli.main import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    sys.stderr.write(' '.join({name.partition('.')[0] for name in sys.modules}))"
    )
    variables = {"_FARENSE_COMPLETE": "bash_complete", "COMP_WORDS": line}
    place = str(len(line.split(" ")) - 1)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(jobs.root, **variables, COMP_CWORD=place),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip()
    assert not set(done.stderr.split()) & (HEAVY | {"redis"})
