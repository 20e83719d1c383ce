"""The room for a run, before it is queued: what is counted refuses, an estimate warns."""

from __future__ import annotations

import pytest

from daemon.submit.checks import SubmitChecks, Wanted
from daemon.submit.placing import Request, place_jobs
from jobs.config.config import Preset, setting_names
from jobs.errors import InvalidInput, WorkspaceError
from jobs.paths import Workspace
from jobs.resources.preflight import MemoryLimits


def remarks(workspace: Workspace, wanted: Wanted, *, shared: bool = False) -> list[str]:
    return SubmitChecks(workspace, shared=shared).check([wanted])[0]


def give(patch: pytest.MonkeyPatch, memory: int = 10**12, disk: int = 10**12) -> None:
    """Let the machine have so many bytes."""
    patch.setattr(
        "daemon.submit.resources.memory_limits", lambda *device: MemoryLimits(memory, memory)
    )
    patch.setattr("daemon.submit.resources.free_bytes", lambda folder: disk)


def test_a_machine_with_room_says_nothing(
    workspace: Workspace, preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch)
    assert remarks(workspace, Wanted(preset.config, evaluated=True)) == []


# The tiny model: 4 blocks of 36,992 weights and two matrices of 512 x 64, all float32 on a CPU.
BLOCK, MATRIX = 4 * 36_992, 4 * 512 * 64


def test_what_every_step_needs_is_refused_and_what_is_estimated_is_told(
    workspace: Workspace, preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Wanted(preset.config)
    kept = 2 * BLOCK + MATRIX  # two adapted blocks, and the head
    give(monkeypatch, memory=kept)
    with pytest.raises(InvalidInput, match="are needed at one time") as refused:
        remarks(workspace, wanted)
    assert "Take a smaller model. Lower batch_size" in (refused.value.hint or "")
    (said,) = remarks(workspace, wanted, shared=True)
    assert said.endswith("Another machine has to run it.")

    give(monkeypatch, memory=int(1.2 * kept))
    (said,) = remarks(workspace, wanted)
    assert "(an estimate)" in said
    assert "it may run out of it" in said
    # An answer takes the weights of all blocks at once.
    with pytest.raises(InvalidInput, match="are needed at one time"):
        remarks(workspace, Wanted(preset.config, evaluated=True))


def test_a_cap_and_slower_ways_are_told(
    workspace: Workspace, preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch)

    def said(memory: str, **changes: object) -> list[str]:
        update = {"memory": memory, **changes}
        return remarks(workspace, Wanted(preset.config.model_copy(update=update)))

    assert said("1GB") == []
    with pytest.raises(InvalidInput, match=r"are needed at one time .* memory: 0\.1MB allows less"):
        said("0.1MB")
    # What no way of computing fits into, and what one may.
    (never,) = said(f"{(2 * BLOCK + MATRIX) / 1e6 + 0.1:.6f}MB")
    assert "it may run out of it" in never
    large = {"batch_size": 64, "max_seq_length": 96}
    figures = [text for mb in range(2, 60, 2) for text in said(f"{mb}MB", **large)]
    assert any("a slower way that takes less" in text for text in figures)


def test_the_disk_is_compared_as_the_job_compares_it(
    workspace: Workspace, preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Wanted(preset.config)
    give(monkeypatch, disk=9_000_000)
    with pytest.raises(WorkspaceError, match="Not enough disk space"):
        remarks(workspace, wanted)
    (said,) = remarks(workspace, wanted, shared=True)
    assert said.startswith("Not enough disk space")
    give(monkeypatch, disk=15_000_000)
    (said,) = remarks(workspace, wanted)
    assert said.startswith("Disk space is tight")
    # An evaluation writes no checkpoint.
    give(monkeypatch, disk=9_000_000)
    assert remarks(workspace, Wanted(preset.config, evaluated=True, trains=False)) == []


def test_settings_by_which_no_check_goes_are_settings(preset: Preset) -> None:
    from daemon.submit.checks import NOT_CHECKED
    from daemon.submit.resources import ROOM_SETTINGS

    names = set(type(preset.config).model_fields)
    assert NOT_CHECKED.keys() <= names
    assert set(ROOM_SETTINGS) <= names
    assert not set(ROOM_SETTINGS) & NOT_CHECKED.keys()
    assert set(NOT_CHECKED) <= set(setting_names())


def test_frozen_data_keep_the_name_that_their_owner_knows(
    workspace: Workspace, preset: Preset
) -> None:
    first, _ = place_jobs([Request(preset)], workspace)[0]
    data = preset.config.data.model_copy(update={"train": first.train.path})
    frozen = preset.model_copy(
        update={"config": preset.config.model_copy(update={"data": data, "max_seq_length": 8})}
    )
    names = {first.train.path: "mine.jsonl"}
    with pytest.raises(InvalidInput, match=r"^mine\.jsonl: no example is left"):
        place_jobs([Request(frozen, names=names)], workspace)
    again = frozen.model_copy(
        update={"config": frozen.config.model_copy(update={"max_seq_length": 96})}
    )
    spec, _ = place_jobs([Request(again, names=names)], workspace)[0]
    assert (spec.train.source, spec.train.path) == ("mine.jsonl", first.train.path)
