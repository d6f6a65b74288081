"""The store behind uow.sql: parameters, content, and what it has no records for."""

from __future__ import annotations

import enum
import hashlib
import json
import math
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoryos_uow import Band, Limits, Operation, StoreError, UsageError
from memoryos_uow.abc import MISSING, Capability, Store, UnitFacts, Write
from memoryos_uow.stores._sql import SqlStatements, check_parameters, statement_content
from tests.both import both
from tests.naming import plain_repr

if TYPE_CHECKING:
    from tests.stores.driver import Driver

pytestmark = both

CANARY = "Sesame-7b1f"
FACTS = UnitFacts("u1", "shared:household", Band.GREEN, Limits())


class Number(enum.IntEnum):
    TWO = 2


class Word(str, enum.Enum):  # noqa: UP042 - prints as Word.HOME, which is the point
    HOME = "home"


class Half(float):
    __slots__ = ()


SUPPORTED: list[tuple[object, object]] = [
    (None, None),
    (True, True),
    (0, 0),
    (2**63 - 1, 2**63 - 1),
    (-(2**63), -(2**63)),
    (Number.TWO, 2),
    (1.5, 1.5),
    (-0.0, -0.0),
    (Half(0.5), 0.5),
    ("żółw 🐢", "żółw 🐢"),
    ("", ""),
    (Word.HOME, "home"),
    (b"\x00\xff", b"\x00\xff"),
    (bytearray(b"ab"), b"ab"),
    (memoryview(b"abcd")[::2], b"ac"),
]


@pytest.mark.parametrize(("value", "kept"), SUPPORTED, ids=plain_repr)
def test_supported_values(value: object, kept: object) -> None:
    """What SQLite has a type for is kept, subclasses as what they hold, buffers as bytes."""
    assert check_parameters((value,)) == (kept,)
    assert check_parameters([value]) == (kept,)
    assert check_parameters({"name": value}) == {"name": kept}
    (checked,) = check_parameters((value,))
    assert isinstance(checked, (int, float)) or type(checked) in (type(None), str, bytes)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (2**63, "beyond 64 bits"),
        (-(2**63) - 1, "beyond 64 bits"),
        (10**5000, "beyond 64 bits"),
        (math.nan, "NaN or infinite"),
        (math.inf, "NaN or infinite"),
        (f"{CANARY}\0", r"contains U\+0000"),
        (f"{CANARY}\ud800", "lone surrogate"),
        ({CANARY: 1}, "of type dict"),
        ([CANARY], "of type list"),
        (object(), "of type object"),
        (1j, "of type complex"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_values_are_refused(value: object, why: str) -> None:
    """What SQLite cannot keep exactly is refused with its place and reason, and is not shown."""
    for parameters, where in (((1, value), "number 2"), ({"x": value}, ":x")):
        with pytest.raises(UsageError, match=f"SQL parameter {where} .*{why}") as refused:
            check_parameters(parameters)
        assert CANARY not in str(refused.value)


@pytest.mark.parametrize("parameters", ["abc", b"abc", {1, 2}, 7, None, iter((1,)), {1: 2}, {"a\ud800": 1}, {"\0": 1}])
def test_other_shapes_are_refused(parameters: Any) -> None:
    """Parameters are a tuple, a list, or a dict with names that are text: a single string is a frequent mistake."""
    with pytest.raises(UsageError, match="SQL parameters"):
        check_parameters(parameters)


def test_later_changes_do_not_reach_what_was_checked() -> None:
    """The caller may change list, dict or buffer after the call without changing the write."""
    values: list[object] = [bytearray(b"ab"), 1]
    names: dict[str, object] = {"x": 1}
    kept, named = check_parameters(values), check_parameters(names)
    values[0][0] = 0  # type: ignore[index]
    values.append(2)
    names["x"] = 2
    assert (kept, named) == ((b"ab", 1), {"x": 1})


def test_content_is_the_stated_json() -> None:
    """The content of a statement is the JSON that the module's text states, in bytes and SHA-256."""
    content = statement_content("INSERT INTO t VALUES (?, ?, ?, ?, ?)", ("ü", 1, 0.1, b"\x0f", None))
    text = '{"parameters":["ü",1,0.1,{"$bytes":"0f"},null],"sql":"INSERT INTO t VALUES (?, ?, ?, ?, ?)"}'
    assert content == (len(text.encode()), hashlib.sha256(text.encode()).hexdigest())


def test_content_of_named_parameters_does_not_depend_on_their_order() -> None:
    """The same names and values in another order are the same content."""
    assert statement_content("q", {"a": 1, "b": 2}) == statement_content("q", {"b": 2, "a": 1})


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
    | st.binary()
)
PARAMETERS = st.lists(VALUES).map(tuple) | st.dictionaries(TEXTS, VALUES)


