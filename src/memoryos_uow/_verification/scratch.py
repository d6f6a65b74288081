"""A temporary database on the disk for what is compared with what: claims of receipts, and what stores hold.

Promise: memory stays flat however many records there are. The file has no name, belongs to this process alone and is
gone when it is closed (https://sqlite.org/inmemorydb.html, temporary databases); it holds keys and digests, no content.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from memoryos_uow.engines._sqlite_errors import translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType

_BATCH: Final = 2_000
_CACHE_KIB: Final = 4_000
_SCHEMA: Final = """
CREATE TABLE claims (
  store TEXT NOT NULL, space BLOB NOT NULL, key BLOB NOT NULL, place INTEGER NOT NULL, uow_id BLOB NOT NULL,
  gone INTEGER NOT NULL, checksum TEXT, size INTEGER, band TEXT, PRIMARY KEY (store, key, space)
) WITHOUT ROWID;
CREATE TABLE veiled (
  store TEXT NOT NULL, space BLOB NOT NULL, unnamed INTEGER NOT NULL, replaced INTEGER NOT NULL,
  PRIMARY KEY (store, space)
) WITHOUT ROWID;
CREATE TABLE old (store TEXT NOT NULL, key BLOB NOT NULL, PRIMARY KEY (store, key)) WITHOUT ROWID;
CREATE TABLE wanted_gone (space BLOB NOT NULL, key BLOB NOT NULL, uow_id BLOB, band TEXT, PRIMARY KEY (key, space))
  WITHOUT ROWID;
