"""A ledger behind a real PgBouncer that lends its connections for one transaction each."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import Ledger
from memoryos_uow.stores import DocumentStore
from tests.engines.pg_engines import name_of
from tests.engines.test_pg_connecting import pgbouncer

if TYPE_CHECKING:
    from pathlib import Path

    from memoryos_uow.unit import UnitOfWork
    from tests.postgres_server import Server

pytestmark = pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="PgBouncer is not installed")


def test_everything_works_through_a_pooler(pg_server: Server, pg_url: str, tmp_path: Path) -> None:
    """From the first opening to verification, with more threads than the pooler has connections."""

    def add(uow: UnitOfWork) -> None:
        found = uow["notes"].get("counter")
        uow["notes"].upsert("counter", {"n": found["n"] + 1 if found else 1})
        uow.publish("added", {})

    with pgbouncer(pg_server, tmp_path, "transaction") as port:
        url = f"postgresql://postgres@127.0.0.1:{port}/{name_of(pg_url)}"
        with Ledger.open(url, stores=[DocumentStore("notes")]) as ledger:

            def work(name: int) -> None:
                for number in range(5):
                    ledger.run(add, space_id="s", band="GREEN", attempts=1000, idempotency_key=f"{name} {number}")

            threads = [threading.Thread(target=work, args=(name,)) for name in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert ledger["notes"].get("counter", space_id="s") == {"n": 30}
            assert sorted(ledger["notes"].keys(space_id="s")) == ["counter"]
            assert ledger.relay(lambda _: None, until_empty=True).delivered == 30
            assert ledger.verify().ok
            assert ledger.validate() == []
