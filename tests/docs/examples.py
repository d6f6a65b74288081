"""Runs what the documents show: Python blocks with the output below them, and commands typed at a prompt.

The rules for whoever writes an example:

- A block marked ``python`` is run; what it prints must be shown in a block marked ``output`` right below it. Blocks of
  one file share their names and their working directory, which is new, empty and removed afterwards.
- A block marked ``console`` holds commands after ``$ ``, continued after a backslash, each with its output. A command
  that fails says so in a comment: ``# exits with 1``. A block is skipped where a program it needs is missing.
- The address ``postgresql://app@db.example.com/memory`` is that of a new database for each file; what mentions it is
  skipped where no server can be started.
- In what is shown, ``...`` stands for anything; a time or duration for any other one; an id or digest for the one that
  is printed in its place the first time, and then, in outputs and commands alike, for that one only.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from sybil import Region
from sybil.document import PythonDocStringDocument
from sybil.example import NotEvaluated

import memoryos_uow
from memoryos_uow import _open_ledger
from tests import postgres_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sybil import Document, Example

PACKAGE: Final = Path(memoryos_uow.__file__).parent
LEDGER_VARIABLE: Final = "MEMORYOS_UOW_LEDGER"
COMMAND_SECONDS_MAX: Final = 60
DATABASE: Final = "postgresql://app@db.example.com/memory"
"""Stands in the documents for the address of a database."""

_PYTHON: Final = re.compile(
    r"^(?P<indent> *)```python\n(?P<code>.*?)^(?P=indent)```$"
    r"(?:\n+(?P=indent)```output\n(?P<output>.*?)^(?P=indent)```$)?",
    re.MULTILINE | re.DOTALL,
)
_CONSOLE: Final = re.compile(r"^```console\n(?P<lines>.*?)^```$", re.MULTILINE | re.DOTALL)
_EXIT: Final = re.compile(r"# exits with (?P<code>\d+)$")
_FIRST_WORD: Final = re.compile(r"(?:^|[|(]|&&) *(?P<word>[\w-]+)")

_STAND_IN: Final = re.compile(
    r"(?P<anything>\.\.\.)"
    r"|(?P<name>\b(?:[0-9a-f]{64}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32})\b)"
    r"|(?P<time>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z?)"
    r"|(?P<duration>\d[\d.,]* ?(?:µs|ms|s)\b)"
)


class Docstrings(PythonDocStringDocument):
    """A Python file whose docstrings hold examples; an example imports what it uses, as a reader would have to."""

    def import_document(self, _: Example) -> None:
        self.pop_evaluator(self.import_document)
        raise NotEvaluated


# What is found in a document


def python_blocks(document: Document) -> Iterable[Region]:
    """Find the Python blocks of a document, each with the output shown below it."""
    for found in _PYTHON.finditer(document.text):
        indent = len(found["indent"])
        code, output = (_without_indent(found[part] or "", indent) for part in ("code", "output"))
        yield Region(found.start(), found.end(), (code, output), run_python)


def console_blocks(document: Document) -> Iterable[Region]:
    """Find the blocks of commands of a document."""
    for found in _CONSOLE.finditer(document.text):
        yield Region(found.start(), found.end(), list(_commands(found["lines"])), run_console)


def _without_indent(text: str, indent: int) -> str:
    return "".join(line[indent:] or "\n" for line in text.splitlines(keepends=True))


def _commands(block: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block with the output shown for it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        length = 1 + next((number for number, line in enumerate(lines) if not line.endswith("\\\n")), 0)
        yield "".join(lines[:length]).strip(), "".join(lines[length:])


# How it is run


def run_python(example: Example) -> str | None:
    """Run a Python block; say what is wrong with its output, if anything is."""
    code, shown = (_on_a_server(example, part) for part in example.parsed)
    printed = io.StringIO()
    compiled = compile("\n" * example.line + code, example.path, "exec", dont_inherit=True)
    with contextlib.redirect_stdout(printed):
        exec(compiled, example.namespace)  # noqa: S102 - the examples are our own
    return _stand_ins(example).problem(shown, printed.getvalue())


def run_console(example: Example) -> str | None:
    """Run the commands of a console block in turn; say what is wrong with the first that does not do what is shown."""
    for parts in example.parsed:
        command, shown = (_on_a_server(example, part, quote=shlex.quote) for part in parts)
        _skip_without_programs(command)
        wanted = _EXIT.search(command)
        done = subprocess.run(
            ["sh", "-c", _stand_ins(example).filled_in(command)],
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        problem = _stand_ins(example).problem(shown, done.stdout)
        if done.returncode != int(wanted["code"] if wanted else 0):
            problem = f"It exits with {done.returncode}.\n{done.stdout}"
        if problem:
            return f"$ {command}\n{problem}"
    return None


def _on_a_server(example: Example, text: str, quote: Callable[[str], str] = str) -> str:
    """Return `text` with the address of a database that there is, made for the file at its first mention."""
    if DATABASE not in text:
        return text
    namespace = example.namespace
    if "__database__" not in namespace:
        why_not = postgres_server.why_not()
        if why_not is not None and not os.environ.get(postgres_server.ELSEWHERE):
            pytest.skip(why_not)
        namespace["__databases__"] = postgres_server.Databases(_server_url())
        namespace["__database__"] = namespace["__databases__"].new()
    return text.replace(DATABASE, quote(namespace["__database__"]))


@cache
def _server_url() -> str:
    return os.environ.get(postgres_server.ELSEWHERE) or postgres_server.start_server(durable=True).url()


def _skip_without_programs(command: str) -> None:
    for word in _FIRST_WORD.findall(command):
        if word != "memoryos-uow" and shutil.which(word) is None:
            pytest.skip(f"the program {word} is not installed")


def _environment() -> dict[str, str]:
    """Return the surroundings of a command: nothing of this machine's but the path to its programs."""
    return {
        "PATH": os.pathsep.join((str(_command_folder()), os.environ.get("PATH", os.defpath))),
        "HOME": str(Path.cwd()),
        "LANG": "C.UTF-8",
        "NO_COLOR": "1",
    }


