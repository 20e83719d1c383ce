"""Where the queue lives: the one place that builds clients of Redis and Huey.

With ``FARENSE_REDIS_URL`` it is a shared Redis, which farense neither starts nor stops; without,
the workspace's own server.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from daemon.queue.embedded_server import START_SECONDS, EmbeddedServer
from daemon.queue.refusals import refusal
from daemon.queue.unix_socket import LongPathConnection, socket_pool
from daemon.settings import Settings, redacted
from daemon.store import keys
from daemon.store.job_store import JobStore
from jobs.errors import ConfigError, QueueUnreachable
from jobs.paths import Workspace
from jobs.state import DEFAULT_QUEUE

if TYPE_CHECKING:
    from daemon.queue.job_queue import JobQueue

# Huey blocks for a second while it waits for a message; a reply may take this long on top.
SOCKET_TIMEOUT = 5.0


class Broker:
    """The connection to the queue of a workspace.

    Attributes:
        server: the embedded server; None with a shared Redis.
        address: where the queue is, for people; without a password.

    Raises:
        ConfigError: the URL of the shared Redis is not one.
    """

    def __init__(self, workspace: Workspace, settings: Settings) -> None:
        url = settings.redis_url
        self.server = None if url else EmbeddedServer(workspace)
        self.address = redacted(url) if url else str(EmbeddedServer(workspace).socket)
        self.pool = _pool_of(url) if url else socket_pool(Path(self.address), SOCKET_TIMEOUT)
        self.redis = Redis(connection_pool=self.pool)
        self.store = JobStore(self.redis, shared=url is not None)
        self._queues: dict[str, JobQueue] = {}

    def check(self) -> None:
        """Return where the server answers.

        Raises:
            QueueUnreachable: it does not.
        """
        try:
            self.redis.ping()
        except (RedisError, OSError) as error:
            raise self.unreachable(error) from error

    def check_writable(self) -> None:
        """Return where the server stores what it is sent, as an enqueue would send it.

        Raises:
            QueueUnreachable: it does not, and says why.
        """
        try:
            self.redis.set(keys.PROBE, "", px=1)
        except (RedisError, OSError) as error:
            raise self.unreachable(error) from error

    def ensure(self, limit: float = START_SECONDS) -> None:
        """Start the embedded server where it does not run, and check that the server answers.

        Raises:
            QueueUnreachable: it does not, within ``limit`` seconds.
        """
        if self.server is not None:
            self.server.ensure(limit)
        self.check()

    def unreachable(self, error: Exception) -> QueueUnreachable:
        """Return what to tell a person whose command met ``error`` while talking to the server."""
        start = "Start the daemon: farense daemon"
        if is_wrong_type(error):
            return QueueUnreachable(
                f"A key of the queue at {self.address} holds something else than farense keeps "
                f"there: {error}",
                "The daemon puts that right from the files and records (farense daemon). Try again "
                "then.",
            )
        if found := refusal(error):
            fact, action = found
            return QueueUnreachable(f"Redis at {self.address} {fact}.", action)
        if self.server is not None and self.server.pid() is None:
            return QueueUnreachable("The queue of this workspace is not running.", start)
        if self.server is not None:
            return QueueUnreachable(
                f"The queue of this workspace does not answer on {self.address}: {error}",
                start,
            )
        return QueueUnreachable(f"Redis at {self.address} does not answer: {error}", _advice(error))

    def queue(
        self, name: str = DEFAULT_QUEUE, run: Callable[[str], None] | None = None
    ) -> JobQueue:
        """Return the queue of a name; a daemon says what ``run`` does with a job id."""
        from daemon.queue.job_queue import JobQueue  # noqa: PLC0415 - readers need no Huey

        if run is not None:
            self._queues[name] = JobQueue(self.pool, name, run, self.store.set_aside)
        elif name not in self._queues:
            self._queues[name] = JobQueue(self.pool, name)
        return self._queues[name]

    def pointed_to(self, name: str) -> set[str]:
        """Return the jobs that a message on the queue points to, or that were left for others.

        Raises:
            RedisError: the server is away.
        """
        return self.queue(name).job_ids() | self.store.left(name)

    def close(self) -> None:
        """Close all connections."""
        self.pool.disconnect()


def is_wrong_type(error: Exception) -> bool:
    """Tell whether the server answered, and refused a command for what stands under its key."""
    return isinstance(error, RedisError) and "WRONGTYPE" in str(error)


def _pool_of(url: str) -> ConnectionPool:
    """Return connections that try once: by default redis-py takes 4 s to give up a dead server."""
    options: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "driver_info": None}
    if url.startswith("unix:"):
        options["connection_class"] = LongPathConnection
    try:
        pool = ConnectionPool.from_url(
            url,
            socket_timeout=SOCKET_TIMEOUT,
            socket_connect_timeout=SOCKET_TIMEOUT,
            **options,
        )
        pool.make_connection()  # which only now looks at the options in the URL, and opens nothing
    except (ValueError, KeyError, TypeError, RedisError) as error:
        # Neither the options nor the library's message is shown: both may hold the password.
        raise ConfigError(
            f"FARENSE_REDIS_URL ({redacted(url)}) has an option after its ? that cannot be used.",
            "They are those of redis-py's Redis.from_url; ?ssl_ca_certs=/path/to/ca.pem, say.",
        ) from error
    ca = pool.connection_kwargs.get("ssl_ca_certs")
    if ca is not None and not Path(ca).is_file():
        raise ConfigError(f"FARENSE_REDIS_URL names a CA (ssl_ca_certs) that is not there: {ca}")
    return pool


def _advice(error: Exception) -> str:
    """Return what to do about a shared Redis that does not answer."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return (
            "The certificate must name the host in FARENSE_REDIS_URL. Where a CA of your own "
            "signed it, end the URL in ?ssl_ca_certs=/path/to/ca.pem"
        )
    return (
        "Check FARENSE_REDIS_URL and that the server runs; "
        "without FARENSE_REDIS_URL the workspace's own server is used."
    )
