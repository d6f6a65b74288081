"""The reference pages say what the code says: every public name, error, table, limit and option, and no other."""

from __future__ import annotations

import ast
import inspect
import re
import sqlite3
from contextlib import closing
from dataclasses import fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import click
import pytest

import memoryos_uow
from memoryos_uow import _bands, _names, _opening, _schema, errors, stores
from memoryos_uow._expecting import ANYTHING
from memoryos_uow._handles import LedgerStore, UnitStore
from memoryos_uow._migrations_postgres.shape import expected
from memoryos_uow._relay import Outbox
from memoryos_uow.cli._program import program
from memoryos_uow.stores import _blob_keys, _blobs, _documents, _fulltext, _strict_json, _table_shape
from tests.docs.examples import PACKAGE
from tests.docs.pages import REFERENCE, code, numbers, rows, section, tables

if TYPE_CHECKING:
    from collections.abc import Callable

API = REFERENCE / "api.md"
ERRORS = REFERENCE / "errors.md"
SCHEMA = REFERENCE / "schema.md"
SCHEMA_ON_POSTGRESQL = REFERENCE / "schema-on-postgresql.md"
LIMITS = REFERENCE / "limits.md"
COMMANDS = REFERENCE / "command-line.md"

DESCRIBED_BY_METHODS = [memoryos_uow.Ledger, memoryos_uow.UnitOfWork, UnitStore, LedgerStore, Outbox]
DESCRIBED_BY_FIELDS = [
    memoryos_uow.Receipt,
    memoryos_uow.UnitRecord,
    memoryos_uow.WriteRecord,
    memoryos_uow.Violation,
    memoryos_uow.Verification,
    memoryos_uow.Finding,
    memoryos_uow.StoreCheck,
    memoryos_uow.RecoveryReport,
    memoryos_uow.Message,
    memoryos_uow.RelayReport,
    memoryos_uow.CopyProgress,
    memoryos_uow.CopyReport,
    memoryos_uow.OutboxEntry,
    memoryos_uow.Hit,
    memoryos_uow.Limits,
    memoryos_uow.Outcome,
]
ERROR_CLASSES: list[type[errors.UnitOfWorkError]] = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.UnitOfWorkError)
]
WORDS = [kind for _, kind in inspect.getmembers(memoryos_uow, inspect.isclass) if issubclass(kind, StrEnum)]

# API


def public_members(kind: type) -> set[str]:
    """The names of a class that users may use; those of a named tuple's own machinery are not among them."""
    inherited = set(dir(tuple)) | {"index", "count"} if issubclass(kind, tuple) else set()
    return {name for name in dir(kind) if not name.startswith("_")} - inherited


def shown_signatures(text: str) -> dict[str, ast.arguments]:
    """What stands in the text as code and looks like a call, by name."""
    found = {}
    for snippet in code(text):
        call = re.fullmatch(r"(?P<name>\w+)\((?P<arguments>.*)\)", snippet)
        if call:
            (function,) = ast.parse(f"def f({call['arguments']}): ...").body
            assert isinstance(function, ast.FunctionDef)
            found[call["name"]] = function.args
    return found


def _value(default: ast.expr) -> Any:
    """The value of a default as it is shown."""
    return ANYTHING if isinstance(default, ast.Name) and default.id == "ANYTHING" else ast.literal_eval(default)


def assert_same_signature(shown: ast.arguments, function: Callable[..., Any]) -> None:
    """The parameters, their kinds and their defaults are those of the function."""
    wanted = [p for p in inspect.signature(function).parameters.values() if p.name not in {"self", "cls"}]
    positional, keyword = [*shown.posonlyargs, *shown.args], shown.kwonlyargs
    variable = [one for one in (shown.vararg, shown.kwarg) if one is not None]
    assert [one.arg for one in (*positional, *keyword, *variable)] == [p.name for p in wanted], function
    assert {one.arg for one in keyword} == {p.name for p in wanted if p.kind is p.KEYWORD_ONLY}
    missing: list[None] = [None] * (len(positional) - len(shown.defaults))
    for one, default in zip((*positional, *keyword), (*missing, *shown.defaults, *shown.kw_defaults), strict=True):
        (parameter,) = (p for p in wanted if p.name == one.arg)
        expected = inspect.Parameter.empty if default is None else _value(default)
        assert parameter.default == expected, f"{function}: {one.arg}"


def test_api_names_everything_public() -> None:
    """Each name of both public modules stands as code on the API page."""
    text = API.read_text(encoding="utf-8")
    shown = {word for snippet in code(text) for word in re.findall(r"\w+", snippet)}
    assert {*memoryos_uow.__all__, *stores.__all__} - shown == set()


@pytest.mark.parametrize("kind", [*DESCRIBED_BY_METHODS, *DESCRIBED_BY_FIELDS], ids=lambda kind: str(kind.__name__))
def test_api_describes_every_member(kind: type) -> None:
    """The table of a class lists all its public methods, properties and fields, and no other name."""
    described = [re.sub(r"\(.*", "", one) for row in rows(API, kind.__name__) for one in code(row[0])]
    listed = {one for one in described if re.fullmatch(r"\w+", one)}
    assert listed - {kind.__name__} == public_members(kind)
    assert len(described) == len(set(described))


