"""The settings of a daemon's machine: a file, changed by the environment."""

from __future__ import annotations

import pytest

from daemon.night.settings import NightSettings, Rest
from jobs.errors import ConfigError
from jobs.paths import REPOSITORY, Workspace


def test_a_workspace_without_the_file_has_the_defaults(workspace: Workspace) -> None:
    workspace.night_settings.unlink(missing_ok=True)
    assert NightSettings.of(workspace, {}) == NightSettings()


def test_the_file_that_we_ship_says_the_defaults() -> None:
    assert NightSettings.of(Workspace(REPOSITORY), {}) == NightSettings()
    assert Workspace(REPOSITORY).night_settings.is_file()


def test_the_environment_says_more_than_the_file(workspace: Workspace) -> None:
    path = workspace.night_settings
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("battery_floor: 20\nunload: [ollama]\non_event: say 'a job'\n")
    found = NightSettings.of(
        workspace,
        {"FARENSE_BATTERY_FLOOR": "30", "FARENSE_REST": "{after_minutes: 60, minutes: 2}"},
    )
    assert found.battery_floor == 30
    assert found.unload == ("ollama",)
    assert found.on_event == ("say", "a job")
    assert found.rest == Rest(after_minutes=60, minutes=2)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"FARENSE_BATTERY_FLOOR": "120"}, "FARENSE_BATTERY_FLOOR:\n  battery_floor: .*99.*120"),
        ({"FARENSE_UNLOAD": "olama"}, "unload.*'ollama' or 'lmstudio'.*olama"),
        ({"FARENSE_ON_EVENT": "say 'a"}, "on_event: No closing quotation"),
        ({"FARENSE_REST": "{after: 60}"}, "rest.after_minutes: required"),
        ({"FARENSE_REST": "hourly"}, r"rest: expected \{after_minutes: 60, minutes: 2\}"),
    ],
)
def test_what_is_not_allowed_is_said(
    workspace: Workspace, variables: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        NightSettings.of(workspace, variables)


def test_an_unknown_key_of_the_file_is_named(workspace: Workspace) -> None:
    path = workspace.night_settings
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("batery_floor: 20\n")
    with pytest.raises(ConfigError, match=r"(?s)night.yaml.*batery_floor: unknown key"):
        NightSettings.of(workspace, {})
