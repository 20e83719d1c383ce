"""`farense doctor`: is everything there for a night of training? Starts and changes nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from daemon import doctor_machine, doctor_preset, doctor_queue, doctor_room
from daemon.findings import Checkup, Finding
from daemon.settings import Settings
from jobs.config import Preset, TrainConfig
from jobs.dataset import Tokenizer
from jobs.device import Device, ask_device
from jobs.needs import Needs, estimate
from jobs.paths import Workspace
from jobs.preflight import memory_limits


def examine(preset: Preset, workspace: Workspace) -> list[Finding]:
    """Return what every check found, in the order in which a person would look.

    The room for a run is estimated where model and data are usable.
    """
    checkup = Checkup()
    device = _machine(checkup, preset)
    _queue(checkup, workspace)
    _preset(checkup, preset, workspace, device)
    return checkup.findings


def _machine(checkup: Checkup, preset: Preset) -> Device | None:
    checkup.add("python", doctor_machine.python_finding)
    checkup.add("packages", doctor_machine.packages_finding)
    useful = max(preset.config.batch_size, preset.config.gradient_accumulation)
    device = checkup.ask("device", partial(ask_device, useful))
    if device:
        checkup.add("device", partial(doctor_machine.device_finding, device))
    checkup.add("sleep", doctor_machine.sleep_finding)
    checkup.add("notebook", doctor_machine.notebook_finding)
    return device


def _queue(checkup: Checkup, workspace: Workspace) -> None:
    checkup.add("workspace", partial(doctor_queue.workspace_finding, workspace))
    checkup.add("private", partial(doctor_queue.private_finding, workspace))
    if settings := checkup.ask("settings", Settings.from_environment):
        checkup.add("queue", partial(doctor_queue.queue_finding, workspace, settings))
    checkup.add("daemon", partial(doctor_queue.daemon_finding, workspace))


def _preset(checkup: Checkup, preset: Preset, workspace: Workspace, device: Device | None) -> None:
    config = preset.config
    folder = checkup.ask("model", partial(workspace.inside, config.model))
    tokenizer = _model(checkup, folder, config, device) if folder else None
    report = checkup.ask("data", partial(doctor_preset.data_report, config, workspace, tokenizer))
    if report:
        checkup.add("data", partial(doctor_preset.data_finding, report))
        checkup.add("leakage", partial(doctor_preset.leakage_finding, report))
        if report.usable:
            examples = report.train.examples
            checkup.add("plan", partial(doctor_preset.plan_finding, config, examples))
    if folder and not folder.exists():
        free = partial(doctor_room.free_bytes, workspace.models)
        checkup.add("disk", lambda: doctor_room.download_finding(folder.name, free()))
    elif folder and tokenizer and device and report and report.usable:
        size = doctor_preset.data_size(report, config)
        look = partial(estimate, folder, config, size, metal=device.metal, lanes=device.lanes)
        if needs := checkup.ask("memory", look):
            _room(checkup, preset, workspace, device, needs, report.train.examples)


def _model(
    checkup: Checkup, folder: Path, config: TrainConfig, device: Device | None
) -> Tokenizer | None:
    """Look at the model; return its tokenizer where both load."""
    whole = checkup.add("model", partial(doctor_preset.model_finding, folder, config))
    if not whole or not device:  # without a device, MLX may take this process down
        return None
    return checkup.ask("model", partial(doctor_preset.load_lazily, folder))


def _room(
    checkup: Checkup,
    preset: Preset,
    workspace: Workspace,
    device: Device,
    needs: Needs,
    examples: int,
) -> None:
    config = preset.config
    measured = checkup.ask("memory", partial(doctor_room.measured_memory, workspace, config))
    checkup.add(
        "memory",
        lambda: doctor_room.memory_finding(
            needs, memory_limits(*device.memory), config, metal=device.metal, measured=measured
        ),
    )
    checkup.add(
        "disk",
        lambda: doctor_room.disk_finding(
            doctor_room.run_disk_needed(needs, config, workspace, examples),
            doctor_room.free_bytes(workspace.runs),
        ),
    )