@pytest.mark.parametrize("kind", DESCRIBED_BY_METHODS, ids=lambda kind: str(kind.__name__))
def test_api_shows_signatures_as_they_are(kind: type) -> None:
    """Each signature in the table of a class is the method's own; each method shows one."""
    shown = shown_signatures("\n".join(row[0] for row in rows(API, kind.__name__)))
    methods = {name for name in public_members(kind) if inspect.isroutine(inspect.getattr_static(kind, name))}
    methods |= {name for name in public_members(kind) if isinstance(inspect.getattr_static(kind, name), classmethod)}
    assert shown.keys() - {kind.__name__} == methods
    for name, arguments in shown.items():
        assert_same_signature(arguments, kind if name == kind.__name__ else getattr(kind, name))


@pytest.mark.parametrize("name", stores.__all__)
def test_api_shows_how_stores_are_made(name: str) -> None:
    """The first signature in a store's section is its constructor's."""
    shown = shown_signatures(section(API, name))
    assert_same_signature(shown[name], getattr(stores, name))


def test_api_lists_every_word() -> None:
    """Each enumeration is listed with its members' values."""
    listed = {code(row[0])[0]: code(row[1]) for row in rows(API, "Words")}
    assert listed == {kind.__name__: [member.value for member in kind] for kind in WORDS}


def test_api_explains_every_argument_of_ledgers_and_units() -> None:
    """Each argument of Ledger.open and UnitOfWork has a line of its own."""
    for heading, function in (("Ledger", memoryos_uow.Ledger.open), ("UnitOfWork", memoryos_uow.UnitOfWork)):
        explained = {
            name for line in re.findall(r"^- (.+?):", section(API, heading), re.MULTILINE) for name in code(line)
        }
        assert explained == set(inspect.signature(function).parameters)


# Errors


def test_errors_are_all_listed_with_what_they_say_of_retrying() -> None:
    """The table has each error class once, and says of it truly whether doing the same again may help."""
    listed = {code(row[0])[0]: row[2] for row in tables(ERRORS.read_text(encoding="utf-8"))[0]}
    assert listed == {kind.__name__: "yes" if kind.retryable else "no" for kind in ERROR_CLASSES}


def test_reserved_errors_are_those_that_nothing_raises() -> None:
    """An error is called reserved if, and only if, no module of the library makes one."""
    modules = [path for path in PACKAGE.rglob("*.py") if path.name not in {"errors.py", "__init__.py"}]
    used = {word for path in modules for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))}
    table = tables(ERRORS.read_text(encoding="utf-8"))[0]
    reserved = {code(row[0])[0] for row in table if row[1].startswith("reserved")}
    unused = {kind.__name__ for kind in ERROR_CLASSES} - used
    assert reserved == unused


def test_errors_tree_is_the_classes_tree() -> None:
    """The drawing has each class below its own base class."""
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in re.findall(r"^[│ ├└─]*\w+$", section(ERRORS, "The tree"), re.MULTILINE):
        name = line.lstrip("│ ├└─")
        depth = (len(line) - len(name)) // 4
        above[depth:] = [name]
        drawn[name] = above[depth - 1] if depth else "Exception"
    assert drawn == {kind.__name__: kind.__bases__[0].__name__ for kind in ERROR_CLASSES}


# Schema


def made_tables() -> dict[str, list[str]]:
    """The columns of every table and view that the schema files make."""
    scripts = [(_schema.BASE, _schema.UP, _schema.LEDGER, _schema.STORES, _schema.SAVED), (_schema.SECOND_FILE,)]
    made: dict[str, list[str]] = {}
    for names in scripts:
        with closing(sqlite3.connect(":memory:")) as connection:
            for name in names:
                connection.executescript(_schema.text(name))
            objects = connection.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')").fetchall()
            for (table,) in objects:
                made[table] = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    return made


def test_schema_page_has_every_table_and_column_in_order() -> None:
    """Each table has a section with its columns in their order, and there is no section for anything else."""
    text = SCHEMA.read_text(encoding="utf-8")
    headings = re.findall(r"^### (\w+)$", text, re.MULTILINE)
    shown = {table: [name for row in rows(SCHEMA, table) for name in code(row[0])] for table in headings}
    assert shown == made_tables()


def test_schema_page_says_which_version_added_a_column() -> None:
    """The columns called 1.1.0 are those that the forward migration adds."""
    for table in _schema.CONTRACT_TABLES:
        shown = {code(row[0])[0]: row[1] for row in rows(SCHEMA, table)}
        added = {one.column for one in _schema.added_columns() if one.table == table}
        assert shown == {name: "1.1.0" if name in added else "1.0.0" for name in shown}


def test_schema_page_names_every_index() -> None:
    """Each index that a schema file makes is named."""
    files = (_schema.UP, _schema.LEDGER, _schema.STORES, _schema.SAVED)
    made = [one.name for name in files for one in _schema.created(name)]
    assert [name for name in made if f"`{name}`" not in SCHEMA.read_text(encoding="utf-8") and "idx" in name] == []


