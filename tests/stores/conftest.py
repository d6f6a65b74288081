"""A ledger file of its own for each test of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stores.driver import Driver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def driver(place: Path | str, tmp_path: Path) -> Iterator[Driver]:
    """A driver on a new file, or an empty database, closed at the end."""
    opened = Driver(tmp_path, url=place if isinstance(place, str) else None)
    yield opened
    opened.close()
