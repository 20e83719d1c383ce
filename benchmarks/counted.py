"""A farense job in this process as its child runs it, and how many graphs it traced.

``python -P -m benchmarks.counted <run directory> --result FILE``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main() -> int:
    """Run the job, write the count and return the job's exit code."""
    parser = argparse.ArgumentParser(prog="python -P -m benchmarks.counted")
    parser.add_argument("run_directory", type=Path)
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args()

    from jobs.__main__ import main as job
    from jobs.training.engine import Engine
    from jobs.training.session import Session

    engines: list[Engine] = []
    made = Session._engine

    def kept(self: Session) -> Engine:
        engines.append(made(self))
        return engines[-1]

    Session._engine = kept  # type: ignore[method-assign]  # it does what it did
    code = job([str(options.run_directory)])
    options.result.write_text(json.dumps({"graphs": sum(engine.traces for engine in engines)}))
    return code


if __name__ == "__main__":
    sys.exit(main())
