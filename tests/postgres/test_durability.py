"""How durable commits are: recorded in the ledger when that changes, and told to whoever asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from memoryos_uow import Ledger
from memoryos_uow.errors import LedgerError
from tests.both import rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.postgres_server import Server

_RECORDED = "SELECT fsync, synchronous_commit, standbys FROM uow_durability ORDER BY since_ts"


def test_what_the_server_gives_is_written_down(pg_start: Callable[..., Server]) -> None:
    """Once for each change that opening finds; what commits wait for is told."""
    server = pg_start()
    with Ledger.open(server.url()) as ledger:
        assert ledger.durability == ("full", True, "")
    with Ledger.open(server.url(), durability="normal") as ledger:
        assert ledger.durability == ("normal", False, "")
    assert rows(server.url(), _RECORDED) == [("on", "on", "")]
    replica = server.replica(synchronous=True)
    server.configure(synchronous_commit="local")
    with Ledger.open(server.url()) as ledger:
        assert ledger.durability == ("full", True, "replica1")
        with ledger.unit(space_id="s", band="GREEN") as uow:
            uow["notes"].create("n", {})
        assert rows(replica.url(), "SELECT status FROM unit_of_work") == [("committed",)]
    with Ledger.open(replica.url()) as ledger:
        assert ledger.read_only
        assert ledger["notes"].get("n", space_id="s") == {}
    assert rows(server.url(), _RECORDED) == [("on", "on", ""), ("on", "local", "replica1")]
    replica.stop()
    server.stop()


def test_a_server_that_syncs_nothing(pg_start: Callable[..., Server]) -> None:
    """Durability full is refused with nothing changed; normal is told for what it is."""
    server = pg_start(fsync="off")
    with pytest.raises(LedgerError, match="fsync = off"):
        Ledger.open(server.url())
    assert rows(server.url(), "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    with Ledger.open(server.url(), durability="normal") as ledger:
        assert not ledger.durability.survives_power_cut
    server.stop()


def test_a_file_is_synced_by_the_library_itself(tmp_path: Path) -> None:
    """There is nothing to find out about it."""
    with Ledger.open(tmp_path / "memory.db") as ledger:
        assert ledger.durability == ("full", True, "")
