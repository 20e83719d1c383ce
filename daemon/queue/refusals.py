"""What it means where a server answers, but refuses; and what to do about it. Pure."""

from __future__ import annotations

import re

from redis.exceptions import AuthenticationError, RedisError

# The first word of the reply -> the end of a sentence that begins with the server's name, and what
# to do. The words: https://github.com/valkey-io/valkey/blob/unstable/src/server.c
REFUSALS = {
    "READONLY": (
        "is a read-only replica: a copy of another server, which accepts no job",
        "Name the primary in FARENSE_REDIS_URL; INFO replication on the replica tells which it is.",
    ),
    "MASTERDOWN": (
        "is a replica that has lost its primary",
        "Name the primary in FARENSE_REDIS_URL, or mend the link between them.",
    ),
    "LOADING": (
        "is still reading its data from disk",
        "Wait until it has, minutes with a large append-only file, and try again.",
    ),
    "MISCONF": (
        "cannot write to its disk, and so accepts no job",
        "Free space on its disk, or mend its rights there; the server's log says what failed.",
    ),
    "OOM": (
        "has used up its maxmemory, and so accepts no job",
        "Raise its maxmemory, or remove what else is kept there.",
    ),
    "NOPERM": (
        "does not let this user do what the queue needs",
        "Allow the user all keys and channels that begin with farense, and the commands: "
        "ACL SETUSER with ~farense* &farense* +@all -@dangerous +info +config|get",
    ),
    "NOAUTH": (
        "asks for a password, and FARENSE_REDIS_URL names none",
        "Add it: redis://user:password@host:port/0, or redis://:password@host:port/0",
    ),
    "MAXCLIENTS": (
        "has no connection left for another client",
        "Raise its maxclients, or close clients that are not used.",
    ),
}
CLUSTER = (
    "is a node of a cluster, which the queue cannot use",
    "Use a server of its own for farense; docker-compose.yml makes one.",
)
REFUSALS |= dict.fromkeys(("MOVED", "ASK", "CLUSTERDOWN", "CROSSSLOT", "TRYAGAIN"), CLUSTER)
WRONG_PASSWORD = (
    "refuses the user or password",
    "Check FARENSE_REDIS_URL (redis://user:password@host:port/0).",
)
# Of a pipeline, the library says first which command it was.
FIRST_WORD = re.compile(r"(?:.*caused error: )?(?P<word>[A-Z]{3,})\b", re.DOTALL)
MAX_CLIENTS = "max number of clients reached"


def refusal(error: BaseException) -> tuple[str, str] | None:
    """Return what an error says of the server that sent it, and what to do about it.

    Returns:
        The end of a sentence that begins with the server's name, and an advice; None where the
        error is not a refusal that is known here.
    """
    if not isinstance(error, RedisError):
        return None
    if MAX_CLIENTS in str(error):
        return REFUSALS["MAXCLIENTS"]
    # redis-py cuts the first word off the text of the errors that it has classes for.
    word = getattr(error, "status_code", None)
    if word is None and (found := FIRST_WORD.match(str(error))):
        word = found["word"]
    if word in REFUSALS:
        return REFUSALS[word]
    return WRONG_PASSWORD if isinstance(error, AuthenticationError) else None
