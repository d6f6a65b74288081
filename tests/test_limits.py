"""The bounds of units and records."""

from __future__ import annotations

import dataclasses
import sqlite3

import pytest

from memoryos_uow import Limits


def test_limits_are_fixed_once_made() -> None:
    """Limits cannot be changed under an open ledger, and each can be set when they are made."""
    limits = Limits(blob_bytes=10)
    assert limits.blob_bytes == 10
    with pytest.raises(dataclasses.FrozenInstanceError):
        limits.blob_bytes = 11  # type: ignore[misc]


def test_defaults_are_within_what_sqlite_can_hold() -> None:
    """By default no record is larger than SQLite's largest value, and no unit smaller than its records."""
    limits = Limits()
    connection = sqlite3.connect(":memory:")
    try:
        largest = connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
    finally:
        connection.close()
    records = (limits.document_bytes, limits.row_bytes, limits.blob_bytes, 4 * limits.vector_dimensions)
    assert max(records) <= min(largest, limits.bytes_per_unit)
    assert all(value > 0 for value in dataclasses.astuple(limits))