@given(TEXTS, PARAMETERS)
def test_content_is_json_that_says_what_was_asked(sql: str, parameters: Any) -> None:
    """For any statement the content is valid JSON of the stated size, from which statement and values can be read."""
    checked = check_parameters(parameters)
    content = statement_content(sql, checked)
    text = json.dumps(
        {"parameters": checked, "sql": sql},
        ensure_ascii=False,
        sort_keys=True,
        separators=(",", ":"),
        default=lambda b: {"$bytes": b.hex()},
    )
    assert content == (len(text.encode()), hashlib.sha256(text.encode()).hexdigest())
    assert json.loads(text)["sql"] == sql


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_checked_parameters_can_be_bound(values: list[object]) -> None:
    """Whatever passes the check, SQLite takes and gives back."""
    connection = sqlite3.connect(":memory:")
    try:
        marks = ", ".join("?" * len(values))
        (row,) = connection.execute(f"SELECT {marks}", check_parameters(values)).fetchall()
    finally:
        connection.close()
    assert list(row) == values


def test_it_is_a_store_without_records(driver: Driver) -> None:
    """The store needs nothing, keeps no records, and sends whoever wants some to uow.sql."""
    store = SqlStatements()
    assert isinstance(store, Store)
    assert (store.name, store.kind, store.capability) == ("sql", "sql", Capability.SAME_TRANSACTION)
    write = Write("sql", Operation.CREATE, None, ("", ()), None, "")
    with driver.transaction() as tx:
        assert store.attach(driver.home, tx, None) is False
        assert store.setup(tx, None) == {}
        assert store.read(tx, "s", "k") is None
        assert store.version(tx, "s", "k") is None
        assert list(store.keys(tx, "s")) == []
        with pytest.raises(UsageError, match=r"uow\.sql"):
            store.search(tx, "s", "query", 1, {})
    assert store.overlay(write) is MISSING
    with pytest.raises(UsageError, match=r"uow\.sql"):
        store.encode(Operation.CREATE, "k", "value", Limits())
    store.close()
    store.close()


def a_statement(sql: str, *values: object) -> Write:
    """A statement as a unit's write."""
    return Write("sql", Operation.CREATE, None, (sql, values), statement_content(sql, values), "")


def test_statements_run_in_order(driver: Driver) -> None:
    """Statements are run one after the other in the transaction given."""
    statements = [
        a_statement("CREATE TABLE t (x INTEGER)"),
        a_statement("INSERT INTO t VALUES (?)", 1),
        a_statement("UPDATE t SET x = x + ?", 10),
        a_statement("INSERT INTO t SELECT x + 1 FROM t"),
    ]
    with driver.transaction() as tx:
        SqlStatements().apply(tx, FACTS, 1, statements)
        assert tx.rows("SELECT x FROM t") == [(11,), (12,)]


def test_a_refused_statement_is_a_store_error(driver: Driver) -> None:
    """A constraint that refuses a statement refuses the unit, and the value is not shown."""
    with (
        pytest.raises(StoreError, match=r"UNIQUE constraint failed: t\.x|t_x_key") as refused,
        driver.transaction() as tx,
    ):
        tx.execute("CREATE TABLE t (x TEXT UNIQUE)")
        SqlStatements().apply(tx, FACTS, 1, [a_statement("INSERT INTO t VALUES (?), (?)", CANARY, CANARY)])
    assert CANARY not in str(refused.value)
