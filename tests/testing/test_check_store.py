"""`check_store`: every built-in store passes it, and each seeded mistake is named by the obligation that it breaks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import UsageError, abc
from memoryos_uow.abc import Capability
from memoryos_uow.stores import DocumentStore, TableStore, VectorStore
from memoryos_uow.testing import OBLIGATIONS, StoreCheckError, check_store
from tests.deciding import DecidingFile
from tests.testing.faulty import (
    BYTES,
    DOCUMENTS,
    FAULTY,
    NO_DOCUMENTS,
    Archive,
    Blobs,
    Documents,
    Files,
    stored_document,
    stored_file,
)
from tests.testing.jsonl import JsonLines, newest

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow.abc import Store

COLUMNS = {"id": "TEXT", "space_id": "TEXT", "n": "INTEGER"}
NO_BYTES: list[Any] = ["text", None, 5]


def whole_row(space: str, key: str, value: Any) -> Any:
    """What a table reads: all its columns."""
    return {"id": key, "space_id": space, **value}


BUILT_IN: dict[str, tuple[Callable[[], Store], dict[str, Any]]] = {
    "documents": (Documents, {"values": DOCUMENTS, "refused": NO_DOCUMENTS}),
    "full text": (lambda: DocumentStore("texts", search=["t"]), {"values": DOCUMENTS}),
    "table": (
        lambda: TableStore("orders", key="id", columns=COLUMNS),
        {"values": [{"n": 1}, {"n": 2}, {"n": 3}], "as_read": whole_row},
    ),
    "vectors": (lambda: VectorStore("vectors", dimensions=2), {"values": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]}),
    "blobs": (Blobs, {"values": [*BYTES, b""], "refused": NO_BYTES}),
    "sqlite file": (Archive, {"values": DOCUMENTS, "refused": NO_DOCUMENTS, "stored": stored_document}),
    "files": (Files, {"values": [*BYTES, b""], "refused": NO_BYTES, "stored": stored_file}),
    "deciding file": (DecidingFile, {"values": DOCUMENTS, "refused": NO_DOCUMENTS}),
}
"""The built-in stores, and one of the tests' own that decides; that of `PostgresStore` is in ``tests/postgres``."""


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_store_passes(name: str) -> None:
    """Killed, refused, doubled and taken over at each call, it keeps every obligation."""
    factory, options = BUILT_IN[name]
    report = check_store(factory, **options)
    assert report.faults == []
    assert len(report.checks) == 20
    assert report.kills >= 8
    assert str(report).endswith("0 faults")


def test_the_built_in_stores_cover_every_capability() -> None:
    """None of the ways to take part goes unchecked; what it takes to prepare needs a server (``tests/postgres``)."""
    assert {factory().capability for factory, _ in BUILT_IN.values()} == set(Capability) - {Capability.TWO_PHASE}


def test_a_store_of_somebody_else_passes() -> None:
    """The check knows nothing of how the built-in stores are made."""
    report = check_store(
        lambda: JsonLines("feed", "feed.jsonl"),
        values=["one", "two", "", "☃"],
        refused=[1, None, b"bytes"],
        stored=lambda directory, space, key: newest(directory / "feed.jsonl", space, key),
    )
    assert report.kills >= 20


@pytest.mark.parametrize(("kind", "obligation"), FAULTY.items(), ids=lambda one: getattr(one, "__name__", str(one)))
def test_each_seeded_mistake_is_named(kind: type[Store], obligation: int) -> None:
    """The first fault that is reported is the one that was seeded, by the number of its obligation."""
    options: dict[str, Any] = {"values": DOCUMENTS, "refused": NO_DOCUMENTS}
    if issubclass(kind, (Blobs, Files)):
        options = {"values": [*BYTES, bytearray(b"changing " * 99)], "refused": NO_BYTES}
        options["as_read"] = lambda _space, _key, value: bytes(value)
    if issubclass(kind, Archive):
        options["stored"] = stored_document
    if issubclass(kind, Files):
        options["stored"] = stored_file
    with pytest.raises(StoreCheckError) as caught:
        check_store(kind, **options, first_only=True)
    (fault,) = caught.value.report.faults
    assert fault.obligation == obligation, str(fault)
    assert f"obligation {obligation} ({OBLIGATIONS[obligation]})" in str(caught.value)


def test_the_seeds_cover_every_obligation() -> None:
    """Each number of the contract has a store that breaks it."""
    assert set(FAULTY.values()) == set(OBLIGATIONS)


def test_the_numbers_are_those_of_the_contract() -> None:
    """The text of `memoryos_uow.abc` numbers its obligations as the reports do."""
    numbered = re.findall(r"^(\d+)\. ``(\w+)``", abc.__doc__ or "", re.MULTILINE)
    assert {int(number): name for number, name in numbered} == OBLIGATIONS


def test_all_faults_are_reported() -> None:
    """Unless the first one is enough, the whole list is made."""
    with pytest.raises(StoreCheckError) as caught:
        check_store(next(kind for kind in FAULTY if kind.__name__ == "CannotUndo"), values=DOCUMENTS)
    assert len(caught.value.report.faults) > 1
    assert len(caught.value.report.checks) == 20


def test_too_few_values_are_refused() -> None:
    """An update that changes nothing would prove nothing."""
    with pytest.raises(UsageError, match="3 different values"):
        check_store(Documents, values=DOCUMENTS[:2])