def test_the_page_on_postgresql_has_what_differs() -> None:
    """Each table of the page exists only there, with its columns in order; columns of one side only are named."""
    theirs, ours = made_tables(), {table: list(columns) for table, columns in expected().tables.items()}
    headings = re.findall(r"^### (\w+)$", SCHEMA_ON_POSTGRESQL.read_text(encoding="utf-8"), re.MULTILINE)
    shown = {table: [name for row in rows(SCHEMA_ON_POSTGRESQL, table) for name in code(row[0])] for table in headings}
    assert shown == {table: columns for table, columns in ours.items() if table not in theirs}
    different = {
        table: (
            [one for one in theirs[table] if one not in columns],
            [one for one in columns if one not in theirs[table]],
        )
        for table, columns in ours.items()
        if table in theirs and columns != theirs[table]
    }
    named = {code(row[0])[0]: (code(row[1]), code(row[2])) for row in rows(SCHEMA_ON_POSTGRESQL, "Columns")}
    assert named == different


def test_the_page_on_postgresql_names_every_index_that_differs() -> None:
    """An index that only one side has is on the page."""
    ours, theirs = (
        {
            one.name
            for name in (files.up, files.ledger, files.stores)
            for one in _schema.created(name)
            if one.kind == "index"
        }
        for files in (_schema.FILES[_names.Dialect.POSTGRESQL], _schema.FILES[_names.Dialect.SQLITE])
    )
    text = SCHEMA_ON_POSTGRESQL.read_text(encoding="utf-8")
    assert {name for name in ours ^ theirs if f"`{name}`" not in text} == set()


# Limits


def test_settable_limits_have_their_defaults() -> None:
    """The table has every field of Limits with its default."""
    shown = {code(row[0])[0]: numbers(row[1]) for row in rows(LIMITS, "Settable")}
    assert shown == {field.name: [field.default] for field in fields(memoryos_uow.Limits)}


def test_fixed_limits_are_those_of_the_code() -> None:
    """Each number in the table is the constant that the code enforces."""
    wanted = {
        "space, actor, device, correlation and envelope ids, idempotency keys": _names.MAX_NAME_BYTES,
        "key of a record": _names.MAX_KEY_BYTES,
        "topic of a message": _names.MAX_NAME_BYTES,
        "key of a message": _names.MAX_KEY_BYTES,
        "part of a blob's or file's key between slashes": _blob_keys.SEGMENT_BYTES_MAX,
        "columns with which a table store creates a table": _table_shape.COLUMNS_MAX,
        "nesting of a document": _strict_json.DEPTH_MAX,
        "fields that one document store searches": _documents.FIELDS_MAX,
        "full-text query": _fulltext.QUERY_CHARACTERS_MAX,
        "origin of a ledger": _opening.ORIGIN_CHARACTERS_MAX,
        "recorded error text": _bands.MAX_MESSAGE_CHARACTERS,
    }
    shown = {row[0]: numbers(row[1])[0] for row in rows(LIMITS, "Fixed") if not row[0].startswith("name of")}
    assert shown == wanted


def test_names_have_the_length_that_is_stated() -> None:
    """A store name of 63 characters is taken, one of 64 is not."""
    assert "63 characters" in section(LIMITS, "Fixed")
    assert _names.check_store_name("n" * 63)
    with pytest.raises(memoryos_uow.UsageError):
        _names.check_store_name("n" * 64)


def test_the_border_between_rows_and_files_is_the_stated_one() -> None:
    """How-to and API give the default of inline_below."""
    assert f"{_blobs.INLINE_BELOW_BYTES:,}" in (REFERENCE.parent / "how-to/store-files.md").read_text(encoding="utf-8")


# Command line


def commands() -> dict[str, click.Command]:
    """All commands by name; those of a group behind its own name."""
    found: dict[str, click.Command] = {}
    for name, command in program.load().items():
        if isinstance(command, click.Group):
            found |= {f"{name} {inner}": one for inner, one in command.commands.items()}
        else:
            found[name] = command
    return found


def command_names() -> list[str]:
    """The names of all commands."""
    return sorted(commands())


def test_every_command_has_a_section() -> None:
    """The page has a section for each command and for no other."""
    headings = re.findall(r"^## `(.+)`$", COMMANDS.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == command_names()


@pytest.mark.parametrize("name", command_names())
def test_every_option_is_listed(name: str) -> None:
    """A command's section lists each of its options and arguments, and no option that it has not."""
    text = section(COMMANDS, name)
    parameters = commands()[name].params
    given = {option for one in parameters if isinstance(one, click.Option) for option in one.opts}
    options = {option for option in given if option.startswith("--")}
    arguments = {one.name.upper() for one in parameters if isinstance(one, click.Argument) and one.name}
    listed = {
        option for row in tables(text)[0] for snippet in code(row[0]) for option in re.findall(r"--[\w-]+", snippet)
    }
    assert listed == options
    assert all(argument in text for argument in arguments)
