"""``python -m memoryos_uow.testing SCENARIO ORACLE``: explore, or go to one point again, from a command line."""

from __future__ import annotations

import argparse
import sys
import tempfile

from memoryos_uow.testing import ExplorerError, explore
from memoryos_uow.testing._points import KILL


def main(arguments: list[str] | None = None) -> int:
    """Explore as the arguments say; return 0 if no promise was broken, 1 if one was, 2 if nothing could be explored."""
    wanted = _parser().parse_args(arguments)
    options = {"raises": wanted.raises} if wanted.raises else {}
    try:
        found = explore(
            wanted.scenario,
            wanted.oracle,
            setup=wanted.setup,
            recover=wanted.recover,
            work_dir=wanted.work_dir or tempfile.mkdtemp(prefix="memoryos-uow-explore-"),
            kinds=_kinds(wanted),
            depth=2 if wanted.depth == 2 or (wanted.at and " " in wanted.at) else 1,  # noqa: PLR2004 - as typed
            limit=wanted.limit,
            calls=wanted.calls.split(",") if wanted.calls else None,
            timeout_s=wanted.timeout,
            seed=wanted.seed,
            method=wanted.method,
            at=wanted.at,
            progress=_show if sys.stderr.isatty() else None,
            **options,
        )
    except ExplorerError as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    sys.stdout.write(f"{found}\n")
    return 0 if found.ok else 1


def _kinds(wanted: argparse.Namespace) -> list[str]:
    if wanted.at is None:
        return str(wanted.kinds).split(",")
    return [str(wanted.at).split()[-1].split("@", 1)[0].split("#", 1)[0]]


def _show(kind: str, done: int, of: int) -> None:
    sys.stderr.write(f"\r{kind}: {done} of {of}" + ("\n" if done == of else ""))
    sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m memoryos_uow.testing",
        description="Let a program fail at each of its state-changing system calls, and ask an oracle each time.",
        epilog="Functions are named package.module:function or path/to/file.py:function. Exit: 0 all promises hold,"
        " 1 one was broken, 2 nothing could be explored.",
    )
    parser.add_argument("scenario", help="what the program does: scenario(world)")
    parser.add_argument("oracle", help="what must hold: oracle(world, acknowledged)")
    parser.add_argument("--setup", help="builds the world that each run starts from: setup(world)")
    parser.add_argument("--recover", help="what a program does first after a crash: recover(world)")
    parser.add_argument("--kinds", default=KILL, help="comma-separated: kill, EIO, ENOSPC+, short-write, power-cut...")
    parser.add_argument("--depth", type=int, choices=(1, 2), default=1, help="2: crashes in the recovery as well")
    parser.add_argument("--limit", type=int, help="at most so many points of each kind, evenly spaced")
    parser.add_argument("--calls", help="comma-separated: explore only points at these calls, such as fsync,fdatasync")
    parser.add_argument("--raises", action="append", help="an exception that the scenario may end with after an error")
    parser.add_argument("--work-dir", help="an empty directory (default: a new temporary one)")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds after which a run hangs")
    parser.add_argument("--seed", type=int, default=0, help="for the random part of the states of a power cut")
    parser.add_argument("--method", choices=("auto", "strace", "fault points"), default="auto")
    parser.add_argument("--at", help="explore this point only, as a violation names it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
