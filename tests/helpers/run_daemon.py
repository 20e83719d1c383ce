"""A daemon in a process of its own, with settings that a test gives.

``python -P run_daemon.py WORKSPACE SETTINGS``, where SETTINGS are the fields of
:class:`daemon.settings.Settings` as JSON, and of the machine ``programs``: where others listen that
may hold GPU memory (else none is asked), and ``power``: a file that says how it is fed. The URL of
a shared Redis comes by the environment, as a user gives it: in an argument, its password would be
for all to see.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from daemon.night.night import Night
from daemon.night.power import Power, PowerWatch
from daemon.night.programs import Programs
from daemon.night.settings import NightSettings
from daemon.settings import Settings
from daemon.times import Window
from jobs.errors import FarenseError
from jobs.paths import Workspace
from jobs.storage.files import read_json
from tests.helpers import failing_writes


def main() -> int:
    failing_writes.install()
    from daemon.worker.consumer import run_daemon  # loads the modules that write

    values = json.loads(sys.argv[2])
    values["child"] = tuple(values["child"])
    values.setdefault("redis_url", os.environ.get("FARENSE_REDIS_URL"))
    if "window" in values:
        values["window"] = Window.parse(values["window"])
    listen = {name: tuple(place) for name, place in values.pop("programs", {}).items()}
    workspace, fed = Workspace(Path(sys.argv[1])), values.pop("power", None)
    power = PowerWatch() if fed is None else PowerWatch(lambda: Power(*read_json(Path(fed))))
    try:
        night = Night(NightSettings.of(workspace), power, Programs(listen))
        run_daemon(workspace, Settings(**values), night)
    except FarenseError as error:
        sys.stderr.write(error.message)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
