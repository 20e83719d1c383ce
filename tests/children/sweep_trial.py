"""The real training child, a trial of a sweep, keeping the log of its lock.

``python -P sweep_trial.py CONTROL PACE RUN_DIRECTORY --attempt N --pipe FD``: CONTROL is a folder
of the test's. With a PACE of ``real`` the training is real; else it is made up
(:mod:`tests.helpers.made_up_trial`), and a validation takes PACE seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jobs.__main__ as program
from jobs.paths import RunDirectory
from jobs.storage import files
from tests.helpers.lock_log import LockLog
from tests.helpers.made_up_trial import as_session


def main() -> int:
    control, pace, run = Path(sys.argv[1]), sys.argv[2], RunDirectory(Path(sys.argv[3]).absolute())
    attempt = int(sys.argv[sys.argv.index("--attempt") + 1])
    LockLog(control / f"{run.job_id}.jsonl", attempt).install(program, files)
    if pace != "real":
        sys.modules["jobs.training.session"] = as_session(float(pace))
        sys.modules["jobs.evaluation.evaluate"] = as_session(float(pace))
    return program.main(sys.argv[3:])


if __name__ == "__main__":
    sys.exit(main())
