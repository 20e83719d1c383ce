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
from jobs.errors import ExitCode
from jobs.paths import RunDirectory
from jobs.spec import read_spec
from jobs.storage import files
from tests.helpers import failing_writes
from tests.helpers.lock_log import LockLog
from tests.helpers.made_up_training import as_session
from tests.helpers.phase_notes import Notebook, Phase


def note_calls(notes: Notebook, phase: Phase, owner: Any, name: str) -> None:
    """Wrap a function: while it runs, the phase is ``phase``, and no step is taken."""
    function: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(function)
    def noted(*arguments: Any, **options: Any) -> Any:
        notes.leave(Phase.STEPS)
        with notes.during(phase):
            return function(*arguments, **options)

    setattr(owner, name, noted)


def before_call(owner: Any, name: str, note: Callable[[], None]) -> None:
    """Wrap a function: note something before it runs."""
    function: Callable[..., Any] = getattr(owner, name)

    def noted(*arguments: Any) -> Any:
        note()
        return function(*arguments)

    setattr(owner, name, noted)


def after_call(owner: Any, name: str, note: Callable[[], None]) -> None:
    """Wrap a function: note something after it has run."""
    function: Callable[..., Any] = getattr(owner, name)

    def noted(*arguments: Any) -> Any:
        result = function(*arguments)
        note()
        return result

    setattr(owner, name, noted)


def finish(notes: Notebook) -> None:
    """Note that the last phase begins."""
    notes.leave(Phase.STEPS)
    notes.begin(Phase.FINISH)


def note_real_training(notes: Notebook) -> None:
    """Note the phases of the real training; it finishes while it writes its summary."""
    import jobs.training.trainer
    from jobs.prefix.cache import PrefixCache
    from jobs.training import session

    after_call(jobs.training.trainer.Trainer, "resume", lambda: notes.end(Phase.START))
    before_call(session, "write_summary", lambda: finish(notes))
    note_calls(notes, Phase.FILL, PrefixCache, "fill")
    before_call(jobs.training.trainer.Trainer, "_step", lambda: notes.enter(Phase.STEPS))
    note_calls(notes, Phase.VALIDATION, jobs.training.trainer.Trainer, "_measure")
    note_calls(notes, Phase.CHECKPOINT, jobs.training.trainer, "save_checkpoint")


def main() -> int:
    control, run = Path(sys.argv[1]), RunDirectory(Path(sys.argv[2]).absolute())
    attempt = int(sys.argv[sys.argv.index("--attempt") + 1])
    notes = Notebook(control / "notes" / f"{run.job_id}.jsonl", attempt)
    notes.begin(Phase.START)
    LockLog(control / "locks" / f"{run.job_id}.jsonl", attempt).install(program, files)
    failing_writes.install()
    if read_spec(run).name == "real":
        note_real_training(notes)
    else:
        sys.modules["jobs.training.session"] = as_session(notes)
    code = program.main(sys.argv[2:])
    notes.close(broken=code != ExitCode.OK)
    return code


if __name__ == "__main__":
    sys.exit(main())
