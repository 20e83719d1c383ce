"""`farense workers`: the daemons of a queue, as they tell of themselves, or others for them."""

from __future__ import annotations

import json
import time
from typing import Any

import orjson

from daemon.queue.broker import Broker
from daemon.queue.embedded_server import EmbeddedServer
from daemon.settings import Settings
from daemon.store import keys
from jobs.paths import Workspace
from tests.cli.conftest import Run
from tests.helpers.servers import Daemons
from tests.helpers.trials import harmless
from tests.helpers.waiting import wait_until

CARD: dict[str, Any] = {
    "name": "mac:1", "workspace": "/w", "queue": "default", "job": None, "held_because": None,
    "silence_seconds": 30.0,
}  # fmt: skip


def test_a_daemon_is_listed_while_it_runs(
    invoke: Run, workspace: Workspace, daemons: Daemons
) -> None:
    daemon = daemons.start()
    wait_until(lambda: invoke("workers").out, "the daemon's card")
    (card,) = json.loads(invoke("workers", "--json").out)
    assert (card["workspace"], card["alive"]) == (str(workspace.root), True)
    assert card["name"].endswith(f":{daemon.pid}")


def test_cards_that_are_none_are_left_out(
    invoke: Run, workspace: Workspace, server: EmbeddedServer
) -> None:
    broker = Broker(workspace, Settings())
    odd: list[dict[str, Any]] = [
        {"name": 1},
        {"job": ["x"]},
        {"workspace": {}},
        {"silence_seconds": "x"},
        {"more": 1},
    ]
    cards = [orjson.dumps({**CARD, "at": time.time(), **values}) for values in odd]
    for number, card in enumerate([*cards, b"", b"[]", b"\x80\x05."]):
        broker.redis.hset(keys.WORKERS, f"odd{number}", card)
    escape = {**CARD, "name": "\x1b[31mmac", "job": "a\nb", "at": time.time()}
    broker.redis.hset(keys.WORKERS, "good", orjson.dumps(escape))
    done = invoke("workers")
    assert (done.code, done.err) == (0, "")
    assert harmless(done.out)
    assert "?[31mmac" in done.out
    assert len(done.out.splitlines()) == 2
    assert broker.redis.hlen(keys.WORKERS) == 1
    broker.close()


def test_what_is_to_be_known_of_its_power_has_a_column(
    invoke: Run, workspace: Workspace, server: EmbeddedServer
) -> None:
    broker = Broker(workspace, Settings())
    cards = {"mac:1": None, "mac:2": "on battery power (43 %)"}
    for name, power in cards.items():
        card = {**CARD, "name": name, "at": time.time(), "power": power}
        broker.redis.hset(keys.WORKERS, name, orjson.dumps(card))
        shown = invoke("workers").out
        assert ("POWER" in shown) == (power is not None)
    assert "on battery power (43 %)" in shown
    broker.close()
