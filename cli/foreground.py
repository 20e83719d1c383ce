"""Commands that compute themselves, beside or without a daemon."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cli.output import warn
from cli.reading import job_named, reading
from daemon.latest import ADAPTER, LEFT
from daemon.runs.private_folder import temporary_folder
from daemon.runs.training import check_has_adapter, check_model, running_here, training_of

if TYPE_CHECKING:
    from jobs.paths import Workspace
    from jobs.spec import JobSpec
    from jobs.state import JobState


@contextmanager
def foreground_job(
    job: str, verb: str, *, needs_adapter: bool = True
) -> Iterator[tuple[JobSpec, JobState]]:
    """Provide a training job to compute with in this process, which is made ready for it.

    Redis is asked where it answers, else the files; no server is started.

    Args:
        verb: what is to be done with the job: ``Export``, say.
        needs_adapter: whether that takes its best adapter.

    Raises:
        UnknownJob: there is no such job.
        InvalidInput: it is no training job, has no adapter, or its files or its model are not here.
    """
    with reading() as reader:
        workspace = reader.workspace
        record = job_named(reader, job, ADAPTER if needs_adapter else LEFT)
        spec, run, state = training_of(record, workspace, verb)
    # What MLX would find out too, some seconds later.
    if needs_adapter:
        check_has_adapter(run, state)
    check_model(spec, workspace)
    for other in running_here(workspace):
        warn(f"{other} is running: it shares memory and processor with this.")
    with surroundings(workspace):
        yield spec, state


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Let `kill` and a closed terminal end this like Ctrl-C: nothing may stay behind."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    handlers = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)


@contextmanager
def surroundings(workspace: Workspace) -> Iterator[None]:
    """Give this process what the child of a job has around it; before MLX is imported."""
    wanted = {"HF_HUB_OFFLINE": "1", "TMPDIR": str(temporary_folder(workspace))}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        with interrupted_by_signals():
            yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
