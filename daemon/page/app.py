"""The routes of the page: its files, what it reads, what it follows, what it changes."""

from __future__ import annotations

import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from daemon.page import changes, fields
from daemon.page.guard import LOGIN, Application, Guard
from daemon.page.job_view import evaluation_view, settings_view
from daemon.page.live import Live
from daemon.page.metrics import rows_after
from daemon.page.secret import Secret
from daemon.page.source import PageSource
from daemon.page.topics import TOPIC, Topics
from jobs.errors import FarenseError, InvalidInput, QueueUnreachable, UnknownJob
from jobs.paths import Workspace
from jobs.storage.files import plain
from jobs.storage.values import printable

STATIC = Path(__file__).parent / "static"
INDEX = STATIC / "index.html"
# The views of the page: all are the same file, whose script reads the address.
VIEWS = ("/", "/sweeps", "/machines", "/new", "/job/{id}", "/sweep/{id}")
LARGEST_BODY = 256 * 1024
# A page follows a few topics; that many pages at once nobody has open.
MOST_TOPICS, MOST_FOLLOWED = 8, 256
SIGNED_IN = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>farense</title>
<link rel="icon" href="data:,">
<meta http-equiv="refresh" content="0;url=/"></head>
<body><p><a href="/">Go on to the page</a></p></body></html>
"""
WRONG_LINK = (
    "This link does not hold the token of this page. The one that `farense ui` prints does."
)
# The year that a browser remembers the person who opened the link.
REMEMBERED_SECONDS = 365 * 86_400

Found = TypeVar("Found")
Endpoint = Callable[[Request], Awaitable[Response]]


class PageRoutes:
    """What the page answers, each route a method.

    Args:
        secret: returns what has to be known now.
        source: where jobs are read and changed.
        live: what open pages follow.
    """

    def __init__(
        self,
        workspace: Workspace,
        secret: Callable[[], Secret],
        source: PageSource,
        live: Live,
    ) -> None:
        self._workspace, self._secret = workspace, secret
        self._source, self._live = source, live
        self._files = {
            path.relative_to(STATIC).as_posix(): path
            for path in STATIC.rglob("*")
            if path.is_file() and path != INDEX
        }

    def routes(self) -> list[Route]:
        """Return all of them."""
        reads: dict[str, Endpoint] = {
            LOGIN: self._login,
            "/static/{name:path}": self._file,
            "/events": self._events,
            "/api/start": self._start,
            "/api/presets/{name}": self._preset,
            "/api/jobs/{id}/metrics": self._metrics,
            "/api/jobs/{id}/settings": self._settings,
            "/api/jobs/{id}/evaluation": self._evaluation,
            "/api/jobs/{id}/log": self._log,
        }
        posts: dict[str, Endpoint] = {
            "/api/check": self._check,
            "/api/enqueue": self._enqueue,
            "/api/jobs/{id}/{action}": self._change,
        }
        return [
            *(Route(path, self._index, methods=["GET"]) for path in VIEWS),
            *(Route(path, answered(end), methods=["GET"]) for path, end in reads.items()),
            *(Route(path, answered(end), methods=["POST"]) for path, end in posts.items()),
        ]

    async def _index(self, request: Request) -> Response:
        return FileResponse(INDEX, media_type="text/html; charset=utf-8")

    async def _login(self, request: Request) -> Response:
        secret = self._secret()
        if not secret.opens(request.query_params.get("token", "")):
            return PlainTextResponse(WRONG_LINK + "\n", 403)
        # Not a redirect: a browser that came from another site would not send the cookie along.
        response = Response(SIGNED_IN, media_type="text/html; charset=utf-8")
        response.set_cookie(
            secret.cookie_name,
            secret.cookie,
            max_age=REMEMBERED_SECONDS,
            httponly=True,
            samesite="strict",
        )
        return response

    async def _file(self, request: Request) -> Response:
        path = self._files.get(request.path_params["name"])
        if path is None:
            return PlainTextResponse("There is no such file.\n", 404)
        kind = mimetypes.guess_type(path.name)[0] or "text/plain"
        kept = {"cache-control": "no-cache"}
        return FileResponse(path, media_type=f"{kind}; charset=utf-8", headers=kept)

    async def _events(self, request: Request) -> Response:
        topics = list(dict.fromkeys(request.query_params.getlist("topic")))
        if not 0 < len(topics) <= MOST_TOPICS or not all(map(TOPIC.fullmatch, topics)):
            return PlainTextResponse("There is no such topic.\n", 400)
        if self._live.pages > MOST_FOLLOWED:
            return PlainTextResponse("Too many pages are open.\n", 503)
        return StreamingResponse(self._followed(topics), media_type="text/event-stream")

    async def _followed(self, topics: list[str]) -> AsyncIterator[bytes]:
        """Tell of topics for as long as the browser that asked would be let in again."""
        known = self._secret()
        async for event in self._live.follow(topics):
            if self._secret() != known:
                return
            yield event

    async def _start(self, request: Request) -> Response:
        names = await run_in_threadpool(fields.names_of_presets, self._workspace)
        return answer(
            {
                "version": version("farense"),
                "workspace": str(self._workspace.root),
                "change": self._secret().change_word,
                "presets": names,
            }
        )

    async def _preset(self, request: Request) -> Response:
        name = request.path_params["name"]

        def found() -> dict[str, Any]:
            return fields.form_of(fields.preset_from_form(self._workspace, name, {}))

        return answer(await run_in_threadpool(found))

    async def _metrics(self, request: Request) -> Response:
        run, mark = self._workspace.run(request.path_params["id"]), request.query_params.get("mark")
        return answer(await run_in_threadpool(rows_after, run, mark or ""))

    async def _settings(self, request: Request) -> Response:
        job = request.path_params["id"]
        return answer(await run_in_threadpool(settings_view, self._workspace, job))

    async def _evaluation(self, request: Request) -> Response:
        job = request.path_params["id"]

        def found() -> dict[str, Any] | None:
            return self._source.look(lambda reader: evaluation_view(reader, self._workspace, job))

        return answer(await run_in_threadpool(found))

    async def _log(self, request: Request) -> Response:
        from jobs.console import Console  # noqa: PLC0415 - only this needs a whole log

        job = self._workspace.run(request.path_params["id"]).job_id

        def found() -> str:
            console = Console()
            events = self._source.look(lambda reader: list(reader.follow(job, follow=False)))
            return "\n".join(line for event in events for line in console.lines(event)) + "\n"

        return PlainTextResponse(await run_in_threadpool(found))

    async def _check(self, request: Request) -> Response:
        given = await body_of(request)
        return answer(await run_in_threadpool(changes.check_form, self._workspace, given))

    async def _enqueue(self, request: Request) -> Response:
        given = await body_of(request)
        return answer(await run_in_threadpool(changes.enqueue_form, self._source, given))

    async def _change(self, request: Request) -> Response:
        job, action = request.path_params["id"], request.path_params["action"]
        given = await body_of(request)
        said = await run_in_threadpool(changes.change_job, self._source, job, action, given)
        return answer({"said": said})


def application(
    workspace: Workspace, secret: Callable[[], Secret], live: Live, source: PageSource, **guard: Any
) -> Application:
    """Return the page as an application behind its guard.

    Args:
        guard: see :class:`daemon.page.guard.Guard`.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        source.close()

    routes = PageRoutes(workspace, secret, source, live).routes()
    inner = Starlette(routes=routes, lifespan=lifespan, max_body_size=LARGEST_BODY)
    return Guard(inner, secret, **guard)


