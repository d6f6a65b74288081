"""The ledgers that are damaged, made once for all tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.verification.kit import copied, make_signed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed ledger with a store of each kind; never to be changed."""
    directory = tmp_path_factory.mktemp("template")
    make_signed(directory)
    return directory


@pytest.fixture
def signed(template: Path, tmp_path: Path) -> Path:
    """A copy of that ledger's directory, to be damaged."""
    return copied(template, tmp_path)
