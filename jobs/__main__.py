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

from jobs.errors import ExitCode, FarenseError, InvalidInput, Superseded
from jobs.lock import hold
from jobs.order import Order, read_order
from jobs.paths import RunDirectory, Workspace
from jobs.state import FINISHED, State, read_state, write_state
from jobs.stopping import StopRequest


def main(arguments: list[str] | None = None) -> int:
    """Run the job and return an exit code (:class:`jobs.errors.ExitCode`)."""
    options = _parse(arguments)
    run = RunDirectory(options.run_directory.absolute())
    stop = StopRequest()
    stop.listen_to_signals()
    if options.pipe is not None:
        stop.listen_to_pipe(options.pipe)
    try:
        order = read_order(run)
        with hold(run.lock):
            if options.attempt is None:
                return _run_by_hand(run, order, stop)
            _refuse_if_superseded(run, options.attempt)
            return _run(run, order, options.attempt, stop, by_hand=False)[0]
    except FarenseError as error:
        sys.stderr.write("\n".join(filter(None, (error.message, error.hint))) + "\n")
        return error.exit_code


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -P -m jobs", description="Run one farense job.")
    parser.add_argument("run_directory", type=Path, help="checkpoints_qlora/<job id>")
    parser.add_argument("--attempt", type=int, help="set by the worker: the attempt to run")
    parser.add_argument("--pipe", type=int, help="set by the worker: its end means stop")
    return parser.parse_args(arguments)


def _refuse_if_superseded(run: RunDirectory, attempt: int) -> None:
    newest = read_state(run).attempt
    if newest > attempt:
        raise Superseded(f"Attempt {newest} of {run.job_id} exists; this is {attempt}.")


def _run_by_hand(run: RunDirectory, order: Order, stop: StopRequest) -> ExitCode:
    """Run the job and keep ``state.json``, as the worker would."""
    state = read_state(run)
    if state.state in FINISHED:
        raise InvalidInput(f"{run.job_id} is {state.state} already.", "Enqueue it again.")
    # A job that says `running` lost its process: we hold its lock.
    state = replace(state, state=State.RUNNING, attempt=state.attempt + 1, reason=None)
    write_state(run, state)
    code, end, reason = _run(run, order, state.attempt, stop, by_hand=True)
    write_state(run, state.to(end, reason=reason))
    return code


def _run(
    run: RunDirectory, order: Order, attempt: int, stop: StopRequest, *, by_hand: bool
) -> tuple[ExitCode, State, str | None]:
    """Run one attempt; return the exit code, and the state it leaves the job in with the reason."""
    # Imported here: these load MLX, which takes longer than refusing a bad order.
    from jobs.session import train, write_failure  # noqa: PLC0415
    from jobs.sinks import console, emitter, job_log  # noqa: PLC0415

    # checkpoints_qlora/<id>: the workspace is two folders up, wherever it was moved to.
    workspace = Workspace(run.path.parent.parent)
    sinks = [job_log(workspace.job_log(order.id)), *([console()] if by_hand else [])]
    emit = emitter(sinks, order.id, attempt)
    try:
        outcome = train(workspace, order, emit, stop.reason)
    except FarenseError as error:
        write_failure(run, order, emit, error)
        return error.exit_code, State.FAILED, error.message
    except Exception as error:  # a bug or a library's error: the log has the traceback
        traceback.print_exc()
        write_failure(run, order, emit, error)
        return ExitCode.FAILED, State.FAILED, str(error)
    if outcome is None:
        return ExitCode.STOPPED, State.QUEUED, stop.reason()
    return ExitCode.OK, State(outcome.state), None


if __name__ == "__main__":
    sys.exit(main())
