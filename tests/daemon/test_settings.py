"""Settings from the environment."""

from __future__ import annotations

import pytest

from daemon.settings import Settings, redacted
from jobs.errors import ConfigError


def test_without_variables_the_defaults_hold() -> None:
    assert Settings.from_environment({}) == Settings()
    assert Settings.from_environment({"FARENSE_REDIS_URL": " "}).redis_url is None


def test_variables_are_read() -> None:
    found = Settings.from_environment(
        {
            "FARENSE_REDIS_URL": "rediss://:pw@host/1",
            "FARENSE_GRACE_SECONDS": "5",
            "FARENSE_LEASE_SECONDS": "90.5",
        }
    )
    assert found == Settings("rediss://:pw@host/1", lease_seconds=90.5, grace_seconds=5)


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "inf", "1e9"])
def test_values_that_are_not_allowed_are_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=f"FARENSE_GRACE_SECONDS={value}"):
        Settings.from_environment({"FARENSE_GRACE_SECONDS": value})


def test_no_variable_says_what_code_a_daemon_runs() -> None:
    child = Settings().child
    names = ["FARENSE_CHILD", "FARENSE_COMMAND", "CHILD"]
    assert Settings.from_environment(dict.fromkeys(names, "/bin/sh")).child == child
    assert child[1:] == ("-P", "-m", "jobs")


def test_a_password_is_never_shown() -> None:
    assert redacted("redis://user:pw@host:6379/0?password=pw") == "redis://host:6379/0"
    assert redacted("unix://:pw@/a/b.sock?db=1") == "unix:///a/b.sock"


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:12/34@host:6379/0",
        "redis://user:12?34@host:6379/0",
        "redis://user:12#34@host:6379/0",
        "redis://:12/34@host",
        "unix://:p/w34@/a/b.sock",
        "redis://host/jobs",
        "redis:/host",
        "rediss//host",
    ],
)
def test_a_password_that_ends_its_url_early_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError) as found:
        Settings.from_environment({"FARENSE_REDIS_URL": url})
    assert "34" not in found.value.message
    assert "%2F" in (found.value.hint or "")


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "redis://user:pa%2Fss@[::1]:6379/3?protocol=2",
        "rediss://:pw@host/0?ssl_ca_certs=/home/a@b/ca.pem",
        "unix:///a/b@c.sock",
        "unix://user:pw@/a/b.sock?db=1",
    ],
)
def test_urls_of_redis_are_taken(url: str) -> None:
    assert Settings.from_environment({"FARENSE_REDIS_URL": url}).redis_url == url
