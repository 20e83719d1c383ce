"""Who is let in, and who may change something: asked of the real server, as a program would."""

from __future__ import annotations

import stat
from collections.abc import Iterator

import pytest

from daemon.page.secret import FILE, Secret
from jobs.paths import Workspace
from tests.helpers.page_process import PageProcess, serving

JOB = "20261122-210000-first-aaaa"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageProcess]:
    """The page of an empty workspace, for all tests here."""
    with serving(Workspace(tmp_path_factory.mktemp("workspace"))) as page:
        yield page


PATHS = (
    *("/", "/sweeps", "/machines", "/new", f"/job/{JOB}", f"/sweep/{JOB}", "/static/app.js"),
    *("/static/page.css", "/events?topic=now", "/api/start", "/api/presets/v2", "/nowhere"),
    *(f"/api/jobs/{JOB}/{part}" for part in ("metrics", "settings", "evaluation", "log")),
)
POSTS = ("/api/check", "/api/enqueue", f"/api/jobs/{JOB}/cancel")


@pytest.mark.parametrize("cookie", [None, "other=1", "farense_00000000=0", "farense"])
def test_without_the_token_nothing_is_shown(page: PageProcess, cookie: str | None) -> None:
    for path in PATHS:
        reply = page.ask(path, cookie=cookie)
        assert (path, reply.status) == (path, 401)
        assert b"farense ui" in reply.body
    for path in POSTS:
        assert page.ask(path, "POST", {}, cookie=cookie).status == 401


def test_the_link_opens_the_page_and_the_token_leaves_the_address(page: PageProcess) -> None:
    reply = page.ask(page.link.removeprefix(page.base), cookie=None)
    assert reply.status == 200
    cookie = reply.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert page.secret.token not in cookie
    assert b"url=/" in reply.body and page.secret.token.encode() not in reply.body
    assert page.ask("/", cookie=cookie.partition(";")[0]).status == 200


@pytest.mark.parametrize("token", ["", "x", "é", "0" * 43])
def test_another_token_opens_nothing(page: PageProcess, token: str) -> None:
    from urllib.parse import quote

    reply = page.ask(f"/login?token={quote(token)}", cookie=None)
    assert reply.status == 403 and "set-cookie" not in reply.headers


def test_a_site_whose_name_points_here_is_shut_out(page: PageProcess) -> None:
    for host in ("evil.example", f"evil.example:{page.port}", "10.0.0.7", ""):
        assert page.ask("/", host=host).status == 400
    for host in ("127.0.0.1", f"localhost:{page.port}", "[::1]:1"):
        assert page.ask("/", host=host).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": None}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"x_farense_change": None}, 403),
        ({"x_farense_change": "0" * 64}, 403),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_a_change_comes_from_this_page_alone(
    page: PageProcess, headers: dict[str, str | None], status: int
) -> None:
    for path in POSTS:
        assert page.ask(path, "POST", {}, **headers).status == status
    assert page.ask("/api/check", "POST", {}).json["problems"]  # only the form itself is wrong


def test_a_change_is_never_a_get(page: PageProcess) -> None:
    for path in POSTS:
        assert page.ask(path).status == 405


def test_every_answer_keeps_strangers_out_of_the_page(page: PageProcess) -> None:
    for reply in (page.ask("/"), page.ask("/", cookie=None), page.ask("/api/start")):
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert "server" not in reply.headers


def test_no_file_outside_the_pages_own_is_served(page: PageProcess) -> None:
    for path in (
        "../app.py",
        "%2e%2e/app.py",
        "../../../pyproject.toml",
        "index.html",
        "/etc/passwd",
    ):
        assert page.ask(f"/static/{path}").status == 404


def test_a_large_change_is_refused(page: PageProcess) -> None:
    assert page.ask("/api/check", "POST", {"name": "x" * 300_000}).status == 413


def test_the_token_is_the_users_alone_and_outlives_the_server(workspace: Workspace) -> None:
    with serving(workspace) as page:
        first = page.secret.token
    file = workspace.private / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Secret.of(workspace).token == first
    assert Secret.of(workspace, anew=True).token != first


def test_a_damaged_token_is_made_anew(workspace: Workspace) -> None:
    Secret.of(workspace)
    (workspace.private / FILE).write_text("short")
    assert len(Secret.of(workspace).token) == 43


def test_the_server_ends_when_it_is_told_although_a_page_follows(workspace: Workspace) -> None:
    with serving(workspace) as page:
        stream = page.events("now")
        next(stream)
        assert page.stop() == 0
