"""Where the library speaks when nobody can be given an exception.

Promise: nothing is printed and nothing configured unless the application did so. structlog is used when the application
has configured it; otherwise the standard library's logger ``memoryos_uow``, which stays silent without handlers.
"""

from __future__ import annotations

import sys

_NAME = "memoryos_uow"


def warn(event: str, **facts: object) -> None:
    """Report `event` with `facts` (ids, types, counts; never payloads) at level WARNING. Never raises."""
    try:
        # Neither is imported here: an application that has not done so has not asked for anything.
        structlog, logging = sys.modules.get("structlog"), sys.modules.get("logging")
        if structlog is not None and structlog.is_configured():
            structlog.get_logger(_NAME).warning(event, **facts)
        elif logging is not None:
            logger = logging.getLogger(_NAME)
            if not logger.handlers:
                logger.addHandler(logging.NullHandler())  # or else Python would print to stderr
            logger.warning("%s %s", event, " ".join(f"{name}={value}" for name, value in facts.items()))
    except Exception:  # noqa: BLE001, S110 - a logger of the application's that raises must not hide what it reports on
        pass
