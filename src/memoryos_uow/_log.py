"""Where the library speaks when nobody can be given an exception.

Promise: nothing is printed and nothing configured unless the application did so. structlog is used when the application
has configured it; otherwise the standard library's logger ``memoryos_uow``, which stays silent without handlers.
"""

from __future__ import annotations

import logging
import sys

_standard = logging.getLogger("memoryos_uow")
_standard.addHandler(logging.NullHandler())


def warn(event: str, **facts: object) -> None:
    """Report `event` with `facts` (ids, types, counts; never payloads) at level WARNING. Never raises."""
    try:
        structlog = sys.modules.get("structlog")
        if structlog is not None and structlog.is_configured():
            structlog.get_logger("memoryos_uow").warning(event, **facts)
        else:
            _standard.warning("%s %s", event, " ".join(f"{name}={value}" for name, value in facts.items()))
    except Exception:  # noqa: BLE001, S110 - a logger of the application's that raises must not hide what it reports on
        pass
