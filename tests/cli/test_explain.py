"""What `show` explains: for each way a unit can end, what happened, where the stores stand and what to do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Ledger, StoreUnavailable, UnitRecord, errors
from memoryos_uow.abc import Dialect
from memoryos_uow.cli import _explain
from memoryos_uow.cli._explain import OWNER_DIED, explain
from memoryos_uow.stores import DocumentStore
from tests.cli.tools import invoke
from tests.leftovers import begun, dies, open_ledger, write
from tests.units import OwnError, rows, throw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLASSES = [name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)]


class Nothing:
    """A ledger without unsettled units."""

    dialect = Dialect.SQLITE

    def rows(self, *_: object) -> list[tuple[Any, ...]]:
        return []

    def stream(self, *_: object) -> Iterator[tuple[Any, ...]]:
        return iter(())


def text_of(ledger: Path, uow_id: str, **env: str) -> str:
    """What show prints below the rows, in one line."""
    text = invoke("show", ledger, uow_id, env={**env}).stdout
    return " ".join(text[text.index("What happened:") :].split()) if "What happened:" in text else ""


def failing(path: Path, band: str, error: Exception | None) -> str:
    """Run a unit that ends by this error, or by a wish; return its id."""
    with Ledger.open(path, stores=[DocumentStore("notes")]) as ledger:
        uow = ledger.unit(space_id="s", band=band)
        try:
            with uow:
                uow["notes"].create("k", 1)
                if error is None:
                    uow.rollback()
                else:
                    throw(error)
        except type(error or ValueError()):
            pass
    return uow.uow_id


@pytest.mark.parametrize("name", [*CLASSES, OWNER_DIED, "KeyboardInterrupt", "SystemExit", "CancelledError"])
def test_every_error_has_an_explanation_of_its_own(name: str) -> None:
    """No class of the library falls back to the words for somebody else's exception."""
    assert name in _explain._ADVICE
    found = explain(Nothing(), UnitRecord("u", None, "failed", "t", None, error_type=name))
    assert found is not None
    assert found.happened.endswith(f"({name}{', found' if name == OWNER_DIED else ''}).")
    assert all(part.endswith((".", ":")) for part in found)


def test_no_explanation_is_left_over() -> None:
    """Each entry is for an error that there is."""
    assert set(_explain._ADVICE) - {*CLASSES, OWNER_DIED} == {"KeyboardInterrupt", "SystemExit", "CancelledError"}


def test_an_own_exception(tmp_path: Path) -> None:
    """Of the application's exception its type and time are named."""
    uow_id = failing(tmp_path / "memory.db", "GREEN", OwnError("words"))
    text = text_of(tmp_path / "memory.db", uow_id)
    assert text.startswith("What happened: An exception of the application's own left its block (OwnError at 20")
    assert "The stores: No store holds anything of it;" in text
    assert "What to do: See where the application raised it." in text


def test_a_wish(tmp_path: Path) -> None:
    """A rollback that was asked for is nothing to worry about."""
    uow_id = failing(tmp_path / "memory.db", "GREEN", None)
    assert "Its block asked to be rolled back." in text_of(tmp_path / "memory.db", uow_id)


@pytest.mark.parametrize("band", ["GREEN", "RED"])
def test_a_store_is_named_as_the_band_allows(tmp_path: Path, band: str) -> None:
    """The store that refused is named for GREEN and not for RED."""
    error = StoreUnavailable("It is away.", store="notes")
    uow_id = failing(tmp_path / "memory.db", band, error)
    text = text_of(tmp_path / "memory.db", uow_id)
    assert ("The store concerned is 'notes'." in text) is (band == "GREEN")
    assert "A store could not be reached or written" in text


def test_a_plain_unit_has_nothing_to_explain(tmp_path: Path) -> None:
    """Nothing is printed for it; nor for a row of any other sort."""
    with (
        Ledger.open(tmp_path / "memory.db", stores=[DocumentStore("notes")]) as ledger,
        ledger.unit(space_id="s", band="GREEN") as uow,
    ):
        uow["notes"].create("k", 1)
    assert text_of(tmp_path / "memory.db", uow.uow_id) == ""
    assert explain(Nothing(), UnitRecord("u", None, "pending", "t", None)) is None


def test_a_silent_store_until_it_answers(tmp_path: Path) -> None:
    """In doubt it says so and not to run the unit again; once it is settled, that it is."""
    place = begun(tmp_path / "ledger")
    with open_ledger(place) as ledger:
        store: Any = ledger._opened.store("archive")
        show = store.show
        store.show = lambda *_: throw(StoreUnavailable("It is away.", store="archive"))
        uow_id = write(ledger, 2)
        text = text_of(place / "memory.db", uow_id)
        assert "It is committed, and in doubt: after the decision the store 'archive' did not answer" in text
        assert "(StoreUnavailable at 20" in text
        assert "Do not run it again." in text
        store.show = show
        ledger.recover()
    text = text_of(place / "memory.db", uow_id)
    assert "At first the store 'archive' did not answer" in text
    assert "Every store holds all of it." in text


@pytest.mark.skipif(os.name != "posix", reason="a process is killed")
def test_a_process_that_died(tmp_path: Path) -> None:
    """Before the decision: nothing of it is anywhere. After it: unfinished, until recovery has finished it."""
    place = begun(tmp_path / "ledger")
    path = place / "memory.db"
    dies(place, "DECIDE", after=False)
    dies(place, "PUBLISH", after=False, number=3)
    ((last,),) = rows(path, "SELECT uow_id FROM unit_of_work WHERE correlation_id = '3'")
    assert "The ledger has not noted yet that every store outside it shows its part." in text_of(path, last)
    with open_ledger(place) as ledger:
        (died,) = ledger.units(correlation_id="2")
    assert "Its process died before the decision" in text_of(path, died.uow_id)
    assert "recovery did. The stores: Every store holds all of it." in text_of(path, last)


def test_narrow_screens(tmp_path: Path) -> None:
    """Lines are wrapped to the screen."""
    uow_id = failing(tmp_path / "memory.db", "GREEN", OwnError("words"))
    text = invoke("show", tmp_path / "memory.db", uow_id, env={"COLUMNS": "40"}).stdout
    assert max(map(len, text[text.index("What happened:") :].splitlines())) <= 40
