"""What is known of a ledger's log when it is opened is told before a block runs, not after its work."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import AsyncLedger, Ledger
from memoryos_uow.errors import LedgerError, LedgerRollback
from tests.signers import ORIGIN, key_file, put

if TYPE_CHECKING:
    from pathlib import Path


def block(ledger: Ledger, ran: list[str]) -> None:
    """A unit that notes that its block has run."""
    with ledger.unit(space_id="s", band="GREEN") as uow:
        ran.append(uow.uow_id)
        uow["notes"].upsert("x", 1)


def test_a_missing_signer_is_told_before_the_block_runs(tmp_path: Path) -> None:
    """Slow work in the block is not done in vain; nothing is noted of such a unit, and reading goes on."""
    path, ran = tmp_path / "memory.db", list[str]()
    with Ledger.open(path, origin=ORIGIN, signer=key_file(tmp_path)) as ledger:
        put(ledger, "a")
    with Ledger.open(path) as ledger:
        for _ in range(2):
            with pytest.raises(LedgerError, match="without a signer"):
                block(ledger, ran)
        assert ledger["notes"].get("a", space_id="s") == {"text": "a"}
        with Ledger.open(path, signer=key_file(tmp_path)) as other:
            other.change_signer(None)
        block(ledger, ran)
        assert len(ran) == 1
        assert [unit.status for unit in ledger.units(limit=10)] == ["committed", "committed"]


def test_a_missing_signer_is_told_before_an_async_block_runs(tmp_path: Path) -> None:
    """The same with asyncio."""
    path, ran = tmp_path / "memory.db", list[str]()
    with Ledger.open(path, origin=ORIGIN, signer=key_file(tmp_path)) as ledger:
        put(ledger, "a")

    async def main() -> None:
        async with await AsyncLedger.open(path) as ledger:
            with pytest.raises(LedgerError, match="without a signer"):
                async with ledger.unit(space_id="s", band="GREEN") as uow:
                    ran.append(uow.uow_id)

    asyncio.run(main())
    assert ran == []


def test_a_key_that_others_began_to_sign_with_is_told_from_then_on(tmp_path: Path) -> None:
    """A ledger open since before the first signature finds out at its next commit, and then before each block."""
    path, ran = tmp_path / "memory.db", list[str]()
    with Ledger.open(path, origin=ORIGIN) as early:
        block(early, ran)
        with Ledger.open(path, signer=key_file(tmp_path)) as other:
            put(other, "a")
        for _ in range(3):
            with pytest.raises(LedgerError, match="without a signer"):
                block(early, ran)
    assert len(ran) == 2
    with Ledger.open(path, signer=key_file(tmp_path)) as ledger:
        assert ledger.verify().ok


def test_a_ledger_that_was_put_back_is_told_before_the_block_runs(tmp_path: Path) -> None:
    """An old copy refuses the block as such, not after its work."""
    path, ran = tmp_path / "memory.db", list[str]()
    with Ledger.open(path, origin=ORIGIN) as ledger:
        put(ledger, "a")
    old = path.read_bytes()
    with Ledger.open(path) as ledger:
        put(ledger, "b")
    path.write_bytes(old)
    with Ledger.open(path) as ledger, pytest.raises(LedgerRollback):
        block(ledger, ran)
    with Ledger.open(path, accept_rollback=True) as ledger:
        block(ledger, ran)
    assert len(ran) == 1
