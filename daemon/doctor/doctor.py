"""`farense doctor`: is everything there for a night of training? Starts and changes nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from daemon.doctor import machine as machine_checks
from daemon.doctor import preset as preset_checks
from daemon.doctor import queue as queue_checks
from daemon.doctor import resources as resource_checks
from daemon.doctor.findings import Checkup, Finding
from daemon.doctor.notify import notify_findings
from daemon.night.night import Night
from daemon.settings import Settings
from jobs.backend.device import Device, ask_device
from jobs.config.config import Preset, TrainConfig
from jobs.data.tokenizer import Tokenizer
from jobs.model_store.place import model_folder
from jobs.paths import Workspace
from jobs.resources.estimate import (
    Needs,
    estimate,
    estimate_within,
    measured_memory,
    run_disk_needed,
)
from jobs.resources.preflight import memory_limits
from jobs.resources.ways import Room
from jobs.storage.files import free_bytes


def examine(preset: Preset, workspace: Workspace, night: Night | None = None) -> list[Finding]:
    """Return what every check found, in the order in which a person would look.

    The room for a run is estimated where model and data are usable.

    Args:
        night: of this machine; None for its defaults.
    """
    checkup = Checkup()
    device = _machine(checkup, preset, night or Night())
    _queue(checkup, workspace)
    _preset(checkup, preset, workspace, device)
    return checkup.findings


def _machine(checkup: Checkup, preset: Preset, night: Night) -> Device | None:
    checkup.add("python", machine_checks.python_finding)
    checkup.add("packages", machine_checks.packages_finding)
    useful = max(preset.config.batch_size, preset.config.gradient_accumulation)
    device = checkup.ask("device", partial(ask_device, useful))
    if device:
        checkup.add("device", partial(machine_checks.device_finding, device))
    checkup.add("sleep", machine_checks.sleep_finding)
    checkup.add("power", partial(machine_checks.power_finding, settings=night.settings))
    held, unload = night.programs.make_room, night.settings.unload
    checkup.add("programs", lambda: machine_checks.programs_finding(held(), unload))
    checkup.add("night", partial(machine_checks.night_finding, night.settings))
    checkup.add("notebook", machine_checks.notebook_finding)
    return device


def _queue(checkup: Checkup, workspace: Workspace) -> None:
    checkup.add("workspace", partial(queue_checks.workspace_finding, workspace))
    checkup.add("private", partial(queue_checks.private_finding, workspace))
    if settings := checkup.ask("settings", Settings.from_environment):
        checkup.add("queue", partial(queue_checks.queue_finding, workspace, settings))
    checkup.add("daemon", partial(queue_checks.daemon_finding, workspace, settings))
    services = checkup.ask("daemon", partial(queue_checks.service_findings, workspace))
    checkup.findings.extend(services or ())
    told = checkup.ask("notify", partial(notify_findings, workspace))
    checkup.findings.extend(told or ())


def _preset(checkup: Checkup, preset: Preset, workspace: Workspace, device: Device | None) -> None:
    config = preset.config
    folder = checkup.ask("model", partial(model_folder, workspace, config.model))
    tokenizer = _model(checkup, folder, config, device) if folder else None
    if folder and tokenizer and (named := config.init_from) is not None:
        look_at = partial(preset_checks.start_finding, folder, config, named, workspace)
        checkup.add("start", look_at)
    report = checkup.ask("data", partial(preset_checks.data_report, config, workspace, tokenizer))
    if report:
        checkup.add("data", partial(preset_checks.data_finding, report))
        checkup.add("leakage", partial(preset_checks.leakage_finding, report))
        if report.usable:
            examples = report.train.examples
            checkup.add("plan", partial(preset_checks.plan_finding, config, examples))
    if folder and not folder.exists():
        free = partial(free_bytes, workspace.models)
        checkup.add("disk", lambda: resource_checks.download_finding(folder.name, free()))
    elif folder and tokenizer and device and report and report.usable:
        size = preset_checks.data_size(report, config)
        look = partial(
            estimate, folder, config, size, as_stored=device.as_stored, lanes=device.lanes
        )
        if needs := checkup.ask("memory", look):
            room = Room(memory_limits(*device.memory), config.memory_bytes)
            within = partial(estimate_within, folder, config, size, needs, most=room.most)
            chosen = within(as_stored=device.as_stored, lanes=device.lanes)
            _room(checkup, preset, workspace, device, (needs, chosen), report.train.examples)


def _model(
    checkup: Checkup, folder: Path, config: TrainConfig, device: Device | None
) -> Tokenizer | None:
    """Look at the model; return its tokenizer where both load."""
    whole = checkup.add("model", partial(preset_checks.model_finding, folder))
    fits = whole and checkup.add("adapter", partial(preset_checks.adapter_finding, folder, config))
    if not fits or not device:  # without a device, MLX may take this process down
        return None
    return checkup.ask("model", partial(preset_checks.load_lazily, folder, config))


def _room(
    checkup: Checkup,
    preset: Preset,
    workspace: Workspace,
    device: Device,
    ways: tuple[Needs, Needs],
    examples: int,
) -> None:
    config, (needs, chosen) = preset.config, ways
    measured = checkup.ask("memory", partial(measured_memory, workspace, config))
    checkup.add(
        "memory",
        lambda: resource_checks.memory_finding(
            chosen,
            memory_limits(*device.memory),
            config,
            as_stored=device.as_stored,
            measured=measured,
            plain=needs,
        ),
    )
    checkup.add(
        "disk",
        lambda: resource_checks.disk_finding(
            run_disk_needed(needs, config, workspace, examples),
            free_bytes(workspace.runs),
        ),
    )
