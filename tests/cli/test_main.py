"""The command as a whole: help, start-up cost, exit codes, what becomes of errors."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli.main import COMMANDS, FarenseGroup
from cli.main import farense as command_line
from cli.reader_gone import READER_GONE
from jobs.errors import DiskFull, Diverged, FarenseError, InvalidInput, QueueUnreachable
from tests.cli.conftest import FARENSE, Run, environment
from tests.helpers.processes import without_reader

FROM_FILES = (
    "Warning: The queue of this workspace is not running. Read from the run directories instead.\n"
)


def walk(command: click.Command, path: str = "farense") -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from walk(found, f"{path} {name}")


def test_help_names_every_command_and_says_what_it_does(farense: Run) -> None:
    done = farense("--help")
    assert done.code == 0
    assert done.err == ""
    for name, (_, text) in COMMANDS.items():
        assert any(line.split() == [name, *text.split()] for line in done.out.splitlines())


def test_the_table_of_commands_says_what_the_commands_say() -> None:
    context = click.Context(command_line)
    for name, (_, text) in COMMANDS.items():
        command = command_line.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.get_short_help_str(200) == text


@pytest.mark.parametrize(
    ("path", "command"), [pytest.param(*found, id=found[0]) for found in walk(command_line)]
)
def test_every_command_explains_itself_with_an_example(path: str, command: click.Command) -> None:
    assert command.help
    assert path in command.help
    assert CliRunner().invoke(command, ["--help"]).exit_code == 0


def test_version(farense: Run) -> None:
    done = farense("--version")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("farense, version ")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("statsu", "status"), ("enque", "enqueue"), ("quikstart", "quickstart"), ("deamon", "daemon")],
)
def test_a_misspelled_command_suggests_the_one_meant(farense: Run, typed: str, meant: str) -> None:
    done = farense(typed)
    assert done.code == 2
    assert done.out == ""
    assert f"No such command '{typed}'" in done.err
    assert f"Did you mean {meant}?" in done.err


def test_a_misspelled_subcommand_suggests_too(farense: Run) -> None:
    done = farense("config", "dif", "v1", "v2")
    assert done.code == 2
    assert "Did you mean diff?" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["enqueue", "v2", "--naem", "x"], "No such option '--naem'. Did you mean --name?"),
        (["--debgu", "status"], "No such option '--debgu'. Did you mean --debug?"),
        (["queue", "tpo", "latest"], "No such command 'tpo'. Did you mean top?"),
        (["sweep", "stauts"], "No such command 'stauts'. Did you mean status?"),
        (["re"], "No such command 're'. Did you mean report, resume or retry?"),
    ],
)
def test_options_and_subcommands_suggest_too(invoke: Run, arguments: list[str], said: str) -> None:
    done = invoke(*arguments)
    assert done.code == 2
    assert said in " ".join(done.err.split())


@pytest.mark.parametrize("typed", ["run", "train", "import", "ls", "delete", "x"])
def test_nothing_is_suggested_where_nothing_is_near(invoke: Run, typed: str) -> None:
    done = invoke(typed)
    assert (done.code, done.out) == (2, "")
    assert f"No such command '{typed}'." in done.err
    assert "Did you mean" not in done.err


@pytest.mark.parametrize(
    "arguments", [["--nonsense"], ["enqueue"], ["cancel"], ["config", "show"], ["status", "--x"]]
)
def test_wrong_use_ends_with_2_and_a_usage_line(farense: Run, arguments: list[str]) -> None:
    done = farense(*arguments)
    assert done.code == 2
    assert "Usage:" in done.err
    assert done.out == ""


def group_that_raises(error: BaseException) -> click.Group:
    """A `farense` whose only command raises: the boundary is the real one."""

    class Raising(FarenseGroup):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
            def fail() -> None:
                raise error

            return click.Command("status", callback=fail)

    return Raising("farense", params=[click.Option(["--debug"], is_flag=True)])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FarenseError("it broke", "mend it"), 1),
        (InvalidInput("it broke", "mend it"), 2),
        (QueueUnreachable("it broke", "mend it"), 3),
        # A training child has more codes than a command.
        (DiskFull("it broke", "mend it"), 1),
        (Diverged("it broke", "mend it"), 1),
    ],
)
def test_an_error_becomes_a_message_a_hint_and_its_exit_code(
    error: FarenseError, code: int
) -> None:
    done = CliRunner().invoke(group_that_raises(error), ["status"])
    assert done.exit_code == code
    assert done.stdout == ""
    assert done.stderr == "Error: it broke\nHint: mend it\n"


def test_a_fault_of_ours_is_one_line_and_a_way_to_see_more() -> None:
    done = CliRunner().invoke(group_that_raises(RuntimeError("two\nlines")), ["status"])
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: internal error: RuntimeError: two lines\n")
    assert "farense --debug" in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize("error", [RuntimeError("broke"), InvalidInput("broke")])
def test_debug_lets_the_traceback_through(error: Exception) -> None:
    done = CliRunner().invoke(group_that_raises(error), ["--debug", "status"])
    assert "Traceback" in done.stderr
    assert "in fail" in done.stderr
    assert done.exit_code == (2 if isinstance(error, InvalidInput) else 1)


def test_ctrl_c_is_quiet() -> None:
    done = CliRunner().invoke(group_that_raises(KeyboardInterrupt()), ["status"])
    assert done.exit_code == 130
    assert done.output == ""


def test_an_unreadable_file_is_named_and_no_fault_of_ours() -> None:
    error = PermissionError(13, "Permission denied", "/some/where")
    done = CliRunner().invoke(group_that_raises(error), ["status"])
    assert done.exit_code == 1
    assert done.stderr == "Error: /some/where: Permission denied.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["enqueue", "--help"],
        ["config", "show", "v2"],
        ["config", "diff", "v1", "v2"],
        ["config", "show", "v2", "--json"],
        ["daemon", "status"],
        ["model", "list", "--json"],
        ["status", "--json"],
    ],
    ids=" ".join,
)
def test_a_reader_that_goes_away_ends_a_command_as_a_shell_expects(
    arguments: list[str], tmp_path: Path
) -> None:
    done = without_reader([FARENSE, *arguments], environment(tmp_path))
    assert (done.returncode, done.stderr.replace(FROM_FILES, "")) == (READER_GONE, "")


def test_a_reader_that_goes_away_gets_no_complaint_on_stderr_either(tmp_path: Path) -> None:
    done = without_reader([FARENSE, "status"], environment(tmp_path), subprocess.STDOUT)
    assert done.returncode == READER_GONE


def test_a_broken_pipe_to_something_else_is_an_error() -> None:
    done = CliRunner().invoke(group_that_raises(BrokenPipeError(32, "Broken pipe")), ["status"])
    assert done.exit_code == 1
    assert "BrokenPipeError" in done.stderr


def test_a_terminal_without_accents_gets_question_marks(farense: Run) -> None:
    done = farense("config", "diff", "v1", "nada_é", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert done.code == 2
    assert "There is no preset" in done.err
    assert "Traceback" not in done.err
