"""What `farense doctor` looks at outside the workspace: packages, device, sleep, notebook."""

from __future__ import annotations

import json
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from daemon.doctor.findings import Finding, ok, problem, warning
from daemon.night.power import Power, read_power
from daemon.night.programs import NAMES
from daemon.night.settings import NightSettings, Program
from jobs.backend.blas import MKL_SIZE
from jobs.backend.choice import is_cpu
from jobs.backend.device import Device

# Those whose versions a person asks for first; the others are checked like them.
SHOWN = ("mlx", "mlx-lm", "huey", "redis", "click", "structlog", "orjson")
SET_UP = "Run: make setup"
# A command that fails or hangs, and an answer that is no JSON, or other JSON than it should be.
NO_LISTING = (
    OSError,
    subprocess.SubprocessError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)
ANSWER_SECONDS = 20.0
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
SLEEP = re.compile(r"^\s*sleep\s+(\d+)(.*)$", re.MULTILINE)
NIGHT_FILE = "configs/daemon/night.yaml"
AWAKE = "Plug it in and start the daemon with: caffeinate -is farense daemon"


def python_finding() -> Finding:
    """Compare the Python that runs with the one the project asks for."""
    wanted = distribution("farense").metadata["Requires-Python"] or ""
    running = platform.python_version()
    if SpecifierSet(wanted).contains(running, prereleases=True):
        return ok("python", f"Python {running}, {sys.executable}")
    return problem("python", f"Python {running}; farense needs {wanted}.", SET_UP)


def packages_finding(
    requirements: Iterable[str] | None = None,
    installed: Callable[[str], str | None] = lambda name: installed_version(name),
) -> Finding:
    """Compare the packages that are installed with those the project asks for.

    Args:
        requirements: as a package's metadata has them; by default farense's own.
        installed: returns the version of a package, or None.
    """
    lines = (requires("farense") or []) if requirements is None else requirements
    asked = [Requirement(line) for line in lines]
    wanted = [r for r in asked if r.marker is None or r.marker.evaluate({"extra": ""})]
    found = {r.name: installed(r.name) for r in wanted}
    if missing := [f"{r.name}{r.specifier}" for r in wanted if found[r.name] is None]:
        return problem("packages", f"Not installed: {', '.join(missing)}", SET_UP)
    others = [
        f"{r.name} {found[r.name]} (expected {r.specifier})"
        for r in wanted
        if not r.specifier.contains(found[r.name] or "", prereleases=True)
    ]
    if others:
        return warning("packages", f"Not the versions asked for: {', '.join(others)}", SET_UP)
    return ok("packages", ", ".join(f"{name} {found[name]}" for name in SHOWN if name in found))


