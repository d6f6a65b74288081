"""The crash explorer: the same scenario again and again, each time failing somewhere else.

One exploration, in one sitting:

1.  `setup` builds the starting world once; every run gets a copy of it, always at the same path.
2.  The scenario runs undisturbed, twice, under strace. The two lists of calls must agree, and the oracle must be content.
3.  For each point of the recording: the scenario runs again and is killed at that call (or is told of an error there).
4.  Then the oracle looks at the world, in a fresh process that also knows what had been acknowledged.

Each function runs in a child of its own, forked from an interpreter that has done nothing but import.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from memoryos_uow.errors import UnitOfWorkError
from memoryos_uow.testing._calls import watched
from memoryos_uow.testing._children import Children
from memoryos_uow.testing._disk import Disk
from memoryos_uow.testing._functions import ExplorerError, Function, reference
from memoryos_uow.testing._points import (
    KILL,
    POWER_CUTS,
    Point,
    Recording,
    check_kind,
    injections,
    points_of,
    sample,
    spaced,
)
from memoryos_uow.testing._power_cut import cut_states, lay_down
from memoryos_uow.testing._replay import Replay
from memoryos_uow.testing._report import Exploration, Violation
from memoryos_uow.testing._strace import StraceRefusedError, Tracing, why_no_strace
from memoryos_uow.testing._trace import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from memoryos_uow.testing._children import Ended
    from memoryos_uow.testing._functions import Reference
