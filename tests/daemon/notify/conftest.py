"""A server that receives messages, and addresses that lead to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from daemon.notify.addresses import Address, add_address
from daemon.notify.kinds import DEFAULT, NoticeKind
from jobs.paths import Workspace
from tests.helpers.receiver import Receiver

Add = Callable[..., Address]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A server on 127.0.0.1."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def add(workspace: Workspace) -> Add:
    """Adds the address of a receiver."""

    def add(receiver: Receiver, kinds: Sequence[NoticeKind] = DEFAULT, name: str = "r") -> Address:
        return add_address(workspace, receiver.address, kinds, name, "JSON")

    return add
