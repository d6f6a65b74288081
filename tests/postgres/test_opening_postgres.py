"""Opening a ledger in a database: what is made ready, and what is refused with the database as it was."""

from __future__ import annotations

from typing import Any, Final

import pytest

from memoryos_uow import Ledger
from memoryos_uow.errors import LedgerError, UnitOfWorkError
from tests.postgres_schemas import LITERAL_1_0_0, make_1_0_0, relations, run, with_options

_FUNCTION: Final = "suppress_redundant_updates_trigger()"
HOOKS: Final = {
    "trigger": f"CREATE TRIGGER mine BEFORE UPDATE ON {{}} FOR EACH ROW EXECUTE FUNCTION {_FUNCTION}",
    "rule": "CREATE RULE mine AS ON DELETE TO {} DO ALSO SELECT 1",
    "policy": "CREATE POLICY mine ON {} USING (true)",
}


def opens(url: str, **options: Any) -> None:
    """Open the ledger, and write a unit to it."""
    with Ledger.open(url, durability="normal", **options) as ledger:
        with ledger.unit(space_id="s", band="GREEN") as uow:
            uow["notes"].upsert("n1", {"text": "milk"})
        assert ledger.validate() == []


def refused(url: str, conn: Any, **options: Any) -> str:
    """Open the ledger, which must be refused with nothing changed; return the error's text."""
    before = relations(conn)
    with pytest.raises(UnitOfWorkError) as caught:
        Ledger.open(url, durability="normal", **options)
    assert relations(conn) == before
    assert "Nothing was changed" in str(caught.value)
    return str(caught.value)


def test_a_ledger_of_1_0_0_is_migrated_and_used(url: str, conn: Any) -> None:
    """Opening is enough, whoever made the tables."""
    make_1_0_0(conn, script=LITERAL_1_0_0)
    opens(url, origin="example.com/kitchen")
    assert conn.execute("SELECT origin FROM uow_identity").fetchone() == ("example.com/kitchen",)
    assert conn.execute("SELECT count(*) FROM unit_of_work").fetchone() == (4,)


def test_migrate_false(url: str, conn: Any) -> None:
    """Without leave to migrate nothing and 1.0.0 are refused, a current ledger is opened."""
    assert "holds no ledger" in refused(url, conn, migrate=False)
    make_1_0_0(conn)
    assert "is a ledger of 1.0.0" in refused(url, conn, migrate=False)
    opens(url)
    opens(url, migrate=False)


@pytest.mark.parametrize("kind", HOOKS)
@pytest.mark.parametrize("table", ["unit_of_work", "uow_documents"])
def test_what_somebody_hung_on_our_tables(url: str, conn: Any, kind: str, table: str) -> None:
    """A trigger, rule or policy on a table of ours is refused, unless the application names it."""
    opens(url)
    run(conn, HOOKS[kind].format(table))
    for allowed in ([], ["theirs"]):
        words = refused(url, conn, allow_triggers=allowed)
        assert f"table {table} has a {kind} 'mine'" in words
        assert "allow_triggers=['mine']" in words
    if kind != "rule":
        opens(url, allow_triggers=["mine"])


def test_a_trigger_that_is_switched_off_does_no_harm(url: str, conn: Any) -> None:
    """What never fires is nobody's concern, and neither is a trigger on the application's own table."""
    opens(url)
    run(conn, "CREATE TABLE mine (name TEXT)")
    run(conn, HOOKS["trigger"].format("mine"))
    run(conn, HOOKS["trigger"].format("uow_ledger"))
    run(conn, "ALTER TABLE uow_ledger DISABLE TRIGGER mine")
    opens(url)


def test_a_trigger_is_refused_before_the_migration(url: str, conn: Any) -> None:
    """A ledger of 1.0.0 with a trigger stays what it is."""
    make_1_0_0(conn)
    run(conn, HOOKS["trigger"].format("unit_of_work"))
    assert "has a trigger 'mine'" in refused(url, conn)


def test_a_role_without_privileges(url: str, conn: Any) -> None:
    """Whoever opens a ledger of somebody else's is told what is missing, before the first unit fails for it."""
    opens(url)
    schema = conn.execute("SELECT current_schema()").fetchone()[0]
    run(
        conn,
        f"GRANT USAGE ON SCHEMA {schema} TO pg_monitor; GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO pg_monitor",
    )
    assert "DELETE, INSERT, UPDATE on unit_of_work" in refused(with_options(url, role="pg_monitor"), conn)
    run(conn, f"GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO pg_monitor")
    opens(with_options(url, role="pg_monitor"))


def test_a_replica_of_an_old_ledger(url: str, conn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can only be read cannot be migrated; it is said so before anything is tried."""
    from memoryos_uow.engines.postgres import PostgresEngine

    make_1_0_0(conn)
    whole = PostgresEngine.open

    def as_replica(*given: Any, **options: Any) -> PostgresEngine:
        engine = whole(*given, **options)
        engine.read_only = True
        return engine

    monkeypatch.setattr(PostgresEngine, "open", as_replica)
    assert "is a replica" in refused(url, conn)
    with pytest.raises(LedgerError, match=r"is a ledger of 1\.0\.0"):
        Ledger.open(url, durability="normal", migrate=False)
