"""Gathering, limits, tries: a sender with its clock and its couriers in the hand of the test."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from daemon.notify.addresses import Address, add_address, remove_address
from daemon.notify.delivery import Delivered, Delivery
from daemon.notify.happening import Happening, What, put_down
from daemon.notify.kinds import DEFAULT, NoticeKind
from daemon.notify.paths import NotifyFolder
from daemon.notify.sender import GIVEN_UP_AFTER, Sender
from jobs.paths import Workspace

START = datetime(2026, 11, 28, 23, tzinfo=UTC).timestamp()
AWAY = Delivered(False, "the service could not be reached, or did not answer in time")


class FakeCourier:
    """A delivery that ends as the test says."""

    def __init__(self, question: dict[str, Any], end: Callable[[], Delivered | None]) -> None:
        self.question, self._end = question, end
        self.killed = False

    def poll(self) -> Delivered | None:
        found = self._end()
        if found is not None and found.ok:
            for path in self.question["done"]:
                Path(path).unlink(missing_ok=True)
        return found

    def kill(self) -> None:
        self.killed = True


@dataclass
class Stage:
    """A sender, and what it was asked to carry."""

    workspace: Workspace
    on_event: tuple[str, ...] | None = None
    now: float = START
    end: Delivered | None = field(default_factory=lambda: Delivered(True))
    sent: list[dict[str, Any]] = field(default_factory=list)
    couriers: list[FakeCourier] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sender = self.new_sender()

    def new_sender(self) -> Sender:
        return Sender(self.workspace, self.on_event, start=self._start, clock=lambda: self.now)

    def _start(self, question: dict[str, Any]) -> Delivery:
        courier = FakeCourier(question, lambda: self.end)
        self.couriers.append(courier)
        self.sent.append(question)
        return cast(Delivery, courier)

    def happened(self, what: What, number: int = 0, **detail: Any) -> None:
        at = datetime.fromtimestamp(self.now, UTC).isoformat()
        job = f"20261128-22{number // 60 % 60:02}{number % 60:02}-v2-{_letters(number)}"
        subject = job if what is What.JOB_ENDED else None
        put_down(NotifyFolder.of(self.workspace), Happening(what, subject, detail, at))

    def failed(self, number: int = 0, reason: str = "the data are no good") -> None:
        self.happened(What.JOB_ENDED, number, state="failed", reason=reason)

    def later(self, seconds: float) -> list[str]:
        """Let time pass, second by second; return the titles of what was sent meanwhile."""
        before = len(self.sent)
        until = self.now + seconds
        self.sender.tick()
        while self.now < until:
            self.now += min(max(self.sender.tick(), 0.5), until - self.now)
        self.sender.tick()
        return [question.get("title", "command") for question in self.sent[before:]]

    def log(self) -> list[dict[str, Any]]:
        path = self.workspace.daemon_log
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]


def _letters(number: int) -> str:
    return "".join(chr(97 + number // 26**place % 26) for place in range(4))


@pytest.fixture
def address(workspace: Workspace) -> Address:
    return add_address(workspace, "json://127.0.0.1:9/secret", DEFAULT, "phone", "JSON")


@pytest.fixture
def stage(workspace: Workspace, address: Address) -> Stage:
    assert address.name == "phone"
    return Stage(workspace)


def test_one_matter_is_one_message(stage: Stage) -> None:
    stage.failed()
    assert stage.later(0) == ["v2 failed"]
    assert "the data are no good" in stage.sent[0]["body"]
    assert stage.later(3600) == []
    assert not list(NotifyFolder.of(stage.workspace).outbox.rglob("*.json"))


def test_a_thousand_failures_are_a_handful_of_messages(stage: Stage) -> None:
    stage.failed(0)
    stage.later(1)
    for number in range(1, 1000):
        stage.failed(number, reason=f"the data are no good: {number % 2}")
    titles = stage.later(3600)
    assert titles == ["999 jobs failed"]
    body = stage.sent[1]["body"].splitlines()
    assert body[0].startswith("500 x the data are no good: 1 (the first: 20261128-")
    assert body[-1] == "More: farense status"


def test_no_more_than_one_a_minute_of_a_kind(stage: Stage) -> None:
    for number in range(10):
        stage.failed(number)
        stage.later(30)
    assert len(stage.sent) == 6  # at 0, 60, 120, ... 300 s
    assert sum(int(q["title"].partition(" ")[0] == "2") for q in stage.sent) == 4


def test_kinds_do_not_wait_for_each_other(stage: Stage) -> None:
    stage.failed()
    stage.happened(What.QUEUE_EMPTY, ended={"failed": 1})
    assert len(stage.later(5)) == 2


def test_the_limit_holds_across_a_restart(stage: Stage) -> None:
    stage.failed(0)
    stage.later(1)
    stage.failed(1)
    stage.sender = stage.new_sender()
    assert stage.later(30) == []
    assert stage.later(60) == ["v2 failed"]


def test_an_address_that_is_away_is_tried_less_and_less_often(stage: Stage) -> None:
    stage.end = AWAY
    stage.failed(0)
    tries = len(stage.later(3600))
    assert 8 <= tries <= 14
    stage.failed(1)
    stage.end = Delivered(True)
    assert stage.later(1000) == ["2 jobs failed"]  # what came meanwhile goes along
    said = [line["event"] for line in stage.log()]
    assert said == ["notification_not_sent", "notifications_arrive_again", "notification_sent"]
    assert "secret" not in stage.workspace.daemon_log.read_text()


def test_what_waits_survives_the_sender(stage: Stage) -> None:
    stage.end = AWAY
    stage.failed()
    stage.later(1)
    stage.end = Delivered(True)
    stage.sender = stage.new_sender()
    assert stage.later(1) == ["v2 failed"]


def test_what_a_courier_has_sent_is_not_sent_again_by_the_next_sender(stage: Stage) -> None:
    stage.end = None
    stage.failed()
    stage.later(1)
    for path in stage.sent[0]["done"]:  # as the courier does, while its sender is killed
        Path(path).unlink()
    stage.end = Delivered(True)
    stage.sender = stage.new_sender()
    assert stage.later(100) == []


def test_after_a_day_it_is_given_up_and_the_log_says_so(stage: Stage) -> None:
    stage.end = AWAY
    stage.failed()
    stage.later(GIVEN_UP_AFTER + 60)
    last = stage.log()[-1]
    assert last["event"] == "notification_given_up"
    assert last["to"] == "phone (json://127.0.0.1:9)"
    assert last["reason"] == AWAY.why
    stage.end = Delivered(True)
    assert stage.later(3600) == []


def test_an_address_that_cannot_be_one_is_not_tried_again(stage: Stage) -> None:
    stage.end = Delivered(False, "it is not an address that can be sent to", never=True)
    stage.failed()
    assert len(stage.later(3600)) == 1
    assert stage.log()[-1]["event"] == "notification_given_up"


def test_one_that_hangs_does_not_delay_another(stage: Stage, workspace: Workspace) -> None:
    add_address(workspace, "json://127.0.0.1:10/other", DEFAULT, "other", "JSON")
    stage.end = None
    stage.failed()
    stage.later(5)
    assert {question["address"] for question in stage.sent} == {
        "json://127.0.0.1:9/secret",
        "json://127.0.0.1:10/other",
    }


def test_what_waits_for_a_removed_address_is_dropped(stage: Stage, workspace: Workspace) -> None:
    stage.end = None
    stage.failed()
    stage.later(1)
    remove_address(workspace, "phone")
    stage.later(1)
    assert stage.couriers[0].killed
    assert not NotifyFolder.of(workspace).outbox.exists() or not list(
        NotifyFolder.of(workspace).outbox.iterdir()
    )


def test_an_address_that_is_added_hears_of_what_comes_then(workspace: Workspace) -> None:
    stage = Stage(workspace)
    stage.failed(0)
    stage.later(1)
    add_address(workspace, "json://127.0.0.1:9/secret", DEFAULT, "late", "JSON")
    stage.failed(1)
    assert stage.later(1) == ["v2 failed"]


def test_only_what_was_chosen_goes_there(workspace: Workspace) -> None:
    only = (NoticeKind.QUEUE_EMPTY,)
    add_address(workspace, "json://127.0.0.1:9/secret", only, "few", "JSON")
    stage = Stage(workspace)
    stage.failed()
    stage.happened(What.QUEUE_EMPTY, ended={"failed": 1})
    titles = stage.later(120)
    assert len(titles) == 1
    assert titles[0].endswith("is empty")


def test_jobs_held_again_for_the_same_reason_are_not_told_of_again(stage: Stage) -> None:
    for megabytes in (64, 70, 80):
        stage.happened(What.HELD, reason=f"the disk is full: {megabytes} MB must be free")
        stage.later(600)
    assert len(stage.sent) == 1
    stage.happened(What.HELD, reason="the queue does not answer")
    assert len(stage.later(1)) == 1
    stage.later(2 * 3600)
    stage.happened(What.HELD, reason="the disk is full: 64 MB must be free")
    assert len(stage.later(1)) == 1


def test_the_command_gets_every_kind_as_json(workspace: Workspace) -> None:
    stage = Stage(workspace, on_event=("notify", "me"))
    stage.failed()
    assert stage.later(1) == ["command"]
    (question,) = stage.sent
    assert question["command"] == ["notify", "me"]
    event = question["event"]
    assert (event["version"], event["kind"], event["count"]) == (1, "failed", 1)
    (matter,) = event["matters"]
    assert matter["kinds"] == ["failed"]
    assert matter["job"]["state"] == "failed"
    assert matter["about"] == matter["job"]["id"]


def test_what_is_damaged_on_disk_is_passed_over(stage: Stage) -> None:
    folder = NotifyFolder.of(stage.workspace)
    stage.failed()
    (folder.happened / "0-0.json").write_text("{}")
    (folder.happened / "1-0.json").write_bytes(b"\xff")
    folder.standing.write_text('{"last": 5}')
    stage.sender = stage.new_sender()
    assert stage.later(1) == ["v2 failed"]
    assert list(folder.happened.iterdir()) == []
    folder.addresses.write_text('{"addresses": [{"address": "json://secret"}]}')
    stage.failed(1)
    stage.later(1)  # the addresses that were known stay
    assert stage.log()[-1]["event"] == "addresses_not_read"
    assert "secret" not in json.dumps(stage.log())
    assert stage.later(60) == ["v2 failed"]


def test_one_that_cannot_be_made_sense_of_stops_no_other(stage: Stage) -> None:
    stage.happened(What.QUEUE_EMPTY, ended="not a mapping")
    stage.failed()
    assert stage.later(1) == ["v2 failed"]
    assert stage.log()[0]["event"] == "notification_not_made"


def test_a_clock_that_is_put_back_stops_nothing(stage: Stage) -> None:
    stage.failed(0)
    stage.later(1)
    stage.now -= 7200
    stage.failed(1)
    assert stage.later(1) == ["v2 failed"]
