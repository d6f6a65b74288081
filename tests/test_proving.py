"""Proofs read from rows: also of writes beside erased ones, and never from rows that were changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from memoryos_uow import Ledger, _proofs, _proving
from memoryos_uow.errors import UsageError
from memoryos_uow.stores import DocumentStore
from tests.signers import put

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.both


def test_a_write_beside_an_erased_one_is_still_proved(tmp_path: Path) -> None:
    """What is left of an erased write is its hash: enough for the proofs of its neighbours, too little for its own."""
    with Ledger.open(tmp_path / "memory.db", stores=[DocumentStore("notes")]) as ledger:
        with ledger.unit(space_id="s", band="AMBER") as uow:
            for number in range(3):
                uow["notes"].create(str(number), number)
        assert uow.receipt is not None
        receipt = _proofs.parse_receipt(uow.receipt.canonical())
        ledger.erase(space_id="s", store="notes", key="1")
        record = ledger.get(uow.uow_id)
        with ledger._opened.engine.reader() as reader:
            for seq in (0, 2):
                proven = _proving.prove_write(reader, record, seq)
                _proofs.check_write_proof(_proofs.parse_proof(proven.proof), proven.entry, receipt)
            with pytest.raises(UsageError, match="was erased"):
                _proving.prove_write(reader, record, 1)


def test_a_unit_without_a_receipt_cannot_be_proved(ledger: Ledger) -> None:
    """A unit that failed has no place in the log."""
    put(ledger, "a")
    with ledger.unit(space_id="s", band="GREEN") as uow:
        uow["notes"].create("b", 1)
        uow.rollback()
    with ledger._opened.engine.reader() as reader, pytest.raises(UsageError, match="rolled_back"):
        _proving.prove_unit(reader, ledger.get(uow.uow_id), b"")
