"""An SDK and a configured structlog for each test that asks for what they see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.watching import watching

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.watching import Seen


@pytest.fixture
def seen() -> Iterator[Seen]:
    """What an SDK and structlog are told of units."""
    with watching() as found:
        yield found
