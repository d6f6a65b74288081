"""The crash explorer's front door."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from memoryos_uow.errors import UnitOfWorkError
from memoryos_uow.testing._children import Children
from memoryos_uow.testing._explorer import Explorer, Plan
from memoryos_uow.testing._functions import ExplorerError, reference
from memoryos_uow.testing._points import KILL, check_kind
from memoryos_uow.testing._worlds import Worlds

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Sequence

    from memoryos_uow.testing._functions import Reference
    from memoryos_uow.testing._report import Exploration


def explore(
    scenario: Reference,
    oracle: Reference,
    *,
    work_dir: str | os.PathLike[str],
    setup: Reference | None = None,
    recover: Reference | None = None,
    kinds: Sequence[str] = (KILL,),
    depth: Literal[1, 2] = 1,
    limit: int | None = None,
    calls: Collection[str] | None = None,
    raises: Sequence[Reference] = (UnitOfWorkError,),
    timeout_s: float = 60.0,
    seed: int = 0,
    method: Literal["auto", "strace", "fault points"] = "auto",
    at: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Exploration:
    """Let `scenario` fail at each of its state-changing system calls, and ask `oracle` each time whether all is well.

    The four functions stand at the top of importable modules (or are named, ``"package.module:function"``); each gets
    the directory that it works in, the *world*, as a `Path`, which is also its working directory.

    Args:
        scenario: what a program does: ``scenario(world)``. It calls `acknowledge` where it would answer its user. It
            has to make the same calls each time it is run.
        oracle: ``oracle(world, acknowledged)`` opens everything anew and raises AssertionError, or returns problems
            (a text or a list of them), if a promise is broken; `acknowledged` are the texts in their order.
        work_dir: an empty directory for the explorer; worlds of the first violations stay there as ``kept-1``...
        setup: ``setup(world)`` builds the world that each run starts from, once; default: an empty directory.
        recover: ``recover(world)`` does what a program does first after a crash; needed for `depth` 2.
        kinds: what is to happen. ``"kill"``: SIGKILL at the call, which then does not run. An error such as
            ``"ENOSPC"``: the call fails once and the scenario goes on; ``"ENOSPC+"``: it and all calls that can fail
            so fail from then on. ``"short-write"``: a write takes nothing and says so. ``"power-cut"``: only what was
            synced is certain to be there (see below); ``"power-cut-ordered"`` the same on a file system that keeps the
            order of names, as ext4 does.
        depth: 2 explores failures in the recovery from each death as well: `recover` is killed at each of its calls, or
            the power is cut in it.
        limit: about so many points of each kind, evenly spaced; default: all. At depth 2 the points in recoveries are
            of a kind of their own, spread over as many deaths as there are points in each of their recoveries.
        calls: explore only points at calls of these names, such as ``("fsync", "fdatasync")``; for power cuts in
            recoveries, only deaths at these.
        raises: exceptions that a scenario may end with after an error; any other is a violation.
        timeout_s: a run that takes longer hangs, which is a violation.
        seed: for the random part of the states of a power cut.
        method: ``"strace"``, ``"fault points"`` (only for ``"kill"``), or whichever works.
        at: explore this point only, such as ``"kill@fdatasync#2"``: what a violation's replay command passes.
        progress: told the kind, how many are done and how many there are.

    A death is a SIGKILL: what was written stays, synced or not, and shared memory too. After a power cut only what was
    synced is certain, and any subset of the rest may be there: a bounded and documented choice of subsets is tried (see
    `memoryos_uow.testing._power_cut`). SQLite's ``-shm`` files, which are written through shared memory where no
    system call shows, are lost at a power cut, as on a real machine.

    A failure that lasts is recognised by the paths of the recording, because strace compares nothing else: it does not
    hit files whose names differ from run to run, and where it hits nothing, `Exploration.missed` counts the point.

    Calls are counted per thread and name, as strace does; a call of a second thread is reached only if no earlier call
    has its name and number (`Exploration.unreachable` counts the others). Processes that the scenario starts are traced
    and can be the ones to die; they are ended with it.

    Without strace ``"kill"`` falls back to named fault points (`fault_points`) and other kinds are skipped;
    `Exploration.method` and `Exploration.skipped` say so.

    Raises:
        ExplorerError: a function cannot be found, fails undisturbed, or does not repeat itself.
    """
    plan = Plan(
        scenario=reference(scenario),
        oracle=reference(oracle),
        setup=reference(setup) if setup is not None else None,
        recover=reference(recover) if recover is not None else None,
        kinds=tuple(check_kind(kind) for kind in kinds),
        depth=depth,
        limit=limit,
        calls=frozenset(calls) if calls is not None else None,
        raises=tuple(reference(one) for one in raises),
        seed=seed,
        at=tuple(at.split()) if at else None,
    )
    if depth > 1 and recover is None:
        raise ExplorerError("Depth 2 needs to know how the program recovers.", hint="Pass recover=.")
    begun = time.monotonic()
    worlds = Worlds(Path(work_dir))
    functions = [one for one in (plan.setup, plan.scenario, plan.recover, plan.oracle, *plan.raises) if one]
    with Children(functions, worlds.output, timeout_s=timeout_s) as children:
        explorer = Explorer(plan, worlds, children, progress or _silent)
        found = explorer.explore(method)
    found.seconds = time.monotonic() - begun
    worlds.clear()
    return found


def _silent(_kind: str, _done: int, _of: int) -> None:
    pass
