"""The receipt log as its rows hold it: right at every size, damage named, and no question reads all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from memoryos_uow import _merkle, _receipt_tree
from memoryos_uow.errors import LedgerCorrupt, UsageError
from tests.signers import put, tamper
from tests.test_receipt_log import receipts

if TYPE_CHECKING:
    from memoryos_uow import Ledger


def test_the_log_is_the_tree_over_the_receipts(ledger: Ledger) -> None:
    """Root, leaves and both kinds of proof at every size are those of the receipts themselves."""
    for number in range(13):
        put(ledger, str(number), space_id=f"s{number % 3}")
    leaves = [_merkle.leaf_hash(entry) for entry in receipts(ledger.path)]
    roots = [_merkle.tree_root(leaves[:size]) for size in range(14)]
    with ledger._opened.engine.reader() as reader:
        assert _receipt_tree.size(reader) == 13
        assert _receipt_tree.root(reader) == roots[13]
        assert [_receipt_tree.root(reader, size) for size in range(14)] == roots
        assert [_receipt_tree.leaf(reader, index) for index in range(13)] == leaves
        for new in range(1, 14):
            for index in range(new):
                path = _receipt_tree.inclusion(reader, index, new)
                assert _merkle.check_inclusion(index, new, leaves[index], path, roots[new])
                proof = _receipt_tree.consistency(reader, index + 1, new)
                assert _merkle.check_consistency(index + 1, new, roots[index + 1], roots[new], proof)


def test_what_is_not_in_the_log_is_a_wrong_question(ledger: Ledger) -> None:
    """Sizes and leaves beyond the log are refused; an empty log has the root of nothing."""
    with ledger._opened.engine.reader() as reader:
        assert _receipt_tree.root(reader) == _merkle.EMPTY_ROOT
        for ask in (
            lambda: _receipt_tree.root(reader, 1),
            lambda: _receipt_tree.inclusion(reader, 0, 0),
            lambda: _receipt_tree.inclusion(reader, 0, 1),
            lambda: _receipt_tree.consistency(reader, 1, 0),
            lambda: _receipt_tree.root(reader, -1),
        ):
            with pytest.raises(UsageError):
                ask()


def test_a_damaged_row_is_named(ledger: Ledger) -> None:
    """Hashes that are missing are reported with their leaf, as damage and not as something else."""
    for number in range(3):
        put(ledger, str(number))
    tamper(ledger.path, "UPDATE uow_ledger SET nodes = x'00' WHERE commit_seq = 2")
    with ledger._opened.engine.reader() as reader, pytest.raises(LedgerCorrupt, match="leaf 1"):
        _receipt_tree.root(reader, 2)


def test_no_question_reads_the_whole_log(ledger: Ledger) -> None:
    """Size, end and every hash are found by primary key, however long the log is."""
    with ledger._opened.engine.reader() as reader:
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        reader.connection.set_progress_handler(count, 1)
        _receipt_tree.size(reader)
        few = steps
    for number in range(40):
        put(ledger, str(number))
    with ledger._opened.engine.reader() as reader:
        steps = 0
        reader.connection.set_progress_handler(count, 1)
        _receipt_tree.size(reader)
        assert steps <= few + 20
        _receipt_tree.end(reader)
        assert steps <= few + 120
        reader.connection.set_progress_handler(None, 1)
