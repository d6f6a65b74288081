"""Log events through structlog, where the application has configured it.

Promise: nothing is printed and nothing is configured here; without structlog nothing happens. An event that the
application's logger would drop for its level is not made.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow.observers import _names as names

if TYPE_CHECKING:
    from memoryos_uow.observers._facts import UnitEnded, UnitRecovered

_INFO: Final = 20
_WARNING: Final = 30


def is_wanted() -> bool:
    """Say whether the application has configured structlog."""
    structlog = sys.modules.get("structlog")
    return structlog is not None and structlog.is_configured()


def logger() -> Any:
    """Return the application's logger for the library, as it is configured now."""
    return sys.modules["structlog"].get_logger(names.SCOPE).bind()


def emit(fact: UnitEnded | UnitRecovered, logger: Any) -> None:
    """Log one event, with whatever the application has bound in this context."""
    name = fact.event_name
    level = _WARNING if name == names.EVENT_FAILED else _INFO
    is_enabled = getattr(logger, "is_enabled_for", None)  # wrappers of an application's own may not say
    if is_enabled is None or is_enabled(level):
        (logger.warning if level == _WARNING else logger.info)(name, **fact.fields())
