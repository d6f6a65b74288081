"""The testing kit: lets your own code and stores fail everywhere, and shows what does not survive it.

::

    from memoryos_uow.testing import acknowledge, explore


    def scenario(world):  # what the program does; `world` is a directory
        with Ledger.open(world / "memory.db") as ledger:
            with ledger.unit(space_id="s", band="GREEN") as uow:
                uow["notes"].create("n1", {"text": "milk is out"})
            acknowledge("n1")  # what the program has promised to somebody


    def oracle(world, acknowledged):  # what must hold, whenever the program died
        with Ledger.open(world / "memory.db") as ledger:
            for key in acknowledged:
                assert ledger["notes"].get(key, space_id="s") is not None


    explore(scenario, oracle, work_dir=an_empty_directory).check()

`check_store` does it to a store: it is the executable definition of `memoryos_uow.abc`
(see docs/how-to/write-a-store.md).

In pytest the fixture ``crash_explorer`` does the same with a temporary directory (see docs/how-to/explore-crashes.md).
"""

from memoryos_uow.testing._check_store import check_store
from memoryos_uow.testing._explore import explore
from memoryos_uow.testing._fault_points import FaultPoints, fault_points
from memoryos_uow.testing._functions import ExplorerError, Reference
from memoryos_uow.testing._obligations import OBLIGATIONS, StoreCheckError, StoreFault, StoreReport
from memoryos_uow.testing._report import Exploration, Violation, table
from memoryos_uow.testing._strace import why_no_strace
from memoryos_uow.testing._wire import acknowledge

__all__ = [
    "OBLIGATIONS",
    "Exploration",
    "ExplorerError",
    "FaultPoints",
    "Reference",
    "StoreCheckError",
    "StoreFault",
    "StoreReport",
    "Violation",
    "acknowledge",
    "check_store",
    "explore",
    "fault_points",
    "table",
    "why_no_strace",
]
