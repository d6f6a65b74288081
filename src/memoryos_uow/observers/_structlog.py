"""Log events through structlog, where the application has configured it.

Promise: nothing is printed and nothing is configured here; without structlog nothing happens.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from memoryos_uow.observers import _names as names

if TYPE_CHECKING:
    from memoryos_uow.observers._facts import UnitEnded, UnitRecovered


def is_wanted() -> bool:
    """Say whether the application has configured structlog."""
    structlog = sys.modules.get("structlog")
    return structlog is not None and structlog.is_configured()


def emit(fact: UnitEnded | UnitRecovered) -> None:
    """Log one event, with whatever the application has bound in this context."""
    name, fields = fact.event()
    logger = sys.modules["structlog"].get_logger(names.SCOPE)
    (logger.warning if name == names.EVENT_FAILED else logger.info)(name, **fields)
