"""The interpreter that runs of a scenario are forked from.

Starting an interpreter and importing a library costs a hundred times more than the few calls that a scenario makes. So
one fresh interpreter imports everything, runs nothing, and forks a child for every run: each child begins in the same
state, in which nothing was opened yet. The child of a scenario ends as a program does, with its exit handlers.

The wires: requests and replies as lines of JSON on standard input and output; and one socket that every child inherits,
on which it waits to be let go (one byte) and tells what it acknowledges and how its function ended (lines of JSON).
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import traceback
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow.testing._fault_points import fault_points
from memoryos_uow.testing._functions import Function, load
from memoryos_uow.testing._wire import CHANNEL, tell, wait_for_go

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PTRACER: Final = 0x59616D61
_PR_SET_PTRACER_ANY: Final = (1 << 8 * ctypes.sizeof(ctypes.c_ulong)) - 1


def main() -> None:
    """Serve requests until standard input ends; a forked child returns from here and ends as a program does."""
    os.environ[CHANNEL] = sys.argv[2]
    for line in sys.stdin:
        request = json.loads(line)
        if "load" in request:
            _reply(_load_all(request["load"]))
            continue
        pid = os.fork()
        if pid == 0:
            _run(request)
            return
        _reply({"pid": pid})
        _reply({"status": _reap(pid)})


def _reply(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _load_all(functions: list[dict[str, Any]]) -> dict[str, Any]:
    try:
        for function in functions:
            load(Function.from_dict(function))
    except BaseException:  # noqa: BLE001 - whatever the user's module does while it is imported is told to the user
        return {"problem": traceback.format_exc()}
    gc.freeze()  # so that collections in the children copy fewer pages
    return {"problem": None}


def _reap(pid: int) -> int:
    """Wait for the child, end what it left running in its session, and return its wait status."""
    if hasattr(os, "waitid"):
        # Not yet reaped, its id cannot belong to anybody else, so nobody else's processes can be hit.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def _run(request: dict[str, Any]) -> None:
    world = Path(request["world"])
    _detach(Path(request["output"]))
    os.chdir(world)
    wait_for_go()
    arguments: list[Any] = [world]
    if request["acknowledged"] is not None:
        arguments.append(request["acknowledged"])
    with ExitStack() as stack:
        if request["die_at"] is not None:
            points = stack.enter_context(fault_points(die_at=request["die_at"] or None))
            stack.callback(lambda: tell({"points": points.names}))
        tell(_outcome(load(Function.from_dict(request["function"])), arguments, request["allowed"]))
    if request["acknowledged"] is not None:  # an oracle has said all there is to say
        os._exit(0)


def _detach(output: Path) -> None:
    """Leave the zygote's session, terminal and wires, and let any process of this user trace this one."""
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDONLY)
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((nowhere, 0), (written, 1), (written, 2)):
        os.dup2(source, target)
    os.close(nowhere)
    os.close(written)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(_PR_SET_PTRACER_ANY), 0, 0, 0)


def _outcome(function: Callable[..., Any], arguments: list[Any], allowed: list[dict[str, Any]]) -> dict[str, Any]:
    try:
        result = function(*arguments)
    except BaseException as error:  # noqa: BLE001 - how the function ended is what is asked
        expected: tuple[Any, ...] = tuple(load(Function.from_dict(one)) for one in allowed)
        return {
            "error": type(error).__qualname__,
            "expected": isinstance(error, expected),
            "asserted": isinstance(error, AssertionError),
            "message": str(error),
            "traceback": "".join(traceback.format_exception(error)),
        }
    if result is None or isinstance(result, str):
        return {"result": [result] if result else []}
    try:
        return {"result": [str(problem) for problem in result]}
    except TypeError:
        return {"result": []}