CREATE TABLE held (
  key BLOB NOT NULL, space BLOB NOT NULL, size INTEGER, digest TEXT, problem TEXT, PRIMARY KEY (key, space)
) WITHOUT ROWID;
"""


class Claim(NamedTuple):
    """What the newest receipt of a record says of it."""

    store: str
    space: bytes
    key: bytes
    place: int
    """Id of the write: the newest counts."""
    uow_id: bytes
    gone: bool
    checksum: str | None
    size: int | None
    band: str | None


class Holding(NamedTuple):
    """What a store holds of a record."""

    key: bytes
    space: bytes
    size: int | None
    digest: str | None
    problem: str | None


class Scratch:
    """The temporary database; a context manager."""

    def __init__(self) -> None:
        with translated("a temporary file"):
            self._connection = sqlite3.connect("", isolation_level=None)
            settings = f"PRAGMA journal_mode = OFF; PRAGMA cache_size = -{_CACHE_KIB}"
            self._connection.executescript(f"{settings}; {_SCHEMA} BEGIN;")
        self._claims: list[Claim] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()

    def _many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        with translated("a temporary file"):
            self._connection.executemany(sql, rows)

    def _stream(self, sql: str, parameters: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        with translated("a temporary file"):
            yield from iter(self._connection.execute(sql, parameters).fetchone, None)

    # Claims

    def claim(self, claim: Claim) -> None:
        """Note what a write claims; a later one of the same record takes its place."""
        self._claims.append(claim)
        if len(self._claims) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Write out the claims that are held back for writing many at a time."""
        rows, self._claims = self._claims, []
        self._many("INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def veil(self, rows: Iterable[tuple[str, bytes, int, int]]) -> None:
        """Note that keys of a store's records in a space may not be shown; up to which write they are not even named.

        The numbers are the ids of the newest write whose record nobody here can tell, and of the newest such one that
        is no create, so that there was a record before; 0 where there is none.
        """
        self._many(
            "INSERT INTO veiled VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " unnamed = max(unnamed, excluded.unnamed), replaced = max(replaced, excluded.replaced)",
            rows,
        )

    def pseudonyms(self, store: str) -> bool:
        """Say whether receipts name records of this store by pseudonyms."""
        sql = "SELECT 1 FROM claims WHERE store = ? AND key >= x'703a' AND key < x'703b' AND band = 'BLACK' LIMIT 1"
        return any(True for _ in self._stream(sql, (store,)))

    def known_keys(self, store: str) -> Iterator[tuple[Any, ...]]:
        """Yield space and key of every record of a store that is claimed, or held, under its key."""
        # A union is complete before its first row is given, so claims may change meanwhile.
        yield from self._stream(
            "SELECT space, key FROM claims WHERE store = ? UNION SELECT space, key FROM held", (store,)
        )

    def merge_claims(self, store: str, space: bytes, key: bytes, pseudonym: bytes) -> None:
        """Let what is claimed of a record under its pseudonym and under its key be one claim, the newer."""
        where = (store, space, key, pseudonym)
        self._many(
            "DELETE FROM claims WHERE store = ?1 AND space = ?2 AND key IN (?3, ?4) AND place < (SELECT max(place)"
            " FROM claims WHERE store = ?1 AND space = ?2 AND key IN (?3, ?4))",
            [where],
        )
        self._many("UPDATE claims SET key = ?3 WHERE store = ?1 AND space = ?2 AND key = ?4", [where])

    def remember_old(self, records: Iterable[tuple[str, bytes]]) -> None:
        """Note records, by store and key, that were written under contract 1.0.0, which knew no spaces."""
        self._many("INSERT OR IGNORE INTO old VALUES (?, ?)", records)

    def want_gone(self, records: Iterable[tuple[bytes, bytes, bytes | None, str | None]]) -> None:
        """Note records, by space and key, that no store may hold any more."""
        self._many("INSERT OR REPLACE INTO wanted_gone VALUES (?, ?, ?, ?)", records)

    # Comparing

    def hold(self, holdings: Iterable[Holding]) -> None:
        """Take in what one store holds, in the place of what another held."""
        self._many("DELETE FROM held", [()])
        self._many("INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?)", holdings)

    def counted(self) -> int:
        """Return how many records the store holds."""
        return int(next(self._stream("SELECT count(*) FROM held"))[0])

    def compare(self, store: str, *, shared: bool) -> Iterator[tuple[Any, ...]]:
        """Yield each claim on a store with what the store holds: the claim's columns, then the holding's or None.

        Before the holding's stands up to which write claims may be outdated, because records were written unnamed.
        `shared`: the store's spaces share their keys, so the newest claim of any space counts.
        """
        claims = (
            "claims AS c"
            if not shared
            else (
                "(SELECT store, space, key, max(place) AS place, uow_id, gone, checksum, size, band FROM claims"
                " WHERE store = ?1 GROUP BY key) AS c"
            )
        )
        same, any_space = ("", "") if shared else (" AND h.space = c.space", " AND v.space = c.space")
        yield from self._stream(
            "SELECT c.store, c.space, c.key, c.place, c.uow_id, c.gone, c.checksum, c.size, c.band,"  # noqa: S608
            f" (SELECT max(iif(c.gone, v.unnamed, v.replaced)) FROM veiled AS v WHERE v.store = ?1{any_space}), h.*"
            f" FROM {claims} LEFT JOIN held AS h ON h.key = c.key{same} WHERE c.store = ?1",
            (store,),
        )

    def unclaimed(self, store: str, *, shared: bool) -> Iterator[tuple[Any, ...]]:
        """Yield what the store holds and no receipt speaks of: the holding, whether 1.0.0 wrote it, and the veil.

        The veil is None where keys may be shown, else up to which write records were written unnamed.
        """
        same = "" if shared else " AND c.space = h.space"
        any_space = "" if shared else " AND v.space = h.space"
        yield from self._stream(
            "SELECT h.*, EXISTS (SELECT 1 FROM old AS o WHERE o.store = ?1 AND o.key = h.key),"  # noqa: S608
            f" (SELECT max(v.unnamed) FROM veiled AS v WHERE v.store = ?1{any_space})"
            f" FROM held AS h WHERE NOT EXISTS (SELECT 1 FROM claims AS c WHERE c.store = ?1 AND c.key = h.key{same})",
            (store,),
        )

    def not_gone(self) -> Iterator[tuple[Any, ...]]:
        """Yield what the store holds of records that were to be gone: space, key, unit, band."""
        yield from self._stream(
            "SELECT g.* FROM wanted_gone AS g JOIN held AS h ON h.key = g.key AND h.space IN (g.space, x'')"
        )
