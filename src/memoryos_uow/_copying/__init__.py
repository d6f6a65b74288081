"""A whole ledger with its stores from a SQLite file to a PostgreSQL database.

Promises

1.  The source is read in one state: nobody writes to it meanwhile, and nothing in it is changed but what recovery
    finishes first.
2.  Killed at any point and run again, a copy goes on where it was; if the source has changed since, from the start.
3.  Until it is whole and verified, the target says that it is a copy under way (``uow_copying``), and opening it is
    refused.
4.  The target is the same ledger: its id, origin, receipts, signatures, versions and numbers of writes. At the end each
    row is compared with the source's, every receipt is recomputed, and the roots have to be the same.
"""

from __future__ import annotations

from memoryos_uow._copying.run import copy_ledger

__all__ = ["copy_ledger"]
