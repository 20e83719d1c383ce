"""A server that answers and refuses is named for what it is, by doctor and by an enqueue."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis
from redis._parsers.base import BaseParser
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from daemon.doctor.queue import queue_finding
from daemon.queue.broker import Broker
from daemon.queue.embedded_server import server_binary
from daemon.queue.refusals import refusal
from daemon.settings import Settings
from jobs.errors import QueueUnreachable
from jobs.paths import Workspace
from tests.helpers.compose import free_port
from tests.helpers.waiting import wait_until

# The rules of a user who may look and not write.
READER = (
    "reader",
    "on",
    "nopass",
    "~*",
    "&*",
    "+@read",
    "+ping",
    "+config|get",
    "+info",
    "+client",
)
Start = Callable[..., int]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A function that starts a real server with options of its own and returns its port."""
    with ExitStack() as running:

        def started(*options: str) -> int:
            port = free_port()
            place = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path)]
            process = subprocess.Popen(
                [str(server_binary()), *place, "--save", "", "--logfile", "log", *options],
                cwd=tmp_path,
            )
            running.callback(process.wait)
            running.callback(process.kill)

            def answers() -> bool:
                with Redis(port=port, retry=Retry(NoBackoff(), 0)) as client:
                    try:
                        return bool(client.ping())
                    except RedisError as error:
                        return "refused" not in str(error)

            wait_until(answers, "the server's answer")
            return port

        yield started


def broker(workspace: Workspace, port: int, login: str = "") -> Broker:
    return Broker(workspace, Settings(redis_url=f"redis://{login}127.0.0.1:{port}/0"))


@pytest.mark.parametrize(
    ("options", "login", "fact", "action"),
    [
        (("--replicaof", "127.0.0.1 1"), "", "is a read-only replica", "Name the primary"),
        (("--maxmemory", "1"), "", "has used up its maxmemory", "Raise its maxmemory"),
        (("--requirepass", "secret"), "", "asks for a password", "redis://user:password@"),
        (("--requirepass", "secret"), ":wrong@", "refuses the user or password", "Check FARENSE"),
        (
            (
                "--user",
                *READER,
            ),
            "reader:any@",
            "does not let this user",
            "ACL SETUSER",
        ),
    ],
)
def test_doctor_and_an_enqueue_say_what_the_server_is(
    workspace: Workspace,
    start: Start,
    options: tuple[str, ...],
    login: str,
    fact: str,
    action: str,
) -> None:
    port = start(*options)
    settings = Settings(redis_url=f"redis://{login}127.0.0.1:{port}/0")
    with pytest.raises(QueueUnreachable) as found:
        queue_finding(workspace, settings)
    told = broker(workspace, port, login)
    with pytest.raises(QueueUnreachable) as refused:
        told.check()
        told.check_writable()
    told.close()
    for error in (found.value, refused.value):
        assert fact in error.message
        assert action in (error.hint or "")
        assert "does not answer" not in error.message


def test_what_a_probe_writes_is_gone_at_once(workspace: Workspace, start: Start) -> None:
    port = start("--appendonly", "no")
    told = broker(workspace, port)
    told.check_writable()
    wait_until(lambda: told.redis.dbsize() == 0, "an empty server")
    told.close()


@pytest.mark.parametrize(
    ("reply", "fact"),
    [
        ("LOADING Valkey is loading the dataset in memory", "still reading its data"),
        ("MISCONF Errors writing to the AOF file: No space left on device", "write to its disk"),
        ("MISCONF Valkey is configured to save RDB snapshots, but ...", "write to its disk"),
        ("MASTERDOWN Link with MASTER is down and ...", "lost its primary"),
        ("CLUSTERDOWN The cluster is down", "node of a cluster"),
        ("MOVED 3999 127.0.0.1:6381", "node of a cluster"),
        ("ERR max number of clients reached", "no connection left"),
        ("WRONGPASS invalid username-password pair or user is disabled.", "user or password"),
    ],
)
def test_a_reply_as_the_library_reads_it(reply: str, fact: str) -> None:
    error: Exception = BaseParser.parse_error(reply)  # type: ignore[no-untyped-call]  # the library's own
    found = refusal(error)
    assert found is not None
    assert fact in found[0]


def test_an_error_within_a_pipeline_and_one_that_is_no_refusal() -> None:
    text = "Command # 2 (SET farense:job:x 1) of pipeline caused error: MISCONF Errors writing"
    found = refusal(RedisError(text))
    assert found is not None
    assert "write to its disk" in found[0]
    for error in (RedisError("Connection refused"), OSError("ASK nobody"), RedisError("ERR no")):
        assert refusal(error) is None
