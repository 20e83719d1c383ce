"""The training child: ``python -P -m jobs <run directory>``.

Under a worker it gets the attempt's number and a pipe, and leaves every change of state to the
worker. Started by hand it needs neither daemon nor Redis, keeps ``state.json`` itself and prints
for a person.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from dataclasses import replace
from pathlib import Path

from jobs.backend.kernel_cache import Kernels, is_about_kernels
from jobs.errors import ExitCode, FarenseError, InvalidInput, OutOfMemory, Superseded
from jobs.kinds import kind_of
from jobs.paths import RunDirectory, Workspace
from jobs.resources.out_of_memory import as_out_of_memory, next_splits
from jobs.spec import JobSpec, read_spec
from jobs.state import FINISHED, JobState, State, now, read_state, write_state
from jobs.stopping import StopRequest
from jobs.storage.files import as_disk_full
from jobs.storage.locks import hold
from jobs.summary_head import summary_head


def main(arguments: list[str] | None = None) -> int:
    """Run the job and return an exit code (:class:`jobs.errors.ExitCode`)."""
    options = _parse(arguments)
    run = RunDirectory(options.run_directory.absolute())
    stop = StopRequest()
    stop.listen_to_signals()
    if options.pipe is not None:
        stop.listen_to_pipe(options.pipe, options.silence)
    try:
        spec = read_spec(run)
        with hold(run.lock, by_hand=options.attempt is None):
            if options.attempt is None:
                return _run_by_hand(run, spec, stop)
            state = _refuse_if_superseded(run, options.attempt)
            return _run(run, spec, replace(state, attempt=options.attempt), stop, by_hand=False)[0]
    except FarenseError as error:
        sys.stderr.write("\n".join(filter(None, (error.message, error.hint))) + "\n")
        return error.exit_code


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -P -m jobs", description="Run one farense job.")
    parser.add_argument("run_directory", type=Path, help="checkpoints_qlora/<job id>")
    parser.add_argument("--attempt", type=int, help="set by the worker: the attempt to run")
    parser.add_argument("--pipe", type=int, help="set by the worker: its end means stop")
    parser.add_argument(
        "--silence", type=float, help="set by the worker: seconds without a word that mean stop"
    )
    return parser.parse_args(arguments)


def _refuse_if_superseded(run: RunDirectory, attempt: int) -> JobState:
    state = read_state(run)
    if state.attempt > attempt:
        raise Superseded(f"Attempt {state.attempt} of {run.job_id} exists; this is {attempt}.")
    return state


def _run_by_hand(run: RunDirectory, spec: JobSpec, stop: StopRequest) -> ExitCode:
    """Run the job and keep ``state.json``, as the worker would."""
    state = read_state(run)
    if state.state in FINISHED:
        raise InvalidInput(f"{run.job_id} {state.state.verb} already.", "Enqueue it again.")
    if state.home is not None:
        raise InvalidInput(
            f"{run.job_id} is a job of another workspace, {state.home.rpartition('#')[0]}.",
            "Run it there, or queue it here: farense retry",
        )
    # A job that says `running` lost its process: we hold its lock.
    state = replace(
        state, state=State.RUNNING, attempt=state.attempt + 1, reason=None, updated_at=now()
    ).begun()
    write_state(run, state)
    code, end, reason = _run(run, spec, state, stop, by_hand=True)
    splits = next_splits(spec.config, state.splits) if code == ExitCode.OUT_OF_MEMORY else None
    if splits is not None:
        state, end = replace(state, splits=splits), State.QUEUED
    write_state(run, state.to(end, ended_at=summary_head(run).finished_at, reason=reason))
    return code


def _run(
    run: RunDirectory, spec: JobSpec, state: JobState, stop: StopRequest, *, by_hand: bool
) -> tuple[ExitCode, State, str | None]:
    """Run one attempt; return the exit code, and the state it leaves the job in with the reason."""
    # Imported here: these load MLX, which takes longer than refusing a bad spec.
    from jobs.report.write import drawing_first  # noqa: PLC0415
    from jobs.sinks import console, emitter, job_log  # noqa: PLC0415
    from jobs.training.session import write_failure  # noqa: PLC0415

    # checkpoints_qlora/<id>: the workspace is two folders up, wherever it was moved to.
    workspace = Workspace(run.path.parent.parent)
    sinks = [job_log(workspace.job_log(spec.id)), *([console()] if by_hand else [])]
    emit = drawing_first(emitter(sinks, spec.id, state.attempt), workspace, spec)
    kernels = Kernels.of(workspace)
    kernels.remove_torn()
    try:
        outcome = kind_of(spec).work(workspace, spec, emit, stop, state.splits)
    except Exception as error:
        kernels.remove_named(str(error))
        if stop.reason() and is_about_kernels(str(error)):
            # Whoever asks, a machine that goes down, say, may have told the compiler to end, too.
            return ExitCode.STOPPED, State.QUEUED, stop.reason()
        failure = _failure(error, run, spec, state.splits)
        write_failure(run, spec, emit, failure)
        code = failure.exit_code if isinstance(failure, FarenseError) else ExitCode.FAILED
        return code, State.FAILED, str(failure)
    if outcome is None:
        return ExitCode.STOPPED, State.QUEUED, stop.reason()
    return ExitCode.OK, State(outcome.state), None


def _failure(error: Exception, run: RunDirectory, spec: JobSpec, splits: int) -> Exception:
    """Return what to tell of ``error``; of one that is not ours the log gets the traceback."""
    if not isinstance(error, FarenseError):
        traceback.print_exc()
        error = as_out_of_memory(error) or as_disk_full(error, run.path) or error
    if isinstance(error, OutOfMemory):
        error.hint = kind_of(spec).after_out_of_memory(spec.config, splits, False)
    return error


if __name__ == "__main__":
    sys.exit(main())