def _command_folder() -> Path:
    """Return a folder with the command memoryos-uow: beside the interpreter, or made here where it is not installed."""
    folder = Path(sys.executable).parent
    if not (folder / "memoryos-uow").exists():
        folder = Path.cwd() / ".commands"
        folder.mkdir(exist_ok=True)
        script = folder / "memoryos-uow"
        path = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r})"
        script.write_text(f"#!{sys.executable}\n{path}\nfrom memoryos_uow.cli import main\n\nmain()\n")
        script.chmod(0o700)
    return folder


# What is compared


class StandIns:
    """What the ids and digests that one document shows stand for."""

    def __init__(self) -> None:
        self._actual: dict[str, str] = {}

    def filled_in(self, text: str) -> str:
        """Return `text` with every id and digest that is known by now replaced by what it stands for."""
        return _STAND_IN.sub(lambda found: self._actual.get(found[0], found[0]), text)

    def problem(self, shown: str, actual: str) -> str | None:
        """Say how `actual` departs from what is `shown`, or return None and remember what stands for what."""
        new: dict[str, str] = {}
        pattern = self._pattern(_tidy(shown), new)
        found = re.fullmatch(pattern, _tidy(actual), re.DOTALL)
        if found is None:
            return f"Shown is:\n{shown}\nPrinted was:\n{actual}"
        self._actual.update({name: found[group] for name, group in new.items()})
        return None

    def _pattern(self, shown: str, new: dict[str, str]) -> str:
        parts = []
        position = 0
        for token in _STAND_IN.finditer(shown):
            parts += [re.escape(shown[position : token.start()]), self._token(token, new)]
            position = token.end()
        return "".join((*parts, re.escape(shown[position:])))

    def _token(self, token: re.Match[str], new: dict[str, str]) -> str:
        text = token[0]
        if token["anything"]:
            return ".*?"
        if token["time"]:
            return re.sub(r"\d", r"\\d", re.escape(text))
        if token["duration"]:
            return r"\d[\d.,]* ?(?:µs|ms|s)"
        if text in self._actual:
            return re.escape(self._actual[text])
        if text in new:
            return f"(?P={new[text]})"
        new[text] = f"name{len(new)}"
        return f"(?P<{new[text]}>[0-9a-f-]{{{len(text)}}})"


def _tidy(text: str) -> str:
    """Return `text` with single spaces between words and none around lines, so that tables may grow and shrink."""
    return "\n".join(" ".join(line.split()) for line in text.strip("\n").splitlines())


def _stand_ins(example: Example) -> StandIns:
    known: StandIns = example.namespace["__stand_ins__"]
    return known


# Where it is run


def set_up(namespace: dict[str, Any]) -> None:
    """Give a document a working directory of its own and surroundings without a default ledger."""
    namespace["__name__"] = "__main__"
    namespace["__stand_ins__"] = StandIns()
    stack = namespace["__stack__"] = ExitStack()
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="memoryos-uow-docs-"))).resolve()
    stack.callback(_close_ledgers_in, folder)
    stack.enter_context(contextlib.chdir(folder))
    patch.delenv(LEDGER_VARIABLE, raising=False)
    patch.setenv("PYTHONPATH", str(PACKAGE.parent))  # for the child processes of examples


def tear_down(namespace: dict[str, Any]) -> None:
    """Close every ledger that the examples left open and remove their directory, and their database."""
    namespace["__stack__"].close()
    if "__databases__" in namespace:
        namespace["__databases__"].drop_all()


def _close_ledgers_in(folder: Path) -> None:
    for ledger in list(_open_ledger._open_ledgers):
        in_database = ledger.engine.directory is None
        if in_database or ledger.file.path.is_relative_to(folder):
            ledger.close()
