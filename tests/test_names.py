"""Names: what may be stored, hashed, shown and quoted, and what is refused."""

from __future__ import annotations

import enum
from typing import Any

import pytest

from memoryos_uow._names import (
    MAX_NAME_BYTES,
    Band,
    Durability,
    Isolation,
    Operation,
    Status,
    check_band,
    check_choice,
    check_identifier,
    check_store_name,
    plain,
    text_problem,
)
from memoryos_uow.errors import UsageError


class Old(str, enum.Enum):  # noqa: UP042 - prints as Old.HOME, which is the point
    HOME = "home"
    NOTES = "notes"
    GREEN = "GREEN"
    SQL = "sql"


class Odd(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"

    def __len__(self) -> int:
        return 1

    def __repr__(self) -> str:
        raise RuntimeError

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b""


def test_words_are_those_of_the_contract() -> None:
    """The closed sets of words are exactly the specification's."""
    assert [*Band] == ["GREEN", "AMBER", "RED", "BLACK"]
    assert [*Status] == ["pending", "committed", "rolled_back", "failed"]
    assert [*Operation] == ["create", "update", "upsert", "delete"]
    assert [*Isolation] == ["writes", "serializable"]
    assert [*Durability] == ["full", "normal"]


@pytest.mark.parametrize(
    "value",
    ["a", "shared:household", "żółw 🐢", "a" * MAX_NAME_BYTES, "🐢" * (MAX_NAME_BYTES // 4), "\x7f\n", "' OR 1=1 --"],
)
def test_identifiers_are_any_storable_text(value: str) -> None:
    """An identifier is any text that UTF-8 can hold in the bytes allowed, returned as it is."""
    assert check_identifier(value, "space_id") == value


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "must be a string, not NoneType"),
        (b"a", "must be a string, not bytes"),
        (7, "must be a string, not int"),
        ("", "is empty"),
        ("a\0b", r"U\+0000"),
        ("a\ud800", "lone surrogate"),
        ("a" * (MAX_NAME_BYTES + 1), "256 bytes long in UTF-8; the limit is 255"),
        ("🐢" * 64, "256 bytes long"),
        ("é" * 128, "256 bytes long"),
    ],
)
def test_other_identifiers_are_refused(value: object, why: str) -> None:
    """What is no text, empty, unstorable or too long in UTF-8 is refused with its name, the reason and a hint."""
    with pytest.raises(UsageError, match=why) as refused:
        check_identifier(value, "space_id")
    assert str(refused.value).startswith("The space_id ")
    assert (refused.value.hint or "").startswith("Nothing was written.")


def test_refusals_show_no_value() -> None:
    """What is refused for its characters or length does not appear in the error."""
    for value in ("secret\0", "secret\ud800", "secret" * 100):
        with pytest.raises(UsageError) as refused:
            check_identifier(value, "key")
        assert "secret" not in str(refused.value)


def test_limit_is_the_callers() -> None:
    """A key may have as many bytes as the caller says, and not one more."""
    assert check_identifier("é" * 5, "key", max_bytes=10) == "é" * 5
    with pytest.raises(UsageError):
        check_identifier("é" * 5 + "a", "key", max_bytes=10)


@pytest.mark.parametrize("value", [Old.HOME, Odd("home")], ids=["enum", "odd"])
def test_subclasses_of_str_count_for_what_they_hold(value: str) -> None:
    """An enum member or another subclass of str is taken for its characters, whatever it prints as."""
    checked = check_identifier(value, "space_id")
    assert (type(checked), checked) == (str, "home")
    assert (type(plain(value)), plain(value)) == (str, "home")


def test_a_subclass_cannot_smuggle_in_what_is_refused() -> None:
    """A subclass of str that lies about its length and bytes is measured all the same."""
    with pytest.raises(UsageError, match="bytes long"):
        check_identifier(Odd("a" * 300), "space_id")


@pytest.mark.parametrize("text", ["", "a", "🐢", "\ud83d\udc22".encode("utf-16", "surrogatepass").decode("utf-16")])
def test_sound_text_has_no_problem(text: str) -> None:
    """Text of Unicode scalar values other than U+0000 can stand in a receipt."""
    assert text_problem(text) is None


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\udc22\ud83d"])
def test_lone_surrogates_are_a_problem(text: str) -> None:
    """A surrogate without its partner is named as the problem."""
    assert "lone surrogate" in (text_problem(text) or "")


def test_bands_by_name() -> None:
    """A band is given by its name or as itself."""
    assert check_band("AMBER") is Band.AMBER
    assert check_band(Band.BLACK) is Band.BLACK
    assert check_band(Old.GREEN) is Band.GREEN


class Unequal:
    def __eq__(self, other: object) -> Any:
        raise ValueError

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("green", "not 'green'"),
        ("", "not ''"),
        (None, "not a NoneType"),
        (Status.COMMITTED, "not 'committed'"),
        (1, "not a int"),
        (Unequal(), "not a Unequal"),
        (Odd("BLUE"), "not 'BLUE'"),
        ("x" * 500, "not 'xxx"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_unknown_words_are_refused(value: object, shown: str) -> None:
    """A word that is not in the set is refused, and the error lists those that are."""
    with pytest.raises(UsageError) as refused:
        check_choice(value, Band, "band")
    assert shown in str(refused.value)
    assert "The band is one of 'GREEN', 'AMBER', 'RED', 'BLACK', not" in str(refused.value)
    assert len(str(refused.value)) < 150


@pytest.mark.parametrize("name", ["notes", "_", "N0tes", "a" * 63, "SqlStore", "uow", "unit_of_work"])
def test_store_names_are_identifiers(name: str) -> None:
    """A store may be called by any ASCII identifier of at most 63 characters that the library does not keep."""
    assert check_store_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a" * 64,
        "1a",
        "a-b",
        "a b",
        "a\n",
        "é",
        "\u017ftore",  # a long s, which lower() turns into an s
        'a"b',
        "a;--",
        "a.b",
        None,
        7,
        "uow_x",
        "UOW_X",
        "sql",
        "Sql",
        "outbox",
        Old.SQL,
    ],
)
def test_other_store_names_are_refused(name: object) -> None:
    """Anything else, and the library's own names in any case, is refused with a hint."""
    with pytest.raises(UsageError) as refused:
        check_store_name(name)
    assert refused.value.hint


def test_a_store_named_by_an_enum() -> None:
    """A store named by an enum member has the member's value as its name."""
    name = check_store_name(Old.NOTES)
    assert (type(name), f"{name}") == (str, "notes")
