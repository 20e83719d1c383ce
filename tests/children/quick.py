"""A training child that speaks the worker's protocol and costs next to nothing.

``python -S -P quick.py STEPS PACE RUN_DIRECTORY --attempt N [--silence SECONDS] --pipe FD``: it
takes STEPS steps, PACE seconds apart. It imports the standard library alone, so that a thousand of
them measure the daemon and not themselves: a bare interpreter starts in some 10 ms, and farense's
own modules would take six times as long. The protocol: ``run.lock`` for its whole life, a stop at
SIGTERM, at the end of the pipe or when nothing comes from it for SECONDS, no work for an attempt
that ``state.json`` has left behind, events, a summary, exit codes.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

OK, INVALID, LOCKED, SUPERSEDED, STOPPED = 0, 2, 5, 6, 75  # jobs.errors.ExitCode
CHUNK = 4096


class Child:
    """One attempt of a made-up training run."""

    def __init__(self, steps: int, pace: float, run: Path, options: dict[str, str]) -> None:
        self.steps, self.pace = steps, pace
        self.run, self.attempt = run, int(options["--attempt"])
        self.silence = float(options.get("--silence", "inf"))
        self.pipe_end = int(options["--pipe"])
        self.pipe = select.poll()
        self.pipe.register(self.pipe_end, select.POLLIN)
        self.heard = time.monotonic()
        self.stopped = False
        self.job = run.name
        log = run.parent.parent / "logs" / "jobs" / f"{self.job}.jsonl"
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.began = time.monotonic()

    def emit(self, kind: str, **values: Any) -> None:
        head = {"v": 1, "event": kind, "job": self.job, "attempt": self.attempt, "time": now()}
        os.write(self.log, json.dumps({**head, **values}).encode() + b"\n")

    def read(self, name: str) -> Any:
        return json.loads((self.run / name).read_bytes())

    def train(self) -> int:
        spec = self.read("job.json")
        self.emit(
            "started",
            pid=os.getpid(),
            preset=spec["preset"],
            model="none",
            device="none",
            total_steps=self.steps,
            steps_per_epoch=self.steps,
            num_epochs=1,
            validations=0,
            train_examples=spec["train"]["examples"],
            valid_examples=0,
            trainable_parameters=1,
            config={},
        )
        for step in range(1, self.steps + 1):
            if self.stopped or self.asked_to_stop():
                return STOPPED
            self.report(step)
        return self.finished()

    def asked_to_stop(self) -> bool:
        """Wait for the next step; tell whether the pipe has ended, or is silent for too long."""
        deadline = time.monotonic() + self.pace
        while not self.stopped:
            left = max(0.0, deadline - time.monotonic())
            if not self.pipe.poll(left * 1000):
                return time.monotonic() - self.heard > self.silence
            if not os.read(self.pipe_end, CHUNK):
                return True
            self.heard = time.monotonic()
        return True

    def report(self, step: int) -> None:
        loss = 3.0 - step / self.steps
        seconds = time.monotonic() - self.began
        speed = step / seconds if seconds else 1.0
        self.emit(
            "progress",
            step=step,
            total_steps=self.steps,
            epoch=1,
            steps_per_second=speed,
            eta_seconds=(self.steps - step) / speed,
        )
        self.emit(
            "train_metrics",
            epoch=1,
            step=step,
            update=step,
            loss=loss,
            val_loss=None,
            train_eval_loss=None,
            overfitting_gap=None,
            learning_rate=1e-4,
            grad_norm=1.0,
            tokens_per_second=100.0,
            memory_mb=10.0,
            elapsed_time_sec=seconds,
            timestamp=now(),
        )

    def finished(self) -> int:
        temporary = self.run / ".training_summary"
        temporary.write_text(json.dumps({"state": "completed"}))
        temporary.rename(self.run / "training_summary.json")
        nothing = dict.fromkeys(
            ("best_epoch", "best_step", "best_val_loss", "baseline_val_loss", "gap_status")
        )
        gaps = dict.fromkeys(("mean_gap", "max_gap", "min_gap"))
        self.emit(
            "finished",
            state="completed",
            step=self.steps,
            elapsed_time_sec=time.monotonic() - self.began,
            adapters="adapters",
            run_dir=str(self.run),
            **nothing,
            **gaps,
        )
        return OK


def now() -> str:
    seconds = time.time()
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03}+00:00"


def main(arguments: list[str]) -> int:
    try:
        steps, pace, run, *options = arguments
        named = dict(zip(options[::2], options[1::2], strict=True))
        child = Child(int(steps), float(pace), Path(run), named)
    except (ValueError, KeyError):
        return INVALID

    def stop(*_: object) -> None:
        child.stopped = True

    signal.signal(signal.SIGTERM, stop)
    lock = os.open(child.run / "run.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return LOCKED
    if child.read("state.json")["attempt"] > child.attempt:
        return SUPERSEDED
    return child.train()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
