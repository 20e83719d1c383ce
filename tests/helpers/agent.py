"""An agent: the official client of the protocol, which starts ``farense mcp`` and calls tools."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters, stdio_client

from jobs.paths import Workspace

FARENSE = Path(sys.executable).with_name("farense")


class Refused(Exception):
    """A tool has answered with an error; the text is what the agent reads."""


class Agent:
    """A client that is connected.

    Attributes:
        progress: what the server told of the progress of calls: done, of how many, in words.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self.progress: list[tuple[float, float | None, str | None]] = []

    async def tools(self) -> dict[str, Any]:
        """Return the tools by their names."""
        return {tool.name: tool for tool in (await self._client.list_tools()).tools}

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Return what a tool answers.

        Raises:
            Refused: it answers with an error.
        """

        async def note(progress: float, total: float | None, message: str | None) -> None:
            self.progress.append((progress, total, message))

        result = await self._client.call_tool(tool, arguments, progress_callback=note)
        if result.is_error:
            raise Refused(" ".join(getattr(part, "text", "") for part in result.content))
        answer = result.structured_content
        assert isinstance(answer, dict), answer
        return answer

    async def refused(self, tool: str, **arguments: Any) -> str:
        """Return why a tool refuses a call."""
        try:
            answer = await self.call(tool, **arguments)
        except Refused as error:
            return str(error)
        raise AssertionError(f"{tool} was to refuse, and answered {answer}")


@asynccontextmanager
async def agent_in(workspace: Workspace, *options: str) -> AsyncIterator[Agent]:
    """Start a server with some options in a workspace, and provide an agent that is connected."""
    server = StdioServerParameters(
        command=str(FARENSE),
        args=["mcp", *options],
        env={"FARENSE_HOME": str(workspace.root)},
        cwd=workspace.root,
    )
    async with Client(stdio_client(server)) as client:
        yield Agent(client)
