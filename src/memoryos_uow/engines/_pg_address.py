"""The address of a ledger in PostgreSQL: what libpq is told, what is for this library, and what messages may show.

Everything that libpq knows may stand in it (https://www.postgresql.org/docs/current/libpq-connect.html): several hosts,
Unix sockets, service files, certificates. Two parameters are this library's own:

- ``uow_pooler=transaction``: a pooler that lends a connection for one transaction at a time is between us and the
  server. One is noticed without being told as well; ``uow_pooler=none`` says that what looks like one is none.
- ``uow_connections=40``: how many connections this process may have at once.

Promise: what is shown has neither user nor password nor any other parameter.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

CONNECTIONS_MAX: Final = 40
_POOLER: Final = "uow_pooler"
_CONNECTIONS: Final = "uow_connections"
_POOLERS: Final[Mapping[str, bool | None]] = {"": None, "none": False, "transaction": True}

# A machine that vanishes is noticed within this, in both directions; what the address says goes first.
_LIVELINESS: Final[Mapping[str, int]] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


class Address:
    """One address, read; its secrets are in `parameters` alone, and that shows in no repr."""

    __slots__ = ("connections_max", "is_pooled", "parameters", "place")

    def __init__(self, parameters: Mapping[str, Any], *, is_pooled: bool | None, connections_max: int) -> None:
        self.parameters = dict(parameters)
        """What psycopg.connect is given."""
        self.is_pooled = is_pooled
        """Whether a pooler for transactions is between us and the server; None: to be found out."""
        self.connections_max = connections_max
        self.place = _place(parameters)
        """How messages name the ledger."""

    def __repr__(self) -> str:
        return f"<Address {self.place}>"


def read_address(url: str, psycopg: Any) -> Address:
    """Return what `url` says; libpq reads it.

    Raises:
        UsageError: libpq cannot read it, or one of the parameters of this library's own is wrong.
    """
    _refuse_split_secrets(url)
    own: dict[str, str] = {}
    try:
        parts = urlsplit(url)
        options = parse_qsl(parts.query, keep_blank_values=True)
        own = {name: value for name, value in options if name in (_POOLER, _CONNECTIONS)}
        if own:
            rest = [(name, value) for name, value in options if name not in own]
            url = urlunsplit(parts._replace(query=urlencode(rest)))
        parameters = {**_LIVELINESS, **psycopg.conninfo.conninfo_to_dict(url)}
    except (ValueError, psycopg.Error):
        parameters = None
    if parameters is None:  # outside of the block: what was raised in it may hold the password
        raise UsageError("The ledger's address cannot be read.", hint='For example "postgresql://user@host/database".')
    number, pooler = own.get(_CONNECTIONS, str(CONNECTIONS_MAX)), own.get(_POOLER, "")
    if not number.isascii() or not number.isdigit() or int(number) < 2 or pooler not in _POOLERS:  # noqa: PLR2004
        raise UsageError(
            f"{_CONNECTIONS} is a whole number of at least 2, and {_POOLER} is transaction or none.",
            hint="Nothing was opened. Correct the ledger's address.",
        )
    return Address(parameters, is_pooled=_POOLERS[pooler], connections_max=int(number))


def _refuse_split_secrets(url: str) -> None:
    """Refuse an address in whose password a / @ # or ? stands as it is: libpq would take a part of it for the host."""
    rest = url.partition("://")[2]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if authority.count("@") > 1 or ("@" not in authority and "@" in rest):
        raise UsageError(
            "The ledger's address cannot be read: an @ stands where none can be.",
            hint="Nothing was opened. In user and password write @ as %40, / as %2F, : as %3A, # as %23, ? as %3F.",
        )


def _place(parameters: Mapping[str, Any]) -> str:
    if "service" in parameters and "host" not in parameters:
        return f"postgresql://?service={parameters['service']}"
    hosts = str(parameters.get("host") or "localhost").split(",")
    ports = str(parameters.get("port") or "").split(",")
    if len(ports) < len(hosts):
        ports = [ports[0]] * len(hosts)
    named = [f"{host}{f':{port}' if port else ''}" for host, port in zip(hosts, ports, strict=False)]
    return f"postgresql://{','.join(named)}/{parameters.get('dbname') or ''}"