def installed_version(name: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def device_finding(
    device: Device,
    system: str = sys.platform,
    machine: str = platform.machine(),
    compiler: str | None = shutil.which("g++"),
    driver: Path = NVIDIA_DRIVER,
) -> Finding:
    """Tell whether what MLX computes with is as fast as this machine can be."""
    if device.as_stored:
        return ok("device", device.name)
    if driver.exists() and not is_cpu():
        return warning(
            "device",
            f"{device.name}; NVIDIA's driver is loaded, but MLX finds no card that it can use.",
            "Install MLX's CUDA build: make setup; or keep to the CPU: FARENSE_BACKEND=cpu",
        )
    if system == "darwin":
        return warning(
            "device",
            "MLX finds no Metal: it computes on the CPU, many times slower.",
            "Use Apple silicon outside a virtual machine, with a native (arm64) Python.",
        )
    if device.blas is None:
        return warning(
            "device", f"{device.name}: 50 times slower than OpenBLAS.", _get_blas(machine)
        )
    if compiler is None:
        return warning(
            "device",
            f"{device.name}, but no g++: MLX cannot compile its kernels, and is slower without.",
            "Install g++ (Debian: apt install g++)",
        )
    return ok("device", f"{device.name}, {device.lanes} at a time")


def _get_blas(machine: str) -> str:
    install = "Install OpenBLAS (Debian: apt install libopenblas0)"
    return (
        f"{install}, or the mkl wheel ({MKL_SIZE}): make setup" if machine == "x86_64" else install
    )


def sleep_finding(settings: str | None = None, system: str = sys.platform) -> Finding:
    """Tell whether the machine stays awake for a night.

    Args:
        settings: what ``pmset -g`` prints; asked for where it is left out.
        system: as ``sys.platform`` names it.
    """
    if system != "darwin":
        return ok("sleep", "not applicable: only a Mac is asked")
    text = _output(["pmset", "-g"]) if settings is None else settings
    found = SLEEP.search(text)
    if re.search(r"^\s*SleepDisabled\s+1\b", text, re.MULTILINE) or (found and found[1] == "0"):
        awake = "this Mac does not go to sleep by itself"
    elif found is None:
        return warning("sleep", "`pmset -g` does not say when this Mac sleeps.", AWAKE)
    elif "caffeinate" in found[2]:
        awake = "caffeinate keeps this Mac awake"
    else:
        return warning(
            "sleep", f"This Mac sleeps after {found[1]} min without use: training pauses.", AWAKE
        )
    if re.search(r"^\s*lowpowermode\s+1\b", text, re.MULTILINE):
        return warning(
            "sleep",
            f"{awake}, but low power mode is on: training is slower.",
            "Turn it off in System Settings > Battery.",
        )
    return ok("sleep", awake)


def power_finding(power: Power | None = None, settings: NightSettings | None = None) -> Finding:
    """Tell whether the machine is fed for a night, and cool.

    Args:
        power: asked for where it is left out.
        settings: of the machine.
    """
    found = power or read_power()
    floor = settings.battery_floor if settings else None
    waits = "" if floor is None else f" Jobs wait below {floor} %."
    if not found.on_mains:
        return warning(
            "power",
            f"{_sentence(found)}: training empties it.{waits}",
            "Plug it in; or let jobs wait: farense daemon --on-mains-only, or battery_floor in "
            f"{NIGHT_FILE}",
        )
    if found.thermal is not None:
        return warning(
            "power",
            f"On mains power, but {found.thermal}: training is slower.",
            f"Let air to it and use its own power adapter; rest in {NIGHT_FILE} lets it cool.",
        )
    charge = "" if found.percent is None else f"; the battery is at {found.percent} %"
    return ok("power", f"on mains power{charge}")


def night_finding(settings: NightSettings) -> Finding:
    """Tell what is set for the daemon's machine; of a command only its name, never its words."""
    rest, command = settings.rest, settings.on_event
    said = {
        **settings.model_dump(mode="json", exclude_defaults=True),
        **({"rest": f"after {rest.after_minutes:g} min for {rest.minutes:g} min"} if rest else {}),
        **({"unload": ", ".join(settings.unload)} if settings.unload else {}),
        **({"on_event": command[0]} if command else {}),
    }
    lines = "; ".join(f"{name}: {value}" for name, value in said.items())
    return ok("night", lines or f"nothing is set in {NIGHT_FILE}: docs/night.md tells what can be")


def programs_finding(lines: Sequence[str], unload: Sequence[Program] = ()) -> Finding:
    """Tell whether other programs hold GPU memory.

    Args:
        lines: what they hold (:meth:`daemon.night.programs.Programs.make_room`).
        unload: those that are asked to let go before a job starts.
    """
    if not lines:
        return ok("programs", "neither Ollama nor LM Studio says that it has a large model loaded")
    asked = tuple(NAMES[program] for program in unload)
    if all(line.startswith(asked) for line in lines):
        return ok("programs", f"{'; '.join(lines)}; asked to let go before a job starts (unload)")
    return warning(
        "programs",
        "; ".join(lines),
        "Let go of it there; or have farense ask before each job: unload: [ollama, lmstudio] in "
        f"{NIGHT_FILE}",
    )


def _sentence(power: Power) -> str:
    said = power.noteworthy or ""
    return said[:1].upper() + said[1:]


def notebook_finding() -> Finding:
    """Tell whether Jupyter, where it is installed, has a kernel that runs this environment."""
    beside = Path(sys.executable).with_name("jupyter")
    jupyter = str(beside) if beside.is_file() else shutil.which("jupyter")
    if jupyter is None:
        return ok("notebook", "Jupyter is not installed; only a notebook would need it")
    command = [jupyter, "kernelspec", "list", "--json"]
    try:
        return kernels_finding(json.loads(_output(command))["kernelspecs"], sys.prefix)
    except NO_LISTING:
        return warning(
            "notebook",
            "Jupyter does not tell which kernels it has; only a notebook needs one.",
            f"See what it says: {shlex.join(command)}",
        )


def kernels_finding(kernels: dict[str, Any], prefix: str) -> Finding:
    """Look through Jupyter's kernels for one of an environment.

    Args:
        kernels: ``kernelspecs`` of ``jupyter kernelspec list --json``.
        prefix: the environment's folder.
    """
    for name, kernel in kernels.items():
        program = (kernel["spec"].get("argv") or [""])[0]
        # The environment's own kernel only says `python`: it is told by where it is kept.
        folder = kernel.get("resource_dir") or ""
        if any(Path(prefix) in Path(path).parents for path in (program, folder)):
            return ok("notebook", f"kernel {kernel['spec'].get('display_name', name)!r}")
    return warning(
        "notebook",
        f"None of Jupyter's kernels ({', '.join(kernels) or 'it has none'}) runs this environment; "
        "only a notebook needs one.",
        "make notebook",
    )


def _output(command: list[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=ANSWER_SECONDS
    )
    return done.stdout
