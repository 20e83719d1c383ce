"""The real training child in a storm: it notes its phases and keeps the log of its lock.

``python -P storm.py CONTROL RUN_DIRECTORY --attempt N --pipe FD``: CONTROL is a folder of the
test's, outside of the workspace. Everything but the training is farense's own program; the training
is made up (:mod:`tests.helpers.made_up_training`), but for a job that is named ``real``. Functions
are wrapped from outside, so that nothing in farense knows of it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jobs.__main__ as program
from jobs import files
from jobs.order import read_order
from jobs.paths import RunDirectory
from tests.helpers import failing_writes
from tests.helpers.lock_log import LockLog
from tests.helpers.made_up_training import as_session
from tests.helpers.phase_notes import Notebook, Phase


def note_calls(notes: Notebook, phase: Phase, owner: Any, name: str) -> None:
    """Wrap a function: while it runs, the phase is ``phase``."""
    function: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(function)
    def noted(*arguments: Any, **options: Any) -> Any:
        with notes.during(phase):
            return function(*arguments, **options)

    setattr(owner, name, noted)


def note_real_training(notes: Notebook) -> None:
    """Note the phases of the real training; it finishes while it writes its summary."""
    import jobs.session
    import jobs.train
    from jobs.engine import Engine
    from jobs.prefix_cache import PrefixCache

    resume, finish = jobs.train.Trainer.resume, jobs.session.write_summary

    def resumed(trainer: jobs.train.Trainer) -> int:
        step = resume(trainer)
        notes.end(Phase.START)
        return step

    def finished(*arguments: Any) -> None:
        notes.begin(Phase.FINISH)
        finish(*arguments)

    jobs.train.Trainer.resume = resumed  # type: ignore[method-assign]
    jobs.session.write_summary = finished
    note_calls(notes, Phase.FILL, PrefixCache, "fill")
    note_calls(notes, Phase.STEPS, Engine, "step")
    note_calls(notes, Phase.VALIDATION, jobs.train.Trainer, "_measure")
    note_calls(notes, Phase.CHECKPOINT, jobs.train, "save_checkpoint")


def main() -> int:
    control, run = Path(sys.argv[1]), RunDirectory(Path(sys.argv[2]).absolute())
    attempt = int(sys.argv[sys.argv.index("--attempt") + 1])
    notes = Notebook(control / "notes" / f"{run.job_id}.jsonl", attempt)
    notes.begin(Phase.START)
    LockLog(control / "locks" / f"{run.job_id}.jsonl", attempt).install(program, files)
    failing_writes.install()
    if read_order(run).name == "real":
        note_real_training(notes)
    else:
        sys.modules["jobs.session"] = as_session(notes)
    try:
        return program.main(sys.argv[2:])
    finally:
        notes.close()


if __name__ == "__main__":
    sys.exit(main())
