"""The server: tools by the official package of the protocol, over standard input and output.

While it serves, the package keeps the real standard output for itself and turns everything else
that is printed to standard error.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec

import anyio
from anyio.to_thread import run_sync
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from daemon.agents.budget import Limits
from daemon.agents.toolbox import Toolbox, Values
from daemon.store.records import JobRecord
from jobs.errors import FarenseError
from jobs.paths import Workspace

Given = ParamSpec("Given")

FOLLOW_SECONDS = 0.5
LONGEST_FOLLOW = 3600.0
INSTRUCTIONS = """\
farense queues QLoRA fine-tuning jobs on this machine and measures them honestly. `presets` shows \
what can be trained and with which settings, `check_data` what a data file holds, `enqueue` queues \
a training (only where the person allowed it, within a budget), `follow` waits for its end, \
`metrics` gives its curves, `compare` says which of two runs to use, and why. Losses are nats per \
token; scores go from 0 to 1. Paths are relative to the workspace; nothing outside it can be named.\
"""
READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
QUEUES = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
)

Job = Annotated[
    str, Field(description="An id, a unique part of one, a name, or `latest`: the newest training.")
]
Settings = Annotated[
    dict[str, Any] | None,
    Field(description='Settings to change, by their dotted names: {"lora.rank": 8}.'),
]


def serve(workspace: Workspace, limits: Limits | None) -> None:
    """Serve an agent on standard input and output, until it closes them.

    Args:
        limits: what the agent may queue; None: it may only look.
    """
    server_of(Toolbox(workspace, limits)).run("stdio")


def server_of(toolbox: Toolbox) -> MCPServer[Any]:
    """Return a server whose tools are those of a toolbox."""
    server: MCPServer[Any] = MCPServer("farense", instructions=INSTRUCTIONS, log_level="WARNING")
    _add_readers(server, toolbox)
    _add_enqueue(server, toolbox)
    _add_follow(server, toolbox)
    return server


def told(tool: Callable[Given, Values]) -> Callable[Given, Values]:
    """Return a tool whose errors the agent is told: the message, and what to do."""

    @functools.wraps(tool)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Values:
        try:
            return tool(*args, **kwargs)
        except FarenseError as error:
            raise tool_error(error) from error
        except OSError as error:
            raise ToolError(f"{error.filename or 'a file'}: {error.strerror or error}.") from error

    return run


def tool_error(error: FarenseError) -> ToolError:
    """Return an error of farense as one of a tool."""
    hint = f"\nHint: {error.hint}" if error.hint else ""
    return ToolError(f"{error.message}{hint}")


def _add_readers(server: MCPServer[Any], toolbox: Toolbox) -> None:
    @server.tool(annotations=READS)
    @told
    def presets(
        name: Annotated[str | None, Field(description="A preset; left out: all of them.")] = None,
        settings: Settings = None,
    ) -> Values:
        """List the presets, or show one with each setting: its value, what it means, and why."""
        return toolbox.presets(name, settings)

    @server.tool(annotations=READS)
    @told
    def check_data(
        train: Annotated[str, Field(description="A JSON Lines file of the workspace.")],
        valid: Annotated[
            str | None, Field(description="The validation file beside it, or a share: 10%.")
        ] = None,
    ) -> Values:
        """Report what a data file holds: bad lines, duplicates, leakage, lengths in characters."""
        return toolbox.check_data(train, valid)

    @server.tool(annotations=READS)
    @told
    def status(
        job: Annotated[str | None, Field(description="A job; left out: all at a glance.")] = None,
    ) -> Values:
        """Show the newest jobs and all unfinished ones, or one job in full; and what holds them."""
        return toolbox.status(job)

    @server.tool(annotations=READS)
    @told
    def metrics(
        job: Job,
        most_rows: Annotated[int, Field(description="Thinned to so many.", ge=2, le=500)] = 100,
    ) -> Values:
        """Return the measured rows of a job: loss, validation loss, gap, learning rate by step."""
        return toolbox.metrics(job, most_rows)

    @server.tool(annotations=READS)
    @told
    def compare(a: Job, b: Job) -> Values:
        """Compare run B with run A: which to use and why, scores with their 95% intervals."""
        return toolbox.compare(a, b)

    @server.tool(annotations=READS)
    @told
    def sweeps(
        sweep: Annotated[
            str | None, Field(description="An id, a part of one, `latest`; left out: all.")
        ] = None,
    ) -> Values:
        """List the sweeps, or show how one stands, with its leaderboard."""
        return toolbox.sweeps(sweep)


def _add_enqueue(server: MCPServer[Any], toolbox: Toolbox) -> None:
    @server.tool(annotations=QUEUES)
    @told
    def enqueue(
        preset: Annotated[str, Field(description="The name of a preset.")],
        settings: Settings = None,
        name: Annotated[str | None, Field(description="What to call the job.")] = None,
        max_hours: Annotated[
            float | None,
            Field(description="The most hours that it may train; counts against the budget.", gt=0),
        ] = None,
        evaluate: Annotated[
            bool, Field(description="Also score the answers of its best adapter, as a second job.")
        ] = False,
    ) -> Values:
        """Queue a training, after the same checks as the command. Needs --allow-enqueue."""
        return toolbox.enqueue(preset, settings, name, max_hours, evaluate=evaluate)


def _add_follow(server: MCPServer[Any], toolbox: Toolbox) -> None:
    @server.tool(annotations=READS)
    async def follow(
        job: Job,
        ctx: Context[Any, Any],
        timeout_seconds: Annotated[
            float, Field(description="How long to wait at the most.", gt=0, le=LONGEST_FOLLOW)
        ] = 600.0,
    ) -> Values:
        """Wait until a job has ended, telling of its progress; `ended` says whether it has."""
        deadline = time.monotonic() + timeout_seconds
        try:
            record = await run_sync(toolbox.job, job)
            said: tuple[Any, ...] = ()
            while True:
                if (now := _progress(record)) != said:
                    await ctx.report_progress(*now)
                    said = now
                if record.finished or time.monotonic() >= deadline:
                    return await run_sync(toolbox.followed, record)
                await anyio.sleep(FOLLOW_SECONDS)
                record = await run_sync(toolbox.job, record.id)
        except FarenseError as error:
            raise tool_error(error) from error


def _progress(record: JobRecord) -> tuple[float, float | None, str]:
    """Return the steps done, how many there are, and how the job stands in words."""
    loss = "" if record.loss is None else f", loss {record.loss:.4f}"
    total = None if record.total_steps is None else float(record.total_steps)
    return float(record.step), total, f"{record.id} is {record.state}{loss}"
