"""Plain SQL of the application's, as writes of a unit: what ``uow.sql`` puts into the buffer.

Content of a statement (for checksum and size) is the UTF-8 JSON ``{"parameters":...,"sql":...}`` with sorted keys,
floats in their shortest form and blobs as ``{"$bytes":"<hex>"}``: what was asked for, nothing else can be known.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Final, Protocol, cast

from memoryos_uow._canonical import sha256_hex
from memoryos_uow._names import SQL_STORE, Dialect, plain, text_problem
from memoryos_uow._records import Content
from memoryos_uow.errors import UsageError
from memoryos_uow.stores._no_records import NoRecords

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from memoryos_uow.abc import Parameters, Transaction, UnitFacts, Write

_INT64_MAX: Final = 2**63 - 1


class _Foreign(Protocol):
    """A transaction on PostgreSQL, with what runs statements of the application's."""

    def run_foreign(self, statements: Iterable[tuple[str, Parameters]], /) -> None:
        """Run them in their order."""


class SqlStatements(NoRecords):
    """The store behind ``uow.sql``: no records and no keys, only statements in order."""

    name = SQL_STORE
    kind = "sql"
    refusal = "Plain SQL is written and queried with uow.sql()."

    def apply(self, tx: Transaction, unit: UnitFacts, commit_seq: int, writes: Sequence[Write]) -> None:
        """Run the statements in order."""
        if tx.dialect is Dialect.POSTGRESQL:  # where `execute` would translate them, as if they were SQLite's
            cast("_Foreign", tx).run_foreign(write.payload for write in writes)
            return
        for write in writes:
            tx.execute(*write.payload)


def check_parameters(
    parameters: Sequence[object] | Mapping[str, object],
) -> tuple[object, ...] | dict[str, object]:
    """Return a copy of `parameters` that later changes by the caller cannot reach.

    Raises:
        UsageError: not a sequence or mapping of None, bool, int of 64 bits, finite float, str or bytes.
    """
    if isinstance(parameters, dict):
        return {_name(name): _checked(value, f":{name}") for name, value in parameters.items()}
    if isinstance(parameters, (list, tuple)):
        return tuple(_checked(value, f"number {number}") for number, value in enumerate(parameters, 1))
    raise UsageError(
        f"SQL parameters are a tuple, a list or a dict, not {type(parameters).__name__}.",
        hint="Nothing was written. For one parameter write (value,).",
    )


def _name(name: object) -> str:
    if not isinstance(name, str) or text_problem(plain(name)):
        raise UsageError("The names of SQL parameters are strings of valid Unicode.", hint="Nothing was written.")
    return plain(name)


def _checked(value: object, where: str) -> object:
    problem = None
    if isinstance(value, str):
        value = plain(value)
        problem = text_problem(value)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        value = bytes(value)
    elif isinstance(value, int):
        problem = None if -_INT64_MAX - 1 <= value <= _INT64_MAX else "is an integer beyond 64 bits"
    elif isinstance(value, float):
        problem = None if math.isfinite(value) else "is NaN or infinite, which SQLite cannot keep"
    elif value is not None:
        problem = f"is of type {type(value).__name__}"
    if problem:
        raise UsageError(
            f"SQL parameter {where} {problem}.",
            hint="Nothing was written. Parameters are None, int, float, str or bytes.",
        )
    return value


def statement_content(sql: str, parameters: tuple[object, ...] | dict[str, object]) -> Content:
    """Return size and digest of a statement with its parameters, as the module's text defines them."""
    text = json.dumps(
        {"parameters": parameters, "sql": sql},
        sort_keys=True,
        ensure_ascii=False,
        separators=(",", ":"),
        default=lambda value: {"$bytes": value.hex()},
    ).encode()
    return Content(len(text), sha256_hex(text))
