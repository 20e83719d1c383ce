"""Keys of the queue under which something else stands than farense keeps there.

Whoever can write to the server can put anything under any key. Records and messages are judged one
by one; of an index, a key of another type makes every command on it fail, until it is removed. What
stood in the index is in the records and the run directories.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from daemon.store import keys, scripts
from daemon.store.dead_letters import set_aside

if TYPE_CHECKING:
    from daemon.queue.broker import Broker

NONE = b"none"


def put_right(broker: Broker, queue: str) -> bool:
    """Remove what stands under index keys and is of a wrong type; rebuild the indexes of jobs.

    Messages that are lost by it are pushed again by recovery, a daemon's card when it says so next.

    Returns:
        Whether anything was removed.

    Raises:
        RedisError: the server is away.
    """
    found = _misplaced(broker, queue)
    remove = broker.redis.register_script(scripts.REMOVE)
    # That of the dead letters first, or nothing could be noted.
    for name, kind in sorted(found.items(), key=lambda item: item[0] != keys.DEAD_LETTERS):
        data = cast(bytes, broker.redis.get(name)) if kind == b"string" else kind
        if remove(keys=[name], args=[kind]):
            reason = f"{name} is a {kind.decode()}: the index is made again"
            set_aside(broker.redis, "index", data or kind, reason)
    if {keys.JOBS, keys.UNFINISHED} & set(found):
        broker.store.index_all()
    return bool(found)


def _misplaced(broker: Broker, queue: str) -> dict[str, bytes]:
    """Return the index keys of a wrong type, and the types that they have."""
    storage = broker.queue(queue).storage
    wanted = {
        keys.JOBS: b"zset",
        keys.UNFINISHED: b"set",
        keys.WORKERS: b"hash",
        keys.DEAD_LETTERS: b"list",
        keys.left(queue): b"set",
        storage.queue_key: b"zset",
        storage.schedule_key: b"zset",
    }
    pipeline = broker.redis.pipeline(transaction=False)
    for name in wanted:
        pipeline.type(name)
    kinds = dict(zip(wanted, pipeline.execute(), strict=True))
    return {name: kind for name, kind in kinds.items() if kind not in (NONE, wanted[name])}
