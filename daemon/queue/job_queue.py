"""The queue: Huey over Redis, carrying job ids.

A message only says "look at job X"; the record's compare-and-set gives the right to run it. So a
message may be lost, doubled or stale, and nothing breaks.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import orjson
from huey import PriorityRedisHuey
from huey.exceptions import HueyException
from redis import ConnectionPool

from daemon.queue.serializer import JsonSerializer
from daemon.store import keys
from jobs.state import DEFAULT_QUEUE

# Messages that stand on queues name the module in which the task stood when it was given its name.
TASK_MODULE = "daemon.job_queue"
# A job that was under way goes before fresh ones of its priority.
RESUMED = 0.5
# How long a worker waits for a message before it looks whether it should stop.
WAIT_SECONDS = 0.5


def _no_worker(job_id: str) -> None:
    raise HueyException(f"job {job_id} was taken from the queue by a client")


class JobQueue(PriorityRedisHuey):  # type: ignore[misc]  # huey publishes no types
    """Huey with one task, ``run_job``.

    Huey knows a task by its module and name, and both stand in each message.

    Args:
        pool: connections to the server.
        name: of the queue.
        run: what a worker does with a job id; clients leave it out.
        set_aside: what is done with a message that cannot be read.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        name: str = DEFAULT_QUEUE,
        run: Callable[[str], None] = _no_worker,
        set_aside: Callable[[str, bytes, str], None] | None = None,
    ) -> None:
        super().__init__(
            keys.queue(name),
            results=False,
            serializer=JsonSerializer(),
            connection_pool=pool,
            read_timeout=WAIT_SECONDS,
            clean_name=False,
        )
        self._set_aside = set_aside

        def run_job(job_id: str) -> None:
            run(job_id)

        run_job.__module__ = TASK_MODULE
        self._run_job = self.task(name="run_job")(run_job)

    def push(self, job_id: str, priority: int = 0, *, resumed: bool = False) -> None:
        """Put a message for a job on the queue; higher priorities come first."""
        level = priority + (RESUMED if resumed else 0)
        self.enqueue(self._run_job.s(job_id, priority=level))

    def push_many(self, jobs: Sequence[tuple[str, int]]) -> None:
        """Put messages for jobs, each an id and a priority, on the queue: all of them or none.

        A message stands there as Huey's priority storage puts it: behind the microsecond at which
        it came, which keeps the order of those that have the same priority.
        """
        began = int(time.time() * 1e6)
        messages = {}
        for number, (job_id, priority) in enumerate(jobs):
            data = self.serialize_task(self._run_job.s(job_id, priority=priority))
            messages[struct.pack(">Q", began + number) + data] = -priority
        if messages:
            self.storage.conn.zadd(self.storage.queue_key, messages)

    def job_ids(self) -> set[str]:
        """Return the jobs that messages on the queue point to."""
        tasks = [self._task(data, keep=False) for data in self.storage.enqueued_items()]
        return {task.args[0] for task in tasks if task is not None and task.args}

    def dequeue(self) -> Any:
        """Return the next task, or None after half a second without any.

        A message that cannot be read is set aside at once. Huey would log a traceback and sleep,
        longer with each: thirty bad messages held a good one for over a minute.
        """
        data = self.storage.dequeue()
        return None if data is None else self._task(data)

    def read_schedule(self, timestamp: datetime | None = None) -> list[Any]:
        """Return the tasks whose time has come, as Huey does; unreadable ones are set aside."""
        due = self.storage.read_schedule(timestamp or self._get_timestamp())
        return [task for data in due if (task := self._task(data)) is not None]

    def is_revoked(self, task: Any, timestamp: datetime | None = None, peek: bool = True) -> bool:
        """Return False: jobs are cancelled by their records.

        Huey would read what stands under a name that anybody can tell, and a worker would die of
        it, or never run a job again.
        """
        return False

    def _task(self, data: bytes, *, keep: bool = True) -> Any:
        try:
            return self.deserialize_task(data)
        except (ValueError, HueyException, orjson.JSONDecodeError) as error:
            if keep and self._set_aside is not None:
                self._set_aside("message", data, str(error))
        return None
