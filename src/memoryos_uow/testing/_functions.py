"""Functions that a child process can find again: named by module, so nothing is pickled.

Promise: a reference made here leads, in a fresh interpreter, to the same function, also for test modules that no import
path leads to (those are loaded from their file).
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

Reference: TypeAlias = "str | Callable[..., Any] | type[BaseException]"
"""A function or class for a child process: itself, or ``"package.module:name"``, or ``"path/to/file.py:name"``."""


class ExplorerError(UsageError):
    """The explorer was called wrongly, or what it was given does not run by itself: nothing was explored."""

    summary = "The crash explorer could not begin."


@dataclass(frozen=True, slots=True)
class Function:
    """Where a module-level function or class stands."""

    module: str
    name: str
    file: str | None = None

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"

    @property
    def spelled(self) -> str:
        """How a command line in this directory names it: by module where that can be imported, else by file."""
        if self.file is None or "." in self.module or Path(f"{self.module}.py").exists():
            return str(self)
        file = Path(self.file)
        return f"{file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}:{self.name}"

    def as_dict(self) -> dict[str, str | None]:
        """Return the reference as JSON can carry it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Function:
        """Return the reference that `as_dict` gave."""
        return cls(given["module"], given["name"], given["file"])


def reference(given: Reference) -> Function:
    """Return where `given` stands, a function or class at the top of a module; see `Reference`.

    Raises:
        ExplorerError: a lambda, an inner function, a method of an instance: a child process could not find it.
    """
    if isinstance(given, str):
        module, _, name = given.rpartition(":")
        if not module or not name:
            raise ExplorerError(f"{given!r} names no function.", hint='Write "package.module:function".')
        if module.endswith(".py"):
            return Function(Path(module).stem, name, str(Path(module).absolute()))
        return Function(module, name)
    module, name = getattr(given, "__module__", None) or "", getattr(given, "__qualname__", "")
    if not module or not name or "<" in name:
        raise ExplorerError(
            f"{given!r} cannot be found again in a child process.",
            hint="Pass a function that stands at the top of a module, without arguments of its own.",
        )
    try:
        file = inspect.getsourcefile(given)
    except TypeError:  # built in
        file = None
    return Function(module, name, file)


def load(wanted: Function) -> Callable[..., Any]:
    """Return the function itself.

    Raises:
        ExplorerError: its module has no such name.
        ImportError: its module cannot be imported.
    """
    found: Any = _module(wanted)
    for part in wanted.name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ExplorerError(f"There is no function {wanted}.", hint="Check the name.")
    result: Callable[..., Any] = found
    return result


def _module(wanted: Function) -> ModuleType:
    name = "__mp_main__" if wanted.module == "__main__" else wanted.module
    if name in sys.modules:
        return sys.modules[name]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if wanted.file is None or not _is_part(missing.name, name):
            raise
    spec = importlib.util.spec_from_file_location(name, wanted.file)
    assert spec is not None  # noqa: S101 - it has a file
    assert spec.loader is not None  # noqa: S101 - and so a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _is_part(missing: str | None, name: str) -> bool:
    """Say whether `missing` is `name` or a package on the way to it, rather than something that it imports."""
    return missing is not None and (name == missing or name.startswith(missing + "."))