def page_of(
    workspace: Workspace, secret: Callable[[], Secret], **guard: Any
) -> tuple[Application, Live]:
    """Return the page of a workspace, and what its open pages follow."""
    source = PageSource(workspace)
    live = Live(Topics(source).see)
    return application(workspace, secret, live, source, **guard), live


def answer(value: Any, status: int = 200) -> Response:
    """Return a value as JSON."""
    return Response(orjson.dumps(plain(value)), status, media_type="application/json")


async def body_of(request: Request) -> dict[str, Any]:
    """Return the object that a change holds.

    Raises:
        InvalidInput: it holds none.
    """
    try:
        found = orjson.loads(await request.body() or b"{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InvalidInput("A change is a JSON object.")
    return found


def answered(end: Endpoint) -> Endpoint:
    """Return an endpoint whose errors are answers that a person can act on."""

    async def endpoint(request: Request) -> Response:
        try:
            return await end(request)
        except changes.Refused as refused:
            # An answer as good as another: a browser writes other statuses on its console.
            return answer({"problems": refused.problems.as_dict()})
        except FarenseError as error:
            status = 404 if isinstance(error, UnknownJob) else 409
            if isinstance(error, QueueUnreachable):
                status = 503
            hint = error.hint and printable(error.hint, keep="\n")
            return answer({"error": printable(error.message, keep="\n"), "hint": hint}, status)

    return endpoint
