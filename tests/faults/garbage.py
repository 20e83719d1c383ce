"""Planting what does not belong there: pickles, random bytes, JSON of another shape."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import orjson

from daemon.queue.serializer import JsonSerializer
from daemon.store import keys
from jobs.events import parse_event
from tests.faults.stage import Stage
from tests.helpers.mutations import Mutator
from tests.helpers.traps import pickles

HOPELESS = 30
"""Messages that cannot be read: so many delayed a good one by over a minute once."""
STALE = 10
INDEXES = 0.5
"""How often something of a wrong type takes the place of an index, where records are damaged."""
FIELDS = (
    "state", "attempt", "id", "log_offset", "lease_until", "history", "loss", "priority", "worker",
)  # fmt: skip
ODD_IDS = ("20261122-210000-v2-none", "../../../etc/passwd", "latest", "é" * 300, "")


def trace_of(stage: Stage) -> Path:
    """Return the folder that no process may ever make."""
    return stage.control / "owned"


def plant_messages(stage: Stage) -> list[bytes]:
    """Put bad, stale and doubled messages before all others; return those that cannot be read."""
    dice, queue = stage.plan.dice("messages"), stage.broker.queue()
    message = orjson.loads(queue.serialize_task(queue._run_job.s(stage.victim, priority=0)))
    bad = _bad_bytes(dice, message, trace_of(stage), HOPELESS)
    # Unreadable by chance or not: only those count of which it is sure.
    hopeless = [data for data in bad if not _readable(data)]
    others = [*stage.accepted, *ODD_IDS]
    stale = []
    for _ in range(STALE):
        found = orjson.loads(orjson.dumps(message))
        found["message"]["args"] = [dice.choice([stage.victim, *others])]
        stale.append(orjson.dumps(found))
    planted = [*bad, *stale]
    dice.shuffle(planted)
    members = {
        struct.pack(">Q", place) + data: -dice.choice((5, 9)) for place, data in enumerate(planted)
    }
    members |= {b"": -9, b"\x80\x04": -9}
    queue.storage.conn.zadd(queue.storage.queue_key, members)
    return hopeless


def plant_records(stage: Stage) -> list[bytes]:
    """Damage the records of the victim and of another job, and make some of no job.

    Returns:
        How the reasons of the dead letters begin that must come of it.
    """
    unreadable = []
    dice, redis = stage.plan.dice("records"), stage.broker.redis
    mutator = Mutator(f"{stage.plan.seed} records")
    for job_id in {stage.victim, dice.choice(list(stage.accepted))}:
        place = f"the record of {job_id}".encode()
        match dice.randrange(4):
            case 0:
                redis.delete(keys.job(job_id))
                redis.set(keys.job(job_id), dice.choice(pickles(trace_of(stage))))
                unreadable.append(place)
            case 1:
                redis.delete(keys.job(job_id))
                redis.rpush(keys.job(job_id), b"x")
                unreadable.append(place)
            case 2:
                redis.hset(keys.job(job_id), "log_offset", _odd_field(dice, mutator, stage))
            case 3:
                for field in dice.sample(FIELDS, 3):
                    redis.hset(keys.job(job_id), field, _odd_field(dice, mutator, stage))
    for odd in ODD_IDS:
        redis.hset(keys.job(odd), "state", b'"queued"')
        redis.zadd(keys.JOBS, {odd: dice.random() * 1e10})
        redis.sadd(keys.UNFINISHED, odd)
    redis.hset(keys.WORKERS, "somebody", _odd_field(dice, mutator, stage))
    if dice.random() < INDEXES:
        index = dice.choice((keys.JOBS, keys.UNFINISHED, keys.WORKERS, keys.left("default")))
        redis.delete(index)
        redis.set(index, dice.choice(pickles(trace_of(stage))))
    return unreadable


def plant_events(stage: Stage) -> list[bytes]:
    """Put garbage into the victim's stream and log; return the lines of the log that are none."""
    dice, redis = stage.plan.dice("events"), stage.broker.redis
    key = keys.events(stage.victim)
    progress = {"v": 1, "event": "progress", "job": stage.victim, "attempt": 1, "step": 7}
    lines = _bad_bytes(dice, progress, trace_of(stage), 10)
    match dice.randrange(3):
        case 0:
            redis.delete(key)
            redis.set(key, lines[0])
        case _:
            for line in lines:
                redis.xadd(key, {dice.choice(("event", "other")): line})
    planted = [line.replace(b"\n", b"?") for line in lines]
    log = stage.workspace.job_log(stage.victim)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab", buffering=0) as file:
        file.write(b"".join(line + b"\n" for line in planted))
    return [line for line in planted if line.strip() and parse_event(line) is None]


def _bad_bytes(dice: random.Random, like: Any, trace: Path, count: int) -> list[bytes]:
    mutator = Mutator(f"{dice.random()}")
    makers = (
        lambda: dice.choice(pickles(trace)),
        lambda: dice.randbytes(dice.choice((1, 9, 300, 20_000))),
        lambda: mutator.json_or_bytes(like),
        lambda: b'{"message": ',
    )
    return [dice.choice(makers)() for _ in range(count)]


def _odd_field(dice: random.Random, mutator: Mutator, stage: Stage) -> bytes:
    return dice.choice(
        [
            dice.choice(pickles(trace_of(stage))),
            dice.randbytes(20),
            b"-5",
            b"999999999999",
            b"1e400",
            mutator.json({"a": 1}),
            b"",
        ]
    )


def _readable(data: bytes) -> bool:
    try:
        JsonSerializer().deserialize(data)
    except (ValueError, TypeError):
        return False
    return True
