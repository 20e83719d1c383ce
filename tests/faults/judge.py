"""What must be true when a storm is over: each function returns what is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
from redis.exceptions import RedisError

from daemon.runs.files import job_ids
from daemon.store.dead_letters import BEGINNING, DeadLetter, dead_letters
from jobs.errors import FarenseError
from jobs.events import CheckpointSaved, Envelope, Started, parse_event
from jobs.model_store.safetensors_header import read_header
from jobs.state import FINISHED_BADLY, State, read_state
from jobs.storage.files import read_json, whole_lines
from tests.faults.garbage import trace_of
from tests.faults.plan import Fault
from tests.faults.stage import Stage
from tests.faults.strikes import Struck
from tests.helpers.lock_log import overlaps, runs
from tests.helpers.made_up_training import BECAME_NAN, NO_GOOD, STEPS

DISKS = (Fault.FULL_DISK, Fault.FAILING_WRITES)
# How each kind of job ends: state, class of the failure, words of the reason.
ENDS: dict[str, tuple[State, str | None, str]] = {
    "victim": (State.COMPLETED, None, ""),
    "quick": (State.COMPLETED, None, ""),
    "late": (State.COMPLETED, None, ""),
    "follower": (State.COMPLETED, None, ""),
    "cancelled": (State.CANCELLED, None, "cancelled by the user"),
    "real": (State.COMPLETED, None, ""),
    "early": (State.EARLY_STOPPED, None, ""),
    "diverging": (State.FAILED, "diverged", BECAME_NAN),
    "refused": (State.FAILED, "bad_input", NO_GOOD),
}
# Attempts that the victim may need. A fault of Redis alone must not touch a training.
ATTEMPTS = {
    Fault.KILL_CHILD: (2, 2),
    Fault.KILL_DAEMON: (1, 2),
    Fault.KILL_ALL: (1, 2),
    Fault.CUT_OFF: (1, 2),
    Fault.SILENCE: (1, 2),
    Fault.FULL_DISK: (1, 6),
    Fault.FAILING_WRITES: (1, 6),
}
UNDISTURBED = (1, 1)
# What a library or a mistake of ours would leave in the daemon's log.
FORBIDDEN = ("supervision_failed",)


def judged(stage: Stage, struck: Struck) -> list[str]:
    """Return everything that is wrong, once all jobs have ended."""
    checks: tuple[Callable[[Stage, Struck], Iterator[str]], ...] = (
        daemon_lived,
        none_lost,
        ends_explained,
        none_beside_another,
        files_whole,
        progress_kept,
        stream_is_the_log,
        garbage_set_aside,
        daemon_log_clean,
    )
    found = []
    for check in checks:
        try:
            found += [f"{check.__name__}: {problem}" for problem in check(stage, struck)]
        except (FarenseError, RedisError, OSError, ValueError) as error:
            found.append(f"{check.__name__}: {error!r}")
    return found


def daemon_lived(stage: Stage, _: Struck) -> Iterator[str]:
    """A daemon ends only if it is killed."""
    yield from stage.deaths


def none_lost(stage: Stage, _: Struck) -> Iterator[str]:
    """Every accepted job is on disk and in Redis, and both say the same; no other runs."""
    known, unfinished = set(stage.broker.store.ids()), stage.broker.store.unfinished()
    for job_id, name in stage.accepted.items():
        state, record = read_state(stage.workspace.run(job_id)), stage.broker.store.get(job_id)
        if record is None:
            yield f"{name}: no record"
            continue
        told = (record.state, record.attempt, record.reason, record.failure, record.history)
        if told != (state.state, state.attempt, state.reason, state.failure, state.history):
            yield f"{name}: Redis says {told}, the files {state}"
        if job_id not in known or job_id in unfinished:
            yield f"{name}: the index is wrong"
    for job_id in set(job_ids(stage.workspace)) - set(stage.accepted):
        if (state := read_state(stage.workspace.run(job_id))).state is not State.CANCELLED:
            yield f"{job_id} was refused and is {state.state}"


def ends_explained(stage: Stage, struck: Struck) -> Iterator[str]:
    """Each job ended as its behaviour has it, and each attempt that did not end it has a reason."""
    log = stage.daemon_log()
    for job_id, name in stage.accepted.items():
        state = read_state(stage.workspace.run(job_id))
        expected, failure, words = ENDS[name]
        if (state.state, state.failure) != (expected, failure):
            yield f"{name}: {state.state} ({state.failure}), not {expected}: {state}"
        # A child that failed on a full disk could not say why; the class is known all the same.
        said = words if stage.plan.fault not in DISKS else ""
        if expected in FINISHED_BADLY and (not state.reason or said not in state.reason):
            yield f"{name}: {expected} for no good reason: {state.reason!r}"
        fewest, most = ATTEMPTS.get(stage.plan.fault, UNDISTURBED)
        fewest = fewest if struck.hit else 1
        if name == stage.plan.victim and not fewest <= state.attempt <= most:
            yield f"{name}: {state.attempt} attempts, not {fewest} to {most}: {state.history}"
        explained = {entry.get("attempt") for entry in state.history} | {
            line.get("attempt")
            for line in log
            if line.get("job") == job_id and line["event"] == "job_ended" and line.get("reason")
        }
        if missing := set(range(1, state.attempt)) - explained:
            yield f"{name}: nothing tells why attempts {missing} ended"


def none_beside_another(stage: Stage, _: Struck) -> Iterator[str]:
    """The locks' log shows one child at a time, and no attempt that the files do not know."""
    for job_id, name in stage.accepted.items():
        log = stage.control / "locks" / f"{job_id}.jsonl"
        yield from (f"{name}: {found}" for found in overlaps(log))
        attempts = runs(log)
        state = read_state(stage.workspace.run(job_id))
        if bool(attempts) is (name == "cancelled") or max(attempts, default=0) > state.attempt:
            yield f"{name}: attempts {attempts} ran, the files know {state.attempt}"


