"""A relay on a ledger in PostgreSQL outlives its server's restart."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from memoryos_uow import Ledger
from tests.units import SPACE

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow import Message
    from tests.postgres_server import Server


def test_a_relay_waits_for_a_server_that_restarts(pg_start: Callable[..., Server]) -> None:
    """What is published before and after is delivered, by one and the same relay."""
    server, stop = pg_start(), threading.Event()
    came = {"before": threading.Event(), "after": threading.Event()}

    def sink(message: Message) -> None:
        came[message.topic].set()

    with Ledger.open(server.url()) as ledger:
        relay = threading.Thread(target=lambda: ledger.relay(sink, stop=stop))
        relay.start()
        try:
            ledger.run(lambda uow: uow.publish("before", {}), space_id=SPACE, band="GREEN")
            assert came["before"].wait(30)
            server.restart()
            ledger.run(lambda uow: uow.publish("after", {}), space_id=SPACE, band="GREEN")
            assert came["after"].wait(30)
        finally:
            stop.set()
            relay.join(30)
    assert not relay.is_alive()
