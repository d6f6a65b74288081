"""A SQLAlchemy session, and SQLModel's, as part of a unit."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import ForeignKey, exc, inspect, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,  # noqa: TC002 - SQLAlchemy reads annotations
    Session,
    mapped_column,
    relationship,
    sessionmaker,
)

from memoryos_uow import UsageError
from memoryos_uow.integrations.sqlalchemy import engine, session
from tests.units import SPACE, OwnError

if TYPE_CHECKING:
    from memoryos_uow import Ledger, UnitOfWork


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "people"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    born: Mapped[dt.date | None]
    visits: Mapped[list[Visit]] = relationship(back_populates="person")


class Visit(Base):
    __tablename__ = "visits"
    id: Mapped[int] = mapped_column(primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"))
    person: Mapped[Person] = relationship(back_populates="visits")


@pytest.fixture
def tables(ledger: Ledger) -> Ledger:
    """A ledger with the application's tables in its file."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        Base.metadata.create_all(engine(uow))
    assert uow.status == "committed"
    return ledger


def people(ledger: Ledger) -> list[str]:
    """Who is committed."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        return [name for (name,) in uow.sql("SELECT name FROM people ORDER BY name")]


def writes(ledger: Ledger, uow: UnitOfWork) -> list[tuple[str, str | None]]:
    """Store and operation of each write of the unit."""
    return [(write.store_name, write.operation_type) for write in ledger.get(uow.uow_id).writes]


def test_a_session_takes_part(tables: Ledger) -> None:
    """Objects, relations and queries work; each statement that writes is one write of the unit."""
    with tables.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n1", 1)
        with session(uow) as db:
            db.add(Person(name="Ada", born=dt.date(1815, 12, 10), visits=[Visit(), Visit()]))
            db.flush()
            found = db.scalars(select(Person)).one()
            assert (found.born, len(found.visits)) == (dt.date(1815, 12, 10), 2)
            found.name = "Ada L."
    assert people(tables) == ["Ada L."]
    assert [name for name, _ in writes(tables, uow)].count("sql") >= 3
    assert writes(tables, uow)[0] == ("notes", "create")
    assert uow.receipt == tables.receipt(uow.uow_id)


def test_the_unit_decides(tables: Ledger) -> None:
    """What the session committed is undone with a unit that fails."""
    with pytest.raises(OwnError), tables.unit(space_id=SPACE, band="GREEN") as uow:
        with session(uow) as db:
            db.add(Person(name="Ada"))
            db.commit()
        raise OwnError
    assert people(tables) == []


def test_an_exception_in_the_block_undoes_the_session_only(tables: Ledger) -> None:
    """The rest of the unit goes on; nothing of what was undone is in its receipt."""
    with tables.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n1", 1)
        with pytest.raises(OwnError), session(uow) as db:
            db.add(Person(name="kept"))
            db.commit()
            db.add(Person(name="undone"))
            db.flush()
            raise OwnError
        uow["notes"].create("n2", 2)
    assert people(tables) == ["kept"]
    assert writes(tables, uow) == [("notes", "create"), ("sql", "create"), ("notes", "create")]


def test_rollback_and_nested_transactions(tables: Ledger) -> None:
    """`rollback` goes back to the last commit, `begin_nested` is a savepoint of the unit."""
    with tables.unit(space_id=SPACE, band="GREEN") as uow, uow.savepoint(), session(uow) as db:
        db.add(Person(name="a"))
        db.commit()
        db.add(Person(name="b"))
        db.flush()
        db.rollback()
        with pytest.raises(exc.IntegrityError), db.begin_nested():
            db.add(Person(name="c"))
            db.flush()
            db.add(Person(name="a"))
            db.flush()
        with db.begin_nested():
            db.add(Person(name="d"))
        assert db.scalars(select(Person.name).order_by(Person.name)).all() == ["a", "d"]
    assert people(tables) == ["a", "d"]
    assert writes(tables, uow) == [("sql", "create"), ("sql", "create")]


def test_factories_and_reflection(tables: Ledger) -> None:
    """An application's own sessionmaker, options of the session, and reflection work."""
    with tables.unit(space_id=SPACE, band="GREEN") as uow:
        with session(uow, sessionmaker(class_=Session), autoflush=False) as db:
            db.add(Person(name="a"))
            assert db.scalars(select(Person)).all() == []
        columns = [column["name"] for column in inspect(engine(uow)).get_columns("people")]
    assert columns == ["id", "name", "born"]


def test_sqlmodel_takes_part(ledger: Ledger) -> None:
    """SQLModel's session is a factory like any other."""
    sqlmodel = pytest.importorskip("sqlmodel")

    class Guest(sqlmodel.SQLModel, table=True):  # type: ignore[misc, name-defined, call-arg]
        id: int | None = sqlmodel.Field(default=None, primary_key=True)
        name: str

    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        Guest.metadata.tables["guest"].create(engine(uow))
        with session(uow, sqlmodel.Session) as db:
            db.add(Guest(name="Cleo"))
            assert db.exec(sqlmodel.select(Guest)).one().name == "Cleo"
    assert writes(ledger, uow) == [("sql", "create"), ("sql", "create")]


def test_only_for_units_that_are_open(tables: Ledger) -> None:
    """An async unit, something else, or a unit that is over is refused, with a hint."""
    from memoryos_uow import AsyncUnitOfWork

    for wrong in (AsyncUnitOfWork(space_id=SPACE, band="GREEN", ledger=tables), object()):
        with pytest.raises(UsageError, match="takes part in a UnitOfWork") as refused:
            engine(wrong)  # type: ignore[arg-type]
        assert refused.value.hint
    with tables.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n1", 1)
    with pytest.raises(UsageError, match="over"), session(uow) as db:
        db.add(Person(name="late"))
    assert people(tables) == []
