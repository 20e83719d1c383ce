"""docker-compose.yml: its form, and its own command run on real servers."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from redis.exceptions import AuthenticationError

from daemon.client import FarenseClient
from daemon.queue.embedded_server import server_binary
from daemon.store import keys
from jobs.config.config import Preset
from jobs.errors import QueueUnreachable
from jobs.paths import REPOSITORY, Workspace
from jobs.state import DEFAULT_QUEUE
from tests.helpers.compose import FILE, ComposeServer, Unset, service, substituted
from tests.helpers.processes import command_lines
from tests.helpers.required import REQUIRE, required

PASSWORD = "0123456789abcdef" * 4


def redis_server() -> Path:
    return required("redis-server")


@pytest.fixture(params=[redis_server, server_binary], ids=["redis", "valkey"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ComposeServer]:
    """The server of the file, running."""
    find: Callable[[], Path] = request.param
    server = ComposeServer(tmp_path / "compose", find(), PASSWORD)
    server.start()
    yield server
    server.kill()


def test_the_file_fits_the_published_schema() -> None:
    check = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec")
    done = subprocess.run([*check, str(FILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_variables_are_filled_in_as_compose_does() -> None:
    text = "$$HOME ${A} ${B:-b} ${C:-}."
    assert substituted(text, {}) == "$HOME  b ."
    assert substituted(text, {"A": "1", "B": "", "C": "3"}) == "$HOME 1 b 3."


def test_without_a_password_nothing_starts() -> None:
    example = (REPOSITORY / ".env.example").read_text()
    copied = dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))
    assert set(copied) == {"FARENSE_REDIS_PASSWORD", "FARENSE_REDIS_BIND"}
    for variables in ({}, copied):
        with pytest.raises(Unset, match=r"put FARENSE_REDIS_PASSWORD into \.env"):
            service(variables)


def test_it_is_pinned_kept_and_bound_to_this_host_alone() -> None:
    password = {"FARENSE_REDIS_PASSWORD": PASSWORD}
    found = service(password)
    assert re.fullmatch(r"valkey/valkey:\d+\.\d+\.\d+-alpine", found["image"])
    assert found["ports"] == ["127.0.0.1:6379:6379"]
    assert service({**password, "FARENSE_REDIS_BIND": "10.0.0.5"})["ports"] == [
        "10.0.0.5:6379:6379"
    ]
    assert found["volumes"] == ["redis-data:/data"]
    assert found["restart"] == "unless-stopped"


def test_the_server_asks_for_the_password_and_keeps_what_it_accepts(server: ComposeServer) -> None:
    for password in (None, "wrong"):
        with server.client(password) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
    with server.client(PASSWORD) as client:
        settings = cast(dict[str, str], client.config_get())
        wanted = {
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        assert {name: settings[name] for name in wanted} == wanted
    assert list((server.data / "appendonlydir").glob("*.aof"))


def test_the_password_stands_in_no_command_line(server: ComposeServer) -> None:
    assert PASSWORD not in server.service["healthcheck"]["test"]
    assert [line for line in command_lines() if PASSWORD in line] == []
    # Else nothing would have been looked at.
    assert any(str(server.port) in line for line in command_lines())


def test_the_health_check_tells_a_server_that_answers_from_one_that_does_not(
    server: ComposeServer,
) -> None:
    cli = required("redis-cli")
    assert server.healthy(cli)
    assert not server.healthy(cli, REDISCLI_AUTH="wrong")
    server.kill()
    assert not server.healthy(cli)


def test_a_killed_server_has_every_job_it_accepted(
    server: ComposeServer,
    workspace: Workspace,
    preset: Preset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FARENSE_REDIS_URL", server.url)
    with FarenseClient.connect(workspace) as client:
        accepted = [client.enqueue(preset).id for _ in range(5)]
        accepted += [job.id for job in client.enqueue_many([preset] * 20)]
        server.kill()
        with pytest.raises(QueueUnreachable):
            client.enqueue(preset)
        server.start()
        assert [job.id for job in client.jobs()] == accepted[::-1]
        assert [place.record.id for place in client.queue()] == accepted
    with server.client(PASSWORD) as redis:
        assert redis.zcard(f"huey.redis.{keys.queue(DEFAULT_QUEUE)}") == len(accepted)


def test_a_missing_program_is_a_failure_where_it_is_demanded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(REQUIRE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install no-such-program"):
        required("no-such-program")
    monkeypatch.setenv(REQUIRE, "sh,no-such-program")
    with pytest.raises(pytest.fail.Exception, match="apt-get install no-such-program"):
        required("no-such-program")
