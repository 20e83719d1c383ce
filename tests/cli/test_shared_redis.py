"""A shared Redis with a password: the whole way of a job, and where the password does not show."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.client import FarenseClient
from jobs.paths import Workspace
from tests.cli.conftest import Outcome, Run, under_way
from tests.helpers.compose import FILE, ComposeServer, free_port
from tests.helpers.jobs import ended
from tests.helpers.processes import PROC, command_lines
from tests.helpers.required import required
from tests.helpers.servers import Daemons
from tests.helpers.waiting import wait_until

PASSWORD = "correcthorsebatterystaple"  # noqa: S105 - of servers that end with their test
pytestmark = pytest.mark.usefixtures("preset")


def documented(scheme: str, **values: object) -> str:
    """Return the URL of a scheme that docker-compose.yml shows, filled in."""
    found: set[str] = set(re.findall(rf"\b{scheme}://:[^\s']+", FILE.read_text()))
    (url,) = found
    for name, value in values.items():
        assert name in url
        url = url.replace(name, str(value))
    return url


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ComposeServer]:
    """A server that docker-compose.yml starts."""
    server = ComposeServer(tmp_path / "plain", required("redis-server"), PASSWORD)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def plain(server: ComposeServer) -> str:
    """Its URL."""
    url = documented("redis", PASSWORD=PASSWORD, HOST="127.0.0.1")
    return url.replace(":6379", f":{server.port}")


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[str]:
    """The URL of one that speaks TLS, with a certificate of a CA of our own."""
    certificate, key, ca = certificates(tmp_path / "certificates")
    port = free_port()
    server = ComposeServer(
        tmp_path / "encrypted",
        required("redis-server"),
        PASSWORD,
        *("--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"),
        *("--tls-cert-file", str(certificate), "--tls-key-file", str(key)),
        port=port,
    )
    server.start()
    url = documented("rediss", PASSWORD=PASSWORD, HOST="localhost", **{"/path/to/ca.pem": ca})
    yield url.replace(":6379", f":{port}")
    server.kill()


def certificates(folder: Path) -> tuple[Path, Path, Path]:
    """Make a CA and a certificate for `localhost`; return certificate, key and CA."""
    folder.mkdir()
    openssl = str(required("openssl"))
    sign = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
    new_key = ("-newkey", "rsa:2048", "-nodes")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    for arguments in (
        ("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=a CA"),
        ("req", *new_key, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=localhost"),
        ("x509", "-req", *sign, "-in", "request.pem", "-out", "certificate.pem"),
    ):
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)
    return folder / "certificate.pem", folder / "key.pem", folder / "ca.pem"


@pytest.mark.parametrize("kind", ["plain", "encrypted"])
def test_a_job_goes_its_whole_way(
    request: pytest.FixtureRequest,
    farense: Run,
    workspace: Workspace,
    daemons: Daemons,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    url: str = request.getfixturevalue(kind)
    monkeypatch.setenv("FARENSE_REDIS_URL", url)
    daemons.start()
    done = farense("enqueue", "tiny", "--watch", FARENSE_REDIS_URL=url)
    assert done.code == 0, done.err
    record = json.loads(farense("status", "latest", "--json", FARENSE_REDIS_URL=url).out)
    assert (record["state"], record["step"], record["attempt"]) == ("completed", 20, 1)
    # The workspace's own server was not wanted.
    assert not (workspace.private / "valkey.sock").exists()


def test_an_unknown_ca_is_a_clear_error(invoke: Run, encrypted: str, tmp_path: Path) -> None:
    unknown = invoke("queue", "top", "latest", FARENSE_REDIS_URL=encrypted.partition("?")[0])
    assert unknown.code == 3
    assert "?ssl_ca_certs=" in unknown.err
    missing = re.sub(r"=.*", f"={tmp_path}/none.pem", encrypted)
    done = invoke("queue", "top", "latest", FARENSE_REDIS_URL=missing)
    assert (done.code, f"{tmp_path}/none.pem" in done.err) == (2, True)


def test_the_password_shows_nowhere(
    invoke: Run,
    workspace: Workspace,
    daemons: Daemons,
    monkeypatch: pytest.MonkeyPatch,
    server: ComposeServer,
    plain: str,
) -> None:
    monkeypatch.setenv("FARENSE_REDIS_URL", plain)
    daemons.start("endless")

    def say(*arguments: str, url: str = plain) -> Outcome:
        return invoke(*arguments, FARENSE_REDIS_URL=url)

    said = [say("enqueue", "tiny")]
    with FarenseClient.connect(workspace) as client:
        job = under_way(client, client.job("latest").id)
        assert PASSWORD not in "".join(command_lines())
        if PROC.exists():
            assert PASSWORD.encode() not in (PROC / str(job.pid) / "environ").read_bytes()
        wrong = plain.replace(PASSWORD, f"{PASSWORD}wrong")
        said += [
            say("status", "latest", "--json"),
            say("logs", "latest"),
            say("workers"),
            say("queue"),
            say("daemon", "status"),
            say("doctor", "tiny"),
            say("daemon", "install", "--print"),
            say("status", url=wrong),
            say("--debug", "cancel", "latest", url=wrong),
            say("--debug", "cancel", "latest", url=plain.replace("127.0.0.1", "no.such.host")),
            say("cancel", "latest"),
        ]
        ended(client, job.id)
    server.kill()
    wait_until(lambda: b"is away" in workspace.daemon_log.read_bytes(), "a line about it")
    said.append(say("cancel", "latest"))
    assert all(outcome.out + outcome.err for outcome in said)
    assert [outcome for outcome in said if PASSWORD in outcome.out + outcome.err] == []
    files = [path for path in workspace.root.rglob("*") if path.is_file()]
    assert workspace.daemon_log in files
    assert [path for path in files if PASSWORD.encode() in path.read_bytes()] == []
