"""Addresses of PostgreSQL databases: read, and shown without what is secret.

Promise: a password given in an address stays in `Address.url`; what is shown, recorded or raised never has it.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from memoryos_uow.errors import UsageError

_SCHEMES: Final = ("postgresql", "postgres")
_SECRET: Final = ("password", "sslpassword", "passfile")


class Address(NamedTuple):
    """Where a database is."""

    url: str
    """As it was given, password and all: for the driver alone."""
    place: str
    """Host and database, as messages name them."""
    recorded: str
    """The address without its secrets, as a ledger records it."""

    def __repr__(self) -> str:
        return f"Address({self.place!r})"


def read_address(url: object, store: str) -> Address:
    """Return what an address says.

    Raises:
        UsageError: not the URL of a PostgreSQL database.
    """
    try:
        parts = urlsplit(url if isinstance(url, str) and "\0" not in url else "")
        options = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        parts, options = urlsplit(""), []
    name = unquote(parts.path.lstrip("/")) or dict(options).get("dbname", "")
    if parts.scheme not in _SCHEMES or not isinstance(url, str) or not name or "/" in name:
        raise UsageError(
            "The address of the database cannot be read.",
            hint='Nothing was opened. For example "postgresql://user@host/database".',
            store=store,
        )
    login, _, hosts = parts.netloc.rpartition("@")
    user = login.partition(":")[0]
    kept = urlencode([(key, value) for key, value in options if key not in _SECRET])
    host = hosts or dict(options).get("host", "") or "localhost"
    return Address(
        url,
        f"{host}/{name}",
        f"postgresql://{user}{'@' if user else ''}{hosts}{parts.path}{'?' if kept else ''}{kept}",
    )
