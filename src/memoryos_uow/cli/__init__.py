"""The command line, ``memoryos-uow``: a thin face on the library.

Promises

1.  What was asked for goes to stdout, everything else (notes, progress, errors) to stderr.
2.  Exit codes: 0 all is well, 1 something is wrong in the ledger or the operation failed, 2 wrong usage, 3 the ledger
    stayed busy, 4 its schema is newer than this library; 130 interrupted, 141 the reader of stdout went away.
3.  An error is a sentence and, where there is one, a hint: never a traceback.
4.  `list`, `show` and `validate` change nothing: they make no file and migrate none.
5.  Whatever a ledger holds, nothing of it can steer the terminal, and of a unit no more is shown than its band allows.
"""

from __future__ import annotations

from memoryos_uow.cli._program import main

__all__ = ["main"]
