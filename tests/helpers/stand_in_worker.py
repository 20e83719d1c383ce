"""A worker in the test's own process: it runs jobs as the test says, by the daemon's own functions.

So what a coordinator does can be looked at step by step, without waiting for processes.
"""

from __future__ import annotations

from typing import Any

import orjson

from daemon.client import FarenseClient
from daemon.lifecycle.claims import Claims
from daemon.lifecycle.outcome import Outcome
from daemon.lifecycle.transitions import Lifecycle
from daemon.store import keys
from daemon.store.records import Claim, JobRecord
from jobs.events import Envelope, Event, Progress, Started, Validation
from jobs.state import State, now
from jobs.storage.files import append
from tests.helpers.made_up_adapter import put_made_up_adapter

STEPS = 100


class StandInWorker:
    """A worker of a client's workspace.

    Args:
        name: under which it announces itself.
    """

    def __init__(self, client: FarenseClient, name: str = "here:1") -> None:
        self.client, self.name = client, name
        self.lifecycle = Lifecycle(client.workspace, client._broker)
        self.claim: Claim | None = None
        self.announce()

    def announce(self, **changes: Any) -> None:
        """Tell the queue of this worker, as a daemon does."""
        card = {
            "name": self.name,
            "workspace": str(self.client.workspace.root),
            "queue": "default",
            "job": self.claim.job_id if self.claim else None,
            "held_because": None,
            "silence_seconds": 1e9,
            "at": float(self.client.store.redis.time()[0]),
            **changes,
        }
        self.client.store.redis.hset(keys.WORKERS, self.name, orjson.dumps(card))

    def take(self) -> JobRecord:
        """Claim the oldest queued job, which is started."""
        queued = [r for r in self.client.jobs(all=True) if r.state is State.QUEUED]
        job = min(queued, key=lambda record: record.created_at)
        self.claim = Claims(self.lifecycle).claim(job.id, self.name)
        assert self.claim is not None, f"{job.id} could not be claimed"
        self.announce()
        if job.kind == "train":
            self.say(Started(1, "p", "m", "none", STEPS, STEPS, 1, 4, 8, 4, 100, {}))
        return self.client.job(job.id)

    def say(self, *events: Event) -> None:
        """Write events into the job's log."""
        assert self.claim is not None
        path = self.client.workspace.job_log(self.claim.job_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        for event in events:
            envelope = Envelope(event, self.claim.job_id, self.claim.attempt, now())
            append(path, orjson.dumps(envelope.as_dict()))

    def validate(self, *losses: float) -> None:
        """Come to validations, each a quarter of the way further."""
        for loss in losses:
            step = self._step = getattr(self, "_step", 0) + STEPS // 4
            self.say(Progress(step, STEPS, 1, 1.0, 1.0))
            self.say(Validation(1, step, loss, loss, 0.0, "BOM", True, 0, None, 0.1))

    def end(self, state: State = State.COMPLETED, reason: str | None = None, **record: Any) -> None:
        """End the job; ``record`` is what its last event says, ``failure`` the class of its end."""
        assert self.claim is not None
        claim, self.claim, self._step = self.claim, None, 0
        failure = record.pop("failure", None)
        self.client.store.update(claim.job_id, claim.attempt, record)
        if state in (State.COMPLETED, State.EARLY_STOPPED):
            run = self.client.workspace.run(claim.job_id)
            put_made_up_adapter(run)
        self.lifecycle.conclude(claim, Outcome(state, reason))
        self.lifecycle.publish(claim.job_id)
        if failure is not None:
            found = self.client.job(claim.job_id)
            self.client.store.annotate(claim.job_id, found, {"failure": failure})
        self.announce()
