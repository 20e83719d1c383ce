"""Addresses: kept for the user alone, and shown without anything that may be secret."""

from __future__ import annotations

import json
import stat

import pytest

from daemon.notify.addresses import (
    add_address,
    all_addresses,
    any_address,
    redacted_address,
    remove_address,
)
from daemon.notify.delivery import service_of
from daemon.notify.kinds import DEFAULT, NoticeKind, kinds_in
from daemon.notify.paths import NotifyFolder
from jobs.errors import ConfigError, InvalidInput, WorkspaceError
from jobs.paths import Workspace


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("json://me:pw@example.org:8080/path?token=1", "json://example.org:8080"),
        ("jsons://example.org", "jsons://example.org"),
        ("mailto://me:pw@gmail.com", "mailto://gmail.com"),
        ("https://hooks.slack.com/services/T/B/C", "https://hooks.slack.com"),
        ("json://[::1]:80/x", "json://[::1]:80"),
        # What stands in the place of the host is the secret itself.
        ("tgram://123:abc/42", "tgram://..."),
        ("ntfy://my-topic", "ntfy://..."),
        ("discord://id/token", "discord://..."),
        ("TGRAM://x", "tgram://..."),
        # Passwords with signs that mean something in a URL.
        ("json://me:p/w@example.org/x", "json://..."),
        ("json://me:p?w@example.org", "json://..."),
        ("json://me:p#w@example.org", "json://..."),
        ("json://me:p@w@example.org", "json://..."),
        ("json://me:123/x@example.org", "json://..."),
        ("json://me:pw", "json://..."),
        ("me:pw@example.org", "(not an address)"),
    ],
)
def test_nothing_secret_is_shown(url: str, shown: str) -> None:
    assert redacted_address(url) == shown


def test_it_is_kept_for_the_user_alone(workspace: Workspace) -> None:
    address = add_address(workspace, "json://me:pw@127.0.0.1/secret", DEFAULT, None, "JSON")
    path = NotifyFolder.of(workspace).addresses
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert "secret" not in repr(address)
    assert all_addresses(workspace) == [address]


def test_names_are_made_of_the_service_and_stay_apart(workspace: Workspace) -> None:
    def add(url: str, name: str | None = None) -> str:
        return add_address(workspace, url, DEFAULT, name, "E-Mail").name

    assert [add("json://a"), add("json://b"), add("json://c", "phone")] == [
        "e-mail",
        "e-mail-2",
        "phone",
    ]
    assert add("json://b") == "e-mail-2"  # the same again
    with pytest.raises(InvalidInput, match="Another address is called phone"):
        add("json://d", "phone")
    with pytest.raises(InvalidInput, match="cannot be the name"):
        add("json://d", "tgram://secret")


def test_an_address_that_is_added_again_has_its_new_kinds(workspace: Workspace) -> None:
    add_address(workspace, "json://a", DEFAULT, None, "JSON")
    add_address(workspace, "json://a", (NoticeKind.BEST,), None, "JSON")
    assert [address.kinds for address in all_addresses(workspace)] == [(NoticeKind.BEST,)]


def test_without_addresses_there_is_no_file(workspace: Workspace) -> None:
    add_address(workspace, "json://a", DEFAULT, "one", "JSON")
    assert any_address(workspace, {})
    assert remove_address(workspace, "one").url == "json://a"
    assert not any_address(workspace, {})
    with pytest.raises(InvalidInput) as caught:
        remove_address(workspace, "tgram://secret")
    assert "secret" not in str(caught.value) + str(caught.value.hint)


def test_the_environment_adds_some(workspace: Workspace) -> None:
    add_address(workspace, "json://a", DEFAULT, "json", "JSON")
    environment = {"FARENSE_NOTIFY": " json://b\n json://a ntfy://c "}
    found = all_addresses(workspace, environment)
    assert [(a.name, a.url, a.added) for a in found] == [
        ("json", "json://a", True),
        ("json-2", "json://b", False),
        ("ntfy", "ntfy://c", False),
    ]
    environment["FARENSE_NOTIFY_ON"] = "failed, best"
    assert all_addresses(workspace, environment)[1].kinds == (NoticeKind.FAILED, NoticeKind.BEST)
    with pytest.raises(ConfigError, match="FARENSE_NOTIFY_ON: 'faild' is no kind of message"):
        all_addresses(workspace, environment | {"FARENSE_NOTIFY_ON": "faild"})


def test_a_damaged_file_is_told_without_what_stands_there(workspace: Workspace) -> None:
    add_address(workspace, "json://secret", DEFAULT, None, "JSON")
    path = NotifyFolder.of(workspace).addresses
    for damage in ('{"addresses": "json://secret"', json.dumps({"addresses": ["json://secret"]})):
        path.write_text(damage)
        with pytest.raises(WorkspaceError, match="is damaged") as caught:
            all_addresses(workspace, {})
        assert "secret" not in str(caught.value)


def test_kinds_are_chosen_by_name() -> None:
    assert kinds_in("best,failed") == (NoticeKind.FAILED, NoticeKind.BEST)
    assert kinds_in("Early-Stopped") == (NoticeKind.EARLY_STOPPED,)
    assert kinds_in("all") == tuple(NoticeKind)
    for wrong in ("", " , ", "faild", "json://secret"):
        with pytest.raises(InvalidInput) as caught:
            kinds_in(wrong)
        assert "secret" not in str(caught.value) + str(caught.value.hint)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("hello secret", "it has no scheme"),
        ("ntfyy://secret", "apprise knows no service ntfyy://"),
        ("tgram://secret", "apprise cannot make sense of that tgram:// address"),
    ],
)
def test_what_apprise_cannot_use_is_refused_without_being_repeated(url: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        service_of(url)
    assert words in caught.value.message
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"


def test_apprise_says_what_the_service_is_called() -> None:
    assert service_of("json://me:pw@127.0.0.1:1/x") == "JSON"
