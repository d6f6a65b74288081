"""What strace wrote, as calls.

strace is asked for ``-f -y -xx``: every line begins with the thread, every descriptor carries its path, every text is
in hexadecimal, so that commas, quotes and newlines in data cannot be taken for syntax.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

from memoryos_uow.testing._calls import OPENING, PATHS, STATE_CHANGING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LINE: Final = re.compile(r"(\d+) +(.*)", re.DOTALL)
_BEGUN: Final = re.compile(r"(\w+)\((.*?)(?: <unfinished \.\.\.>|\) += (\?|-?\d+|0x[0-9a-f]+)(.*))", re.DOTALL)
_RESUMED: Final = re.compile(r"<\.\.\. (\w+) resumed>(.*)", re.DOTALL)
_FD: Final = re.compile(r"(-?\d+|AT_FDCWD)(?:<((?:\\x[0-9a-f]{2})*)>(\(deleted\))?)?")
_TEXT: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_DELETED: Final = b" (deleted)"


@dataclass(frozen=True)
class Call:
    """One system call of one thread."""

    thread: int
    """Number of the thread in the order of first appearance, from 0."""
    name: str
    number: int
    """The how manieth call of this name by this thread, from 1: strace counts like this."""
    arguments: tuple[str, ...]
    result: int | None
    """What it returned; None if it never did, because the process died."""
    process: int
    """strace's name of the thread: its process id."""
    directory: str
    """Where relative paths start."""
    injected: bool = False

    @property
    def ok(self) -> bool:
        """Whether it returned without an error."""
        return self.result is not None and self.result != -1

    def descriptor(self, place: int) -> int | None:
        """Return the descriptor at a place among the arguments, None for the working directory or none."""
        match = _FD.match(self.arguments[place]) if place < len(self.arguments) else None
        return int(match[1]) if match and match[1] != "AT_FDCWD" else None

    def data(self, place: int) -> bytes:
        """Return the bytes at a place among the arguments; for a vector, those of all its parts."""
        return b"".join(bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(self.arguments[place]))

    def integer(self, place: int) -> int:
        """Return the whole number at a place among the arguments."""
        return int(self.arguments[place], 0)

    @cached_property
    def fd_paths(self) -> tuple[str, ...]:
        """The files that its descriptors stand for."""
        found = (_FD.match(argument) for argument in self.arguments)
        return tuple(_path(match) for match in found if match and match[2] and match[1] != "AT_FDCWD")

    @cached_property
    def path_arguments(self) -> tuple[str, ...]:
        """The paths as they were passed, relative ones included."""
        places = (place for _, place in PATHS.get(self.name, ()))
        return tuple(os.fsdecode(self.data(place)) for place in places if place < len(self.arguments))

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """The absolute paths it is about: those it names, else the files of its descriptors."""
        named = []
        for base, place in PATHS.get(self.name, ()):
            text = os.fsdecode(self.data(place)) if place < len(self.arguments) else ""
            if text or base is None:
                named.append(os.path.normpath(os.path.join(self._base(base), text)))  # noqa: PTH118 - text as traced
        return tuple(named) or self.fd_paths

    def _base(self, place: int | None) -> str:
        if place is None:
            return self.directory
        match = _FD.match(self.arguments[place])
        return _path(match) if match and match[2] else self.directory

    @property
    def changes(self) -> bool:
        """Whether a call of this kind changes what is on the disk."""
        if self.name in OPENING and self.name != "creat":
            return any("O_CREAT" in argument or "O_TRUNC" in argument for argument in self.arguments)
        return self.name in STATE_CHANGING

    def within(self, world: str) -> bool:
        """Say whether it concerns the directory `world` or something below it."""
        if self.name == "sync":
            return True
        return any(path == world or path.startswith(world + "/") for path in self.paths)


def _path(match: re.Match[str]) -> str:
    path = bytes.fromhex((match[2] or "").replace("\\x", ""))
    return os.fsdecode(path.removesuffix(_DELETED))


@dataclass
class _Parser:
    directory: str
    threads: dict[int, int] = field(default_factory=dict)
    counts: dict[tuple[int, str], int] = field(default_factory=dict)
    waiting: dict[int, tuple[str, str, int]] = field(default_factory=dict)

    def read(self, line: str) -> Call | None:
        match = _LINE.match(line)
        if match is None:
            return None
        process, rest = int(match[1]), match[2]
        resumed = _RESUMED.match(rest)
        if resumed is not None:
            return self._resume(process, resumed[2])
        begun = _BEGUN.match(rest)
        if begun is None:  # "+++ exited with 0 +++"
            return None
        key = (process, begun[1])
        self.counts[key] = number = self.counts.get(key, 0) + 1
        if begun[3] is None:
            self.waiting[process] = (begun[1], begun[2], number)
            return None
        return self._call(process, begun[1], number, begun[2], begun[3], begun[4])

    def _resume(self, process: int, rest: str) -> Call | None:
        name, arguments, number = self.waiting.pop(process, ("", "", 0))
        match = re.match(r"(.*)\) += (\?|-?\d+|0x[0-9a-f]+)(.*)", rest, re.DOTALL)
        if not name or match is None:
            return None
        return self._call(process, name, number, arguments + match[1], match[2], match[3])

    def _call(self, process: int, name: str, number: int, arguments: str, result: str, rest: str) -> Call:  # noqa: PLR0917
        return Call(
            thread=self.threads.setdefault(process, len(self.threads)),
            name=name,
            number=number,
            arguments=tuple(arguments.split(", ")) if "[{" not in arguments else _split(arguments),
            result=None if result == "?" else int(result, 0),
            process=process,
            directory=self.directory,
            injected="(INJECTED)" in rest,
        )

    def unfinished(self) -> Iterator[Call]:
        """Yield the calls that never returned: the process was killed in them."""
        for process, (name, arguments, number) in self.waiting.items():
            yield self._call(process, name, number, arguments, "?", "")


def _split(arguments: str) -> tuple[str, ...]:
    """Split at the commas outside of brackets: the vectors of writev have commas of their own."""
    parts, depth, begun = [], 0, 0
    for position, character in enumerate(arguments):
        if character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(arguments[begun:position].strip())
            begun = position + 1
    return (*parts, arguments[begun:].strip())


def parse(lines: Iterable[str], directory: str) -> list[Call]:
    """Return the calls of a log in the order in which they ended; `directory` is where relative paths start."""
    parser = _Parser(directory)
    calls = [call for line in lines if (call := parser.read(line.rstrip("\n"))) is not None]
    return [*calls, *parser.unfinished()]
