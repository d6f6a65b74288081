"""Verification: everything that receipts promise, recomputed from rows that nobody vouches for.

The steps, in their order; what does not hold becomes a finding under the rule in brackets, and the walk goes on, so
that one damaged row does not hide another. All of it sees one snapshot of the ledger, whoever writes meanwhile.

1.  The file: SQLite's own check of pages, indexes and constraints (``file``). Whatever cannot be read to its end in
    this step or a later one is named (``unreadable``); and the ledger says once who it is (``identity``).
2.  The writes of each committed unit, in commit order: as many as the receipt says (``write_missing``), all of them the
    unit's (``write_owner``, ``write_stray``), of types that writes have (``value``), with the root that the receipt
    names (``writes``) and adding up to its totals (``totals``). Of an erased write the sealed leaf stands for the row.
3.  The receipt: rebuilt from the rows, byte for byte, it has the ``receipt_hash`` recorded with it (``receipt``,
    ``given_up`` after a soft migration down, ``unit_missing``), and the unit's status is committed (``status``).
4.  Who acted: actor, correlation and device open the receipt's context (``context``).
5.  What may change after the decision has the form in which it is written (``form``).
6.  The log: numbers without gaps (``order``), and in each row exactly the tree that the receipts before it give
    (``log``).
7.  Signatures: each by the ledger's key for that unit, over the tree at its size (``signature``, ``unsigned``), keys
    put into place by those before them, and the caller's among them (``key``); and the checkpoint that was kept
    elsewhere speaks of the same first units (``checkpoint``), as does the last head that lies beside the file
    (``rollback``).
8.  Each space's history: numbered from 1, each receipt naming the one before (``chain``), ending where the ledger says
    it ends (``head``). Then what the log does not have: no unit with a receipt, or committed since there are receipts
    (``unlogged``), no nonce without its write (``nonce``). And what was erased has a tombstone that vouches for it
    (``erasure``), and is finished (``erasing``).
9.  Live content: what the stores hold is what the newest receipt of each record says (`live` has the rules).

What this cannot see, at any level, is in `memoryos_uow.verification`.
"""

from memoryos_uow._verification.file import Verifier

__all__ = ["Verifier"]
