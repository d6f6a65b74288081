"""The log's numbers after a time at 1.0.0: no later unit gets one that a store has already seen as a record's version.

A ledger that was softly taken down keeps its log, and basic mode numbers its units by their rows. On the way up again
the log would go on where it was, below those. Stores outside the ledger refuse to go back, so they would keep the older
record for ever; the ledger's own stores would use a version twice.

Promise: the next unit's number is beyond every version there is. All numbers of the log move by the same distance, so
leaves, proofs and checkpoints, which count from its first one, stay as they are; versions of records stay, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

# In 1.1.0 each committed unit has its row in the log. Basic mode's version of a record is the number of its unit's row.
_DISTANCE: Final = """
SELECT (SELECT max(rowid) FROM unit_of_work) - l.commit_seq
FROM (SELECT commit_seq, unit FROM uow_ledger ORDER BY commit_seq DESC LIMIT 1) AS l
WHERE EXISTS (SELECT 1 FROM unit_of_work AS u WHERE u.rowid > l.unit AND u.status = 'committed')
"""
# Moved to the other side of zero first: on the way no number may meet another.
_MOVE: Final = (
    "UPDATE uow_ledger SET commit_seq = -commit_seq",
    "UPDATE uow_ledger SET commit_seq = ?1 - commit_seq",
    "UPDATE uow_forgotten SET commit_seq = -commit_seq",
    "UPDATE uow_forgotten SET commit_seq = ?1 - commit_seq",
    "UPDATE uow_keys SET since_seq = since_seq + ?1, until_seq = until_seq + ?1",
)


def renumber_log(conn: sqlite3.Connection) -> None:
    """Move the log's numbers beyond those of the units written at 1.0.0 since its last one, if there are such.

    The caller holds the write lock, and its transaction.
    """
    found = conn.execute(_DISTANCE).fetchone()
    if found is None or found[0] <= 0:
        return
    conn.execute("PRAGMA defer_foreign_keys = ON")  # until the commit: what is forgotten refers to the log
    for statement in _MOVE:
        conn.execute(statement, found if "?1" in statement else ())
