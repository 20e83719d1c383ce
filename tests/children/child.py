"""A training child without MLX: it speaks the worker's protocol, and behaves as it is told.

``python -P child.py BEHAVIOUR RUN_DIRECTORY --attempt N --pipe FD``; where BEHAVIOUR is
``as_named``, the name of the job says how it behaves.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

import orjson

from jobs.errors import ExitCode, JobLocked
from jobs.events import (
    CheckpointSaved,
    Envelope,
    Event,
    Failed,
    Finished,
    Progress,
    Started,
    TrainMetrics,
    Validation,
)
from jobs.paths import RunDirectory, Workspace
from jobs.spec import read_spec
from jobs.state import now, read_state
from jobs.stopping import StopRequest
from jobs.storage.files import append, write_json
from jobs.storage.locks import hold

STEPS = 20
PACE_SECONDS = 0.02
# These ignore that they are asked to stop, and of those one writes no checkpoint.
STUBBORN = ("stubborn", "stubborn_unsaved")
ENDLESS = ("endless", *STUBBORN)
METAL_OOM = (
    "libc++abi: terminating due to uncaught exception of type std::runtime_error: [METAL] Command "
    "buffer execution failed: Insufficient Memory "
    "(00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)\n"
)
GPU_TIMEOUT = (
    "libc++abi: terminating due to uncaught exception of type std::runtime_error: [METAL] Command "
    "buffer execution failed: Caused GPU Timeout Error "
    "(00000002:kIOGPUCommandBufferCallbackErrorTimeout)\n"
)
RESOURCE_LIMIT = "[metal::malloc] Resource limit (499000) exceeded."


class Child:
    """One attempt of a made-up training run."""

    def __init__(self, behaviour: str, run: RunDirectory, attempt: int) -> None:
        self.run = run
        self.attempt = attempt
        self.spec = read_spec(run)
        self.splits = read_state(run).splits
        self.behaviour = (self.spec.name or "good") if behaviour == "as_named" else behaviour
        self.first_loss = 2.5 if self.behaviour == "better" else 3.0
        self.log = Workspace(run.path.parent.parent).job_log(run.job_id)
        self.pause = threading.Event()
        # No event: a signal that comes while one is waited for would wait for its lock for ever.
        self.stopping = False
        self.worker = StopRequest()
        self.checkpoint = run.path / "step.json"

    def asked_to_stop(self) -> bool:
        """Wait a little; tell whether a signal, or the worker's silence, asks to stop."""
        pace = 0 if self.behaviour == "hasty" else PACE_SECONDS
        self.pause.wait(pace)
        return self.stopping or self.worker.reason() is not None

    def on_signal(self, *_: object) -> None:
        self.stopping = True

    def hang(self) -> None:
        while not self.asked_to_stop():
            pass

    def emit(self, event: Event) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        envelope = Envelope(event, self.run.job_id, self.attempt, now())
        append(self.log, orjson.dumps(envelope.as_dict()))

    def train(self) -> int:
        step = int(self.checkpoint.read_text()) if self.checkpoint.exists() else 0
        if self.behaviour != "mute":
            self.emit(self.started(step))
        self.misbehave()
        while step < STEPS or self.behaviour in ENDLESS:
            if self.asked_to_stop():
                return self.stopped(step)
            step += 1
            self.progress(step)
        return self.finished(step)

    def misbehave(self) -> None:
        match self.behaviour:
            case "mute":  # it loads, and has said nothing yet
                self.hang()
                sys.exit(ExitCode.STOPPED)
            case "killed_once" if self.attempt == 1:
                self.checkpoint.write_text("5")
                os.kill(os.getpid(), signal.SIGKILL)
            case "killed_always":
                os.kill(os.getpid(), signal.SIGKILL)
            case "garbage":
                with self.log.open("ab") as log:
                    log.write(
                        b'\xff\xfe not json\n{"event": "progress"}\n[1, 2]\n{"v": 1, "event":'
                    )
                if self.attempt == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
            case "failing":
                self.emit(Failed(0, "DataError", "the data are no good"))
                sys.exit(ExitCode.FAILED)
            case "metal_oom" | "metal_oom_once" if self.behaviour == "metal_oom" or not self.splits:
                self.checkpoint.write_text("5")
                sys.stderr.write(METAL_OOM)
                os.abort()
            case "gpu_timeout_always":
                self.time_out()
            case "gpu_timeout_once" if self.attempt == 1:
                self.time_out()
            case "leaking" if self.attempt <= 4:
                step = self.get_on()
                self.emit(Failed(step, "RuntimeError", RESOURCE_LIMIT))
                sys.exit(ExitCode.FAILED)
            case "gpu_timeouts_on_the_way" if self.attempt <= 4:
                step = self.get_on()
                self.time_out(step)
            case "hanging":
                self.hang()
            case "hanging_once" if self.attempt == 1:
                self.hang()
            case "allocator_oom":
                self.emit(Failed(0, "OutOfMemory", "Out of memory: no 9 GB. Lower batch_size."))
                sys.exit(ExitCode.OUT_OF_MEMORY)
            case "silent":
                sys.stderr.write("terminate called after throwing an instance of 'metal::error'\n")
                sys.exit(ExitCode.FAILED)
            case "empty":
                sys.exit(ExitCode.OK)
            case "diverging":
                self.emit(Failed(3, "Diverged", "the loss became NaN at step 3"))
                sys.exit(ExitCode.DIVERGED)

    def get_on(self) -> int:
        """Come to a checkpoint later than the one this attempt began from."""
        step = 4 * self.attempt
        self.checkpoint.write_text(str(step))
        self.emit(CheckpointSaved(1, step, "checkpoint"))
        return step

    def time_out(self, step: int = 5) -> None:
        self.checkpoint.write_text(str(step))
        sys.stderr.write(GPU_TIMEOUT)
        os.abort()

    def progress(self, step: int) -> None:
        loss = self.first_loss - step / STEPS
        self.emit(Progress(step, STEPS, 1, 50.0, (STEPS - step) / 50))
        self.emit(
            TrainMetrics(
                1, step, step, loss, None, None, None, 1e-4, 1.0, 100.0, 10.0, step / 50, now()
            )
        )
        if step % 10 == 0 and self.behaviour != "stubborn_unsaved":
            self.save(step)
            self.emit(Validation(1, step, loss, loss - 0.1, 0.1, "BOM", True, 0, 5, 0.1))

    def save(self, step: int, reason: str | None = None) -> None:
        self.checkpoint.write_text(str(step))
        folder = self.run.checkpoint(1, step)
        folder.mkdir(exist_ok=True)
        self.emit(CheckpointSaved(1, step, folder.name, reason))

    def stopped(self, step: int) -> int:
        self.save(step, "stopped")
        return ExitCode.STOPPED

    def finished(self, step: int) -> int:
        state = "early_stopped" if self.behaviour == "early" else "completed"
        write_json(self.run.summary, {"state": state})
        self.emit(
            Finished(
                state,
                step,
                1,
                step,
                self.first_loss - 1.0,
                self.first_loss,
                "BOM",
                0.1,
                0.1,
                0.1,
                1.0,
                "adapters",
                "",
            )
        )
        return ExitCode.OK

    def started(self, step: int) -> Started:
        return Started(
            pid=os.getpid(),
            preset=self.spec.preset,
            model="tiny",
            device="none",
            total_steps=STEPS,
            config={},
            resumed_step=step,
            steps_per_epoch=STEPS,
            num_epochs=1,
            validations=2,
            train_examples=8,
            valid_examples=4,
            trainable_parameters=100,
        )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("behaviour")
    parser.add_argument("run_directory", type=Path)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--pipe", type=int, required=True)
    parser.add_argument("--silence", type=float)
    options = parser.parse_args()
    child = Child(options.behaviour, RunDirectory(options.run_directory), options.attempt)
    stubborn = child.behaviour in STUBBORN
    signal.signal(signal.SIGTERM, signal.SIG_IGN if stubborn else child.on_signal)
    child.worker.listen_to_pipe(options.pipe, options.silence)
    try:
        with hold(child.run.lock):
            return child.train()
    except JobLocked:
        return ExitCode.LOCKED


if __name__ == "__main__":
    sys.exit(main())
