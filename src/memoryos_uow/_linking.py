"""That each row of the log points to its unit, also after the file was written anew by somebody else.

``uow_ledger.unit`` is the row number of the unit in ``unit_of_work``. The contract gives that table no INTEGER PRIMARY
KEY, so SQLite does not promise to keep row numbers: ``VACUUM`` may renumber them (https://sqlite.org/lang_vacuum.html),
and a dump that is read in again does, where rows of failed units had been deleted. The order stays in both.

Promise: a ledger that was renumbered is noticed when it is opened and put right in one transaction, or left as it is,
for verification to tell, if its rows do not fit together in any order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from memoryos_uow.abc import Reader, Transaction

# The last unit of the log is also the last of its space, whose head is its receipt's hash. Renumbering closes gaps, so
# it moves the last row if it moves any.
_LAST_FITS: Final = """
SELECT u.receipt_hash IS lower(hex(s.head))
FROM (SELECT unit FROM uow_ledger ORDER BY commit_seq DESC LIMIT 1) AS l
LEFT JOIN unit_of_work AS u ON u.rowid = l.unit
LEFT JOIN uow_spaces AS s ON s.space_id = u.space_id
"""
# Units enter both tables in the order of their decisions.
_RELINK: Final = """
WITH
  logged AS (SELECT commit_seq, row_number() OVER (ORDER BY commit_seq) AS place FROM uow_ledger),
  units AS (SELECT rowid AS unit, row_number() OVER (ORDER BY rowid) AS place FROM unit_of_work
            WHERE receipt_hash IS NOT NULL)
UPDATE uow_ledger SET unit = -pair.unit
FROM (SELECT logged.commit_seq, units.unit FROM logged JOIN units USING (place)) AS pair
WHERE pair.commit_seq = uow_ledger.commit_seq
"""
_COUNTS_AGREE: Final = """
SELECT (SELECT count(*) FROM uow_ledger) = (SELECT count(*) FROM unit_of_work WHERE receipt_hash IS NOT NULL)
"""


def is_linked(reader: Reader) -> bool:
    """Say whether the log's rows point to their units; one look at the last of them."""
    found = reader.rows(_LAST_FITS)
    return not found or bool(found[0][0])


def can_be_linked(reader: Reader) -> bool:
    """Say whether there is one unit for each row of the log: otherwise something else happened to these rows."""
    return bool(reader.rows(_COUNTS_AGREE)[0][0])


def relink(tx: Transaction) -> bool:
    """Point the log's rows to their units anew, in the order that both kept; return whether they fit now.

    If they do not, the caller rolls back.
    """
    tx.execute(_RELINK)
    tx.execute("UPDATE uow_ledger SET unit = -unit")  # by way of negative numbers, because each stands only once
    return is_linked(tx)