def files_whole(stage: Stage, struck: Struck) -> Iterator[str]:
    """Each file that is replaced is whole; each line of a log is, but for planted ones."""
    for path in stage.workspace.root.rglob("*"):
        # Temporary files of killed processes, and the server's own.
        if path.name.startswith(".") or not path.is_file():
            continue
        if problem := _damage(path, struck.planted):
            yield f"{path.relative_to(stage.workspace.root)}: {problem}"
    for job_id, name in stage.accepted.items():
        run = stage.workspace.run(job_id)
        if name in ("victim", "quick", "late", "follower"):
            steps = [orjson.loads(line)["step"] for line in whole_lines(run.metrics)]
            if steps != list(range(1, STEPS + 1)):
                yield f"{name}: the metrics have the steps {steps}"


def _damage(path: Path, planted: list[bytes]) -> str | None:
    try:
        if path.suffix == ".json":
            read_json(path)
        elif path.suffix == ".jsonl":
            whole = b"".join(line + b"\n" for line in whole_lines(path))
            if len(whole) != path.stat().st_size:
                return "its last line is torn"
            for line in whole_lines(path):
                if line not in planted:
                    orjson.loads(line)
        elif path.suffix == ".safetensors":
            read_header(path)
    except (ValueError, OSError, FarenseError) as error:
        return repr(error)
    return None


def progress_kept(stage: Stage, _: Struck) -> Iterator[str]:
    """An attempt begins where the last checkpoint that was told of lies, or later."""
    for job_id, name in stage.accepted.items():
        saved = 0
        for envelope in _events(stage, job_id):
            match envelope.event:
                case CheckpointSaved(step=step):
                    saved = max(saved, step)
                case Started(resumed_step=step) if step < saved:
                    yield f"{name}: attempt {envelope.attempt} began at {step}, not at {saved}"


def stream_is_the_log(stage: Stage, _: Struck) -> Iterator[str]:
    """What the child wrote is in the job's stream: all of it, once, in its order."""
    if stage.plan.fault in (Fault.WIPE, Fault.BAD_RECORDS, Fault.BAD_EVENTS):
        return  # a record that is made anew has a stream that begins anew
    for job_id, name in stage.accepted.items():
        stream = [line for _, line in stage.broker.store.events.after(job_id, "0", None)]
        log = _log(stage, job_id)
        if stream != log:
            yield f"{name}: {len(stream)} events in the stream, {len(log)} lines in the log"


def garbage_set_aside(stage: Stage, struck: Struck) -> Iterator[str]:
    """No pickle was loaded; bad messages, records and events are kept for a person."""
    if trace_of(stage).exists():
        yield "a pickle was loaded"
    kept = dead_letters(stage.broker.redis)
    # What was written into the log of a child that had ended is nobody's to read.
    for data in struck.planted if struck.hit else ():
        if not any(_tells_of(letter, data) for letter in kept):
            yield f"not among the dead letters: {data[:60]!r}"


def _tells_of(letter: DeadLetter, data: bytes) -> bool:
    """Tell whether a letter is ``data``, or is of a record whose reason begins with it."""
    if letter.what == "record":
        return letter.reason.encode().startswith(data)
    return letter.beginning == repr(data[:BEGINNING])[2:-1]


def daemon_log_clean(stage: Stage, _: Struck) -> Iterator[str]:
    """The daemon met nothing that it was not made for."""
    for line in stage.daemon_log():
        if line["event"] in FORBIDDEN or "exception" in line:
            yield f"the daemon's log: {line}"


def _events(stage: Stage, job_id: str) -> list[Envelope]:
    return [found for line in _log(stage, job_id) if (found := parse_event(line)) is not None]


def _log(stage: Stage, job_id: str) -> list[bytes]:
    path = stage.workspace.job_log(job_id)
    return list(whole_lines(path)) if path.exists() else []
