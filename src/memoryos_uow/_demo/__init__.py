"""The demo: the library's main job on real text, a process killed in mid-work, and a proof that nothing is half.

One unit of work per file, over four stores. Then child processes that do the same are killed with SIGKILL, the ledger
is opened again, and plain SQL and SHA-256 count what is there. `run` does it all and returns what came out.
"""

from __future__ import annotations

from memoryos_uow._demo._tour import run

__all__ = ["run"]
