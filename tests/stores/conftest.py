"""A ledger file of its own for each test of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stores.driver import Driver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    """A driver on a new file, closed at the end."""
    opened = Driver(tmp_path)
    yield opened
    opened.close()
