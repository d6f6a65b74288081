"""Addresses of ledgers in PostgreSQL: everything that libpq knows, two parameters of our own, and no secrets shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from memoryos_uow.engines._pg_address import CONNECTIONS_MAX, read_address
from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from memoryos_uow.engines._pg_address import Address


def read(url: str) -> Address:
    """Read an address."""
    return read_address(url, psycopg)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://me:secret@db.example/memory", "postgresql://db.example/memory"),
        ("postgres://me:secret@db.example:6543/memory?sslmode=require", "postgresql://db.example:6543/memory"),
        ("postgresql:///memory", "postgresql://localhost/memory"),
        ("postgresql://", "postgresql://localhost/"),
        ("postgresql://me@/memory?host=/var/run/pg&password=secret", "postgresql:///var/run/pg/memory"),
        ("postgresql://a:1,b:2/memory?target_session_attrs=read-write", "postgresql://a:1,b:2/memory"),
        ("postgresql://a,b/memory?port=7", "postgresql://a:7,b:7/memory"),
        ("postgresql://[::1]:5432/memory", "postgresql://::1:5432/memory"),
        ("postgresql://?service=household", "postgresql://?service=household"),
    ],
)
def test_what_is_shown(url: str, place: str) -> None:
    """Where it is, and nothing else of it: neither user nor password, wherever that stands."""
    address = read(url)
    assert address.place == place
    assert repr(address) == f"<Address {place}>"
    assert "secret" not in repr(address)


def test_what_libpq_knows_is_passed_on() -> None:
    """With what notices a machine that vanished, unless the address says how."""
    address = read("postgresql://me:s%40cret@db/memory?application_name=mine&keepalives_idle=99")
    assert address.parameters["password"] == "s@cret"
    assert address.parameters["application_name"] == "mine"
    assert address.parameters["keepalives_idle"] == "99"
    assert address.parameters["tcp_user_timeout"] == 30_000


def test_parameters_of_our_own() -> None:
    """They are not for libpq, which would refuse them, does not see them."""
    address = read("postgresql://db/memory?uow_pooler=transaction&sslmode=require&uow_connections=7")
    assert (address.is_pooled, address.connections_max) == (True, 7)
    assert address.parameters["sslmode"] == "require"
    assert "uow_pooler" not in address.parameters
    plain = read("postgresql://db/memory")
    assert (plain.is_pooled, plain.connections_max) == (None, CONNECTIONS_MAX)
    assert read("postgresql://db/memory?uow_pooler=none").is_pooled is False


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@db/memory?pasword=secret",
        "postgresql://me:secret%zz@db/memory",
        "postgresql://me:secret@[db/memory",
        "postgresql://me:secret/secret@db/memory",
        "postgresql://me:secret@secret@db/memory",
        "postgresql://me:secret#secret@db/memory",
        "postgresql://me:secret?secret@db/memory",
        "postgresql://me:secret@db/memory?uow_pooler=statement",
        "postgresql://me:secret@db/memory?uow_connections=1",
        "postgresql://me:secret@db/memory?uow_connections=many",
        "postgresql://me:secret@db/memory?uow_connections=²",
    ],
)
def test_what_cannot_be_read(url: str) -> None:
    """A usage error that holds nothing of the address, and nothing that hangs on it does."""
    with pytest.raises(UsageError) as caught:
        read(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
