"""The specification's five contract validations over a whole ledger: its ``validation.sql``, run and put into words.

Promise: reads only, and finds the offending rows whoever wrote them, also where a CHECK is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from memoryos_uow import _schema
from memoryos_uow._records import Violation

if TYPE_CHECKING:
    from memoryos_uow.abc import Reader

_DEMANDS: Final = {
    "metrics": "a time in milliseconds is a number from 0 up",
    "error": "a failed unit names its error",
    "receipt": "a receipt hash is a SHA-256, 64 hexadecimal digits",
    "band": "a band is GREEN, AMBER, RED or BLACK",
    "version": "a contract version follows semantic versioning",
}


def validate(reader: Reader) -> list[Violation]:
    """Return every row of the ledger that breaks a validation, rule by rule; none if all is well.

    The ledger must be at 1.1.0: one of 1.0.0 has none of the columns that the validations are about.
    """
    return [
        Violation(rule, uow_id, f"Row {row}: {column} is {value}, but {_DEMANDS[rule]}.")
        for query in _schema.statements(_schema.FILES[reader.dialect].validation)
        for rule, row, uow_id, column, value in reader.rows(query)
    ]
